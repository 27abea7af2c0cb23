"""Meshes with more axes than that of the rows: the numbers stay the same."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from segsiam_jax import evaluate, train
from segsiam_jax.config import default_config, validate
from segsiam_jax.engine import meshes, runs, steps
from segsiam_jax.engine.state import create_state, make_optimizer
from segsiam_jax.errors import UserError
from tests import step_runs
from tests.conftest import make_tiny_config


@pytest.fixture(scope="module")
def wide_config(blobs):
  """Wide enough that parameters are split, with all that a step can have."""
  config = make_tiny_config(blobs)
  config.optimizer.update(name="momentum", learning_rate=0.02, clip_norm=1.0)
  config.model.update(base_width=16, norm="group")
  # Few pixels: see `plain_config` of test_steps.
  config.data.image_size = (8, 8)
  return config


def sizes_on_device(tree):
  """Bytes of a tree on the first device."""
  return sum(leaf.addressable_shards[0].data.nbytes for leaf in leaves(tree))


def leaves(tree):
  return jax.tree.leaves(tree)


@pytest.mark.parametrize(
  ("fsdp", "space", "options"),
  [
    (4, 1, {"ema_decay": 0.5}),
    (1, 4, {}),
    pytest.param(2, 2, {"grad_accum": 2}, marks=pytest.mark.slow),
  ],
)
def test_numbers_are_those_of_other_devices(wide_config, fsdp, space, options):
  config = wide_config
  # The same rows on a device, as far as can be: sums round alike.
  expected, history, _ = step_runs.train(config, 4 // space, **options)
  state, found, _ = step_runs.train(
    config, 4, fsdp=fsdp, space=space, **options
  )
  for ours, theirs in zip(found, history, strict=True):
    assert ours == pytest.approx(theirs, rel=1e-5)
  step_runs.assert_close(state, expected)
  if fsdp == 4:
    for name in ("params", "opt_state", "ema_params"):
      whole, part = (
        sizes_on_device(getattr(each, name)) for each in (expected, state)
      )
      assert part <= 0.3 * whole, name


@pytest.mark.slow
def test_a_run_resumes_on_another_mesh_and_is_evaluated(tiny_config, tmp_path):
  config = tiny_config
  # Adam makes a step of a rounding error, and ReLU of many pixels does.
  config.data.image_size = (8, 8)
  config.optimizer.update(name="momentum", learning_rate=0.02, clip_norm=1.0)
  config.optimizer.schedule = "constant"
  config.train.num_steps = 5
  calm = config.copy_and_resolve_references()
  calm.train.num_steps = 10
  expected = train.train_and_evaluate(calm, str(tmp_path / "calm"))
  config.mesh.fsdp = 2
  validate(config)
  train.train_and_evaluate(config, str(tmp_path / "run"))
  config.train.num_steps = 10
  config.mesh.update(fsdp=1, space=4)
  state = train.train_and_evaluate(config, str(tmp_path / "run"))
  step_runs.assert_close(state, expected, rtol=1e-3)
  config.mesh.update(fsdp=4, space=1)
  for changes in ({}, {"predict.window": (16, 16)}):
    config.update_from_flattened_dict(changes)
    calm.update_from_flattened_dict(changes)
    one = evaluate.evaluate(calm, str(tmp_path / "run"), "latest")
    two = evaluate.evaluate(config, str(tmp_path / "run"), "latest")
    assert two == pytest.approx(one, rel=1e-5)


def memory(config, shape, fsdp, space, volume=False):
  """Bytes of temporaries of a compiled step on a device."""
  mesh = meshes.make_mesh(jax.devices()[: fsdp * space], fsdp, space)
  rows = 1
  spec = {
    "image": (rows, *shape, 3),
    "label": (rows, *shape),
    "mask": (rows,),
    "index": (rows,),
  }
  dtypes = dict(image=np.uint8, label=np.uint8, mask=np.float32, index=np.int32)
  spec = {
    name: jax.ShapeDtypeStruct(
      size, dtypes[name], sharding=meshes.of_batch(mesh, name, len(size))
    )
    for name, size in spec.items()
  }
  task = runs.make_task(config, spec)
  tx, _ = make_optimizer(config.optimizer, 10)
  state = create_state(
    task, tx, 0, sharding=functools.partial(meshes.of_state, mesh)
  )
  step = steps.make_train_step(task, tx, mesh=mesh)
  return step.lower(state, spec).compile().memory_analysis().temp_size_in_bytes


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(1024, 1024), (16, 128, 128)])
def test_images_that_are_split_take_less_memory(shape):
  config = default_config("semantic", "unet")
  config.data.class_names = ("a", "b")
  config.data.image_size = shape
  config.model.update(depth=2, base_width=8)
  # A gather, whose result the compiler would leave whole on each device.
  config.augment.update(rotate=10.0, elastic_sigma=2.0)
  whole, part = (memory(config, shape, 1, space) for space in (1, 4))
  assert part <= 0.35 * whole


def test_meshes_that_cannot_be():
  with pytest.raises(UserError, match="3 x 1: do not divide 4 devices"):
    meshes.make_mesh(fsdp=3)
  mesh = meshes.make_mesh(space=2)
  meshes.check_batch_size("train.batch_size", 2, mesh)
  with pytest.raises(UserError, match="2 devices do not divide it"):
    meshes.check_batch_size("train.batch_size", 3, mesh)


def test_fields_that_do_not_go_together(tiny_config):
  for changes, words in (
    ({"mesh.space": 2, "backend": "pmap"}, "config.mesh needs 'jit'"),
    ({"mesh.space": 3}, "does not divide data.image_size's height, 32"),
  ):
    config = tiny_config.copy_and_resolve_references()
    config.update_from_flattened_dict(changes)
    with pytest.raises(UserError, match=words):
      validate(config)
  config = default_config("siamese", "conv4")
  config.mesh.space = 2
  with pytest.raises(UserError, match="only images of semantic"):
    validate(config)


@dataclasses.dataclass(frozen=True)
class Device:
  """What a mesh asks of a device."""

  id: int
  process_index: int
  slice_index: int
  platform: str = "cpu"
  device_kind: str = "cpu"


def test_slices_of_a_pod_split_rows():
  """Devices of one slice stay together along the other axes."""
  devices = [Device(number, number // 4, number // 4) for number in range(8)]
  mesh = meshes.make_mesh(devices, fsdp=2, space=2)
  assert dict(mesh.shape) == {"data": 2, "fsdp": 2, "space": 2}
  for row, block in enumerate(mesh.devices):
    assert {device.slice_index for device in block.flat} == {row}


def test_small_and_odd_arrays_are_not_split():
  mesh = meshes.make_mesh(fsdp=4)
  shapes = {"odd": (33, 41), "small": (4, 4), "kernel": (3, 3, 32, 64)}
  state = jax.eval_shape(
    lambda: create_state_like({k: jnp.zeros(v) for k, v in shapes.items()})
  )
  specs = jax.tree.map(
    lambda sharding: tuple(sharding.spec), meshes.of_state(mesh, state).params
  )
  kernel = (None, None, None, "fsdp")
  assert specs == {"odd": (), "small": (), "kernel": kernel}


def create_state_like(params):
  from segsiam_jax.engine.state import TrainState

  tx = optax.sgd(0.1)
  return TrainState(0, params, {}, tx.init(params), jax.random.key(0))
