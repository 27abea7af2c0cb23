"""A batch in parts has the loss and the gradient of the whole batch."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from segsiam_jax import config as config_lib
from segsiam_jax import inputs
from segsiam_jax.engine import meshes, runs, steps
from segsiam_jax.engine.state import create_state
from segsiam_jax.errors import UserError
from segsiam_jax.fields.siamese_losses import LOSSES as SIAMESE_LOSSES
from segsiam_jax.metrics.base import compute_all, widen
from tests.cells import make_config, write_cells
from tests.conftest import make_tiny_config
from tests.siamese_data import make_siamese_config, write_splits


def first_batch(config):
  data = inputs.open_inputs(config, train=True)
  iterator = iter(data.batches)
  batch = {name: np.copy(rows) for name, rows in next(iterator).items()}
  iterator.close()
  return data.element_spec, batch


def gradient(config, spec, batch, parts, backend="jit", devices=1):
  """(what SGD with rate 1 subtracts, the metrics) of one step."""
  config = config.copy_and_resolve_references()
  config.backend = backend
  mesh = meshes.make_mesh(jax.devices()[:devices])
  task = runs.make_task(config, spec)
  tx = optax.sgd(1.0)
  state = create_state(task, tx, 0, sharding=meshes.replicated(mesh))
  before = jax.device_get(state.params)
  step = steps.make_train_step(
    task, tx, mesh=mesh, backend=backend, grad_accum=parts
  )
  state, metrics = step(state, meshes.to_global(batch, mesh, backend))
  grads = jax.tree.map(lambda a, b: a - b, before, jax.device_get(state.params))
  return grads, compute_all(widen(metrics))


def assert_same(ours, whole):
  norm = optax.tree.norm(whole[0])
  assert norm > 0
  error = optax.tree.norm(jax.tree.map(jnp.subtract, ours[0], whole[0]))
  assert error < 1e-4 * norm
  assert ours[1] == pytest.approx(whole[1], rel=1e-4, abs=1e-6)


@pytest.fixture(scope="module")
def semantic(blobs):
  """Every loss at once, of images with unlike numbers of valid pixels."""
  config = make_tiny_config(blobs)
  config.data.image_size = (8, 8)
  config.model.update(depth=2, norm="none", deep_supervision=True)
  config.loss.update(
    cross_entropy=1.0,
    focal=0.7,
    dice=0.5,
    jaccard=0.3,
    tversky=0.9,
    lovasz=0.4,
    class_weights=(0.3, 1.7),
    label_smoothing=0.1,
    hardest_fraction=0.6,
  )
  spec, batch = first_batch(config)
  random = np.random.default_rng(0)
  batch["label"] = random.integers(0, 2, batch["label"].shape, np.uint8)
  for row in range(8):
    batch["label"][row, : row % 5] = 255
  batch["label"][1] = 255
  batch["mask"][2] = 0
  return (config, spec, batch), gradient(config, spec, batch, 1)


@pytest.mark.slow
@pytest.mark.parametrize("way", [(4,), (2, "pmap", 2), (2, "shard_map", 2)])
def test_every_semantic_loss(semantic, way):
  run, whole = semantic
  assert_same(gradient(*run, *way), whole)


@pytest.mark.parametrize("name", ["dice", "jaccard", "tversky"])
def test_counts_of_a_whole_batch_are_refused(tiny_config, name):
  tiny_config.loss.dice = 0.0
  tiny_config.loss[name] = 1.0
  tiny_config.loss.dice_batch = True
  config_lib.validate(tiny_config)
  tiny_config.train.grad_accum = 2
  with pytest.raises(
    UserError, match=r"config\.train\.grad_accum.*loss\.dice_batch"
  ):
    config_lib.validate(tiny_config)


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
  root = tmp_path_factory.mktemp("cells")
  write_cells(root / "train", 8, 0)
  write_cells(root / "test", 2, 1)
  return root


def objects(cells, model):
  """A detector without batch norm; images with 3, 1, 0 and 2 objects."""
  config = make_config(cells, model)
  config.data.buckets = ("64x96",)
  config.model.norm = "group"
  config.augment.noise, config.augment.contrast = 0.05, (0.5, 1.5)
  config.loss.roi_box = 0.5
  if model == "mask_rcnn":
    config.loss.mask = 2.0
  spec, batch = first_batch(config)
  batch["valid"][0] = [True] * 3 + [False]
  batch["valid"][1] = [True] + [False] * 3
  batch["valid"][2] = False
  batch["valid"][3] = [True] * 2 + [False] * 2
  return config, spec, batch


@pytest.mark.slow
def test_a_detector_with_masks(cells):
  run = objects(cells, "mask_rcnn")
  whole = gradient(*run, 1)
  for way in ((2,), (4,), (2, "pmap", 2), (2, "shard_map", 2)):
    assert_same(gradient(*run, *way), whole)


@pytest.mark.slow
def test_a_detector_without_masks_and_a_padding_row(cells):
  config, spec, batch = objects(cells, "faster_rcnn")
  batch["mask"][1] = 0
  run = config, spec, batch
  assert_same(gradient(*run, 2), gradient(*run, 1))


@pytest.mark.parametrize("name", SIAMESE_LOSSES)
def test_siamese_batches_stay_whole(tmp_path, name):
  config = make_siamese_config(write_splits(tmp_path))
  config.loss.triplet = 0.0
  config.loss[name] = 1.0
  if name == "binary":
    config.batch.kind, config.model.head = "pairs", "learned"
  if name == "prototypical":
    config.batch.update(kind="episodes", ways=2, shots=1, queries=1)
  config_lib.validate(config)
  config.train.grad_accum = 2
  with pytest.raises(UserError, match=r"config\.train\.grad_accum.*whole"):
    config_lib.validate(config)
