"""NaN and infinity: neither saved, nor resumed from, nor scored."""

import logging
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segsiam_jax import evaluate, inputs, predict, train
from segsiam_jax.engine import meshes, runs
from segsiam_jax.engine.checkpoint import Checkpointer
from segsiam_jax.engine.finite import not_finite
from segsiam_jax.engine.state import create_state, make_optimizer
from segsiam_jax.errors import UserError
from segsiam_jax.evaluate import Evaluation, Evaluator
from segsiam_jax.models.mask_rcnn import MaskRCNN
from segsiam_jax.tasks.detections import Found
from segsiam_jax.tasks.siamese_metrics import require_finite_rows
from tests.cells import SMALL, make_config, write_cells
from tests.conftest import make_tiny_config
from tests.siamese_data import make_siamese_config, write_splits


def saved_steps(workdir):
  with Checkpointer(workdir) as saved:
    return sorted(saved._manager.all_steps())


def test_arrays_that_are_not_finite_are_named():
  tree = {
    "a": jnp.zeros((2, 3)),
    "b": {"c": jnp.array([1.0, jnp.inf], jnp.bfloat16)},
    "d": jnp.array(3),
    "e": jnp.array(jnp.nan),
    "rng": jax.random.key(0),
  }
  assert not_finite(tree) == ["b/c", "e"]
  assert not_finite({"d": tree["d"]}) == []


@pytest.fixture
def plain(tiny_config):
  """Gradient descent without norms, saved after every step."""
  tiny_config.model.norm = "none"
  tiny_config.optimizer.name = "sgd"
  tiny_config.optimizer.schedule = "constant"
  tiny_config.train.num_pictures = 0
  tiny_config.train.checkpoint_every = 1
  return tiny_config


@pytest.mark.slow
def test_a_run_that_diverges_leaves_no_bad_checkpoint(plain, tmp_path):
  """Its first step has a finite loss, and weights that give none."""
  plain.optimizer.learning_rate = 1e30
  with pytest.raises(UserError, match="lower .*running again starts anew"):
    train.train_and_evaluate(plain, str(tmp_path))
  assert saved_steps(tmp_path) == []
  plain.optimizer.learning_rate = 1e-2
  plain.train.num_steps = 2
  state = train.train_and_evaluate(plain, str(tmp_path))
  assert int(state.step) == 2
  assert saved_steps(tmp_path) == [1, 2]


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jit", "pmap"])
def test_a_rerun_goes_on_from_the_last_good_checkpoint(
  plain, tmp_path, backend
):
  plain.backend = backend
  plain.optimizer.learning_rate = 1e-2
  plain.train.num_steps = 2
  train.train_and_evaluate(plain, str(tmp_path))
  plain.train.num_steps = 6
  plain.optimizer.learning_rate = 1e30
  with pytest.raises(UserError, match="continues from step 2, the last good"):
    train.train_and_evaluate(plain, str(tmp_path))
  assert saved_steps(tmp_path)[-1] == 2
  plain.optimizer.learning_rate = 1e-2
  state = train.train_and_evaluate(plain, str(tmp_path))
  assert int(state.step) == 6
  assert not_finite(state.weights) == []


def test_weights_that_a_finite_loss_hides_are_not_saved(
  plain, tmp_path, monkeypatch
):
  """The loss knows nothing of them, as of a class that no image shows."""
  create = train.create_state

  def spoilt(*args, **kwargs):
    state = create(*args, **kwargs)
    unused = {"unused": jnp.array([jnp.nan])}
    return state.replace(model_state=state.model_state | {"extra": unused})

  monkeypatch.setattr(train, "create_state", spoilt)
  with pytest.raises(UserError, match="NaN or infinity in model_state/extra"):
    train.train_and_evaluate(plain, str(tmp_path))
  assert saved_steps(tmp_path) == []


@pytest.mark.parametrize("name", ["semantic", "siamese"])
def test_a_run_of_nan_ends_at_its_first_line(
  name, tmp_path, blobs, monkeypatch
):
  config, _ = of_task(name, tmp_path / "data", blobs)
  config.train.update(num_steps=3, log_every=1, num_pictures=0)
  config.train.update(checkpoint_every=3, eval_every=3)
  create = train.create_state

  def spoilt(*args, **kwargs):
    state = create(*args, **kwargs)
    return state.replace(
      params=jax.tree.map(lambda leaf: leaf * jnp.nan, state.params)
    )

  monkeypatch.setattr(train, "create_state", spoilt)
  with pytest.raises(UserError, match="(nan|NaN or infinity in .*) at step 1;"):
    train.train_and_evaluate(config, str(tmp_path / "run"))
  assert saved_steps(tmp_path / "run") == []
  assert (tmp_path / "run/metrics.jsonl").read_text() == ""


def spoil(workdir, config, step):
  """Saves a checkpoint of NaN, as earlier versions did."""
  task_data = inputs.open_inputs(config, train=True)
  config = inputs.of_evaluation(config, task_data.source, ())
  task = runs.make_task(config, task_data.element_spec)
  tx, _ = make_optimizer(config.optimizer, config.train.num_steps)
  sharding = meshes.replicated(meshes.make_mesh())
  state = create_state(task, tx, config.seed, sharding=sharding)
  state = state.replace(
    step=jax.device_put(jnp.int32(step), sharding),
    params=jax.tree.map(lambda leaf: leaf * jnp.nan, state.params),
  )
  iterator = iter(task_data.batches)
  with Checkpointer(workdir) as saved:
    saved.save(step, state, iterator, metrics={}, meta={"evaluated": True})
    saved.wait()
  iterator.close()
  runs.save_config(config, str(workdir))
  return config


def test_a_bad_checkpoint_is_passed_over(plain, tmp_path, caplog):
  plain.optimizer.learning_rate = 1e-2
  plain.train.num_steps = 2
  train.train_and_evaluate(plain, str(tmp_path))
  calm = tmp_path.with_name("calm")
  shutil.copytree(tmp_path, calm)
  plain.train.num_steps = 4
  expected = train.train_and_evaluate(plain, str(calm))
  spoil(tmp_path, plain, 3)
  with caplog.at_level(logging.WARNING):
    state = train.train_and_evaluate(plain, str(tmp_path))
  assert "checkpoint of step 3: NaN or infinity in params/" in caplog.text
  jax.tree.map(np.testing.assert_array_equal, state.params, expected.params)


def of_task(name, root, blobs):
  if name == "semantic":
    config = make_tiny_config(blobs)
    config.train.best_metric = ""
    return config, blobs / "test/images"
  if name == "instance":
    write_cells(root / "train", 4, 0)
    write_cells(root / "test", 2, 1)
    config = make_config(root)
    config.data.buckets = ("64x96",)
    return config, root / "test/images"
  config = make_siamese_config(write_splits(root))
  config.train.best_metric = ""
  return config, root / "test/b0"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["semantic", "instance", "siamese"])
def test_weights_of_nan_are_refused_by_name(name, tmp_path, blobs):
  config, files = of_task(name, tmp_path / "data", blobs)
  workdir = tmp_path / "run"
  config = spoil(workdir, config, 3)
  message = "checkpoints/3: NaN or infinity in params/.* more arrays"
  with pytest.raises(UserError, match=message):
    evaluate.evaluate(config, str(workdir))
  with pytest.raises(UserError, match=message):
    predict.predict(config, str(workdir), [str(files)], str(tmp_path / "out"))


def test_a_run_does_not_start_with_weights_of_nan(plain, tmp_path):
  spoil(tmp_path / "run", plain, 3)
  plain.train.best_metric = ""
  plain.init_from = str(tmp_path / "run")
  with pytest.raises(UserError, match="run: NaN or infinity in params/"):
    train.train_and_evaluate(plain, str(tmp_path / "other"))


def test_embeddings_that_are_not_finite_have_no_score():
  rows = np.ones((3, 4), np.float32)
  require_finite_rows(rows)
  rows[1, 2] = np.nan
  with pytest.raises(UserError, match="1 of 3 images are not finite .first: 1"):
    require_finite_rows(rows)


@pytest.mark.slow
def test_a_detector_of_nan_finds_something_wrong_and_not_nothing():
  model = MaskRCNN(**SMALL)
  images, sizes = jnp.zeros((2, 64, 64, 3)), jnp.full((2, 2), 64)
  variables = jax.jit(model.init)(jax.random.key(0), images, sizes)
  variables["params"]["box_head"] = jax.tree.map(
    lambda leaf: leaf * jnp.nan, variables["params"]["box_head"]
  )
  found = jax.device_get(jax.jit(model.apply)(variables, images, sizes))
  assert np.isnan(found["scores"]).all()
  row = {name: values[0] for name, values in found.items()}
  with pytest.raises(UserError, match="outputs are NaN or infinite"):
    Found.of(row, (64, 64), (64, 64))


def test_evaluations_that_are_not_finite_are_told(
  plain, tmp_path, monkeypatch, caplog
):
  plain.optimizer.learning_rate = 1e-2
  plain.train.num_steps = 1
  monkeypatch.setattr(
    Evaluator,
    "__call__",
    lambda *args: Evaluation({"loss": np.nan, "mean_iou": 0.5}, [], {}),
  )
  with caplog.at_level(logging.INFO):
    train.train_and_evaluate(plain, str(tmp_path))
  assert "warning at step 1: loss is nan" in caplog.text
  assert "mean_iou is" not in caplog.text
