"""What an evaluation finds is known before it, and which way is better."""

import jax
import pytest

from segsiam_jax import inputs
from segsiam_jax.engine import meshes, runs
from segsiam_jax.engine.state import TrainState
from segsiam_jax.errors import UserError
from segsiam_jax.evaluate import Evaluator
from tests.cells import make_config, write_cells
from tests.conftest import make_tiny_config
from tests.siamese_data import make_siamese_config, write_splits


def semantic(root, blobs):
  config = make_tiny_config(blobs)
  config.eval.rand_class = "disc"
  return config


def instance(root, blobs, model="mask_rcnn"):
  write_cells(root / "train", 4, 0)
  write_cells(root / "test", 2, 1)
  config = make_config(root, model)
  config.data.buckets = ("64x96",)
  return config


def boxes(root, blobs):
  return instance(root, blobs, "faster_rcnn")


def siamese(root, blobs):
  config = make_siamese_config(write_splits(root))
  config.eval.folds = 3
  config.eval.fars = (0.1, 1e-6)
  return config


def learned(root, blobs):
  config = make_siamese_config(write_splits(root))
  config.eval.folds = 1
  config.model.head = "learned"
  config.loss.triplet, config.loss.binary = 0.0, 1.0
  config.batch.kind = "pairs"
  return config


@pytest.mark.slow
@pytest.mark.parametrize(
  ("make", "minimal", "neither"),
  [
    (semantic, {"loss", "cross_entropy", "dice"}, {"rand_best_threshold"}),
    (instance, {"left_out"}, set()),
    (boxes, {"left_out"}, set()),
    (
      siamese,
      {"eer", "threshold_far"},
      {"threshold", "verification_accuracy_se"},
    ),
    (learned, {"eer", "threshold_far"}, {"threshold"}),
  ],
)
def test_names_are_those_of_an_evaluation(
  make, minimal, neither, tmp_path, blobs
):
  config = make(tmp_path, blobs)
  config.train.num_pictures = 0
  data = inputs.open_inputs(config, train=False)
  config = inputs.of_evaluation(config, data.source, ())
  task = runs.make_task(config, data.element_spec)
  mesh = meshes.make_mesh()
  evaluator = Evaluator(config, task, data, mesh=mesh)
  names = evaluator.names()
  params, model_state = jax.jit(task.init)(jax.random.key(0))
  state = TrainState(0, params, model_state, (), jax.random.key(0))
  state = jax.device_put(state, meshes.replicated(mesh))
  assert set(names) == set(evaluator(state).metrics)
  assert {name for name in names if names[name] == "min"} >= minimal
  assert {name for name in names if not names[name]} == neither
  for name in minimal | neither:
    config.train.best_metric, config.train.best_mode = name, "max"
    with pytest.raises(UserError, match=r"better"):
      Evaluator(config, task, data, mesh=mesh).check_best_metric()
