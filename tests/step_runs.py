"""A few steps of a config, on devices and backends of choice."""

import functools

import jax
import jax.numpy as jnp

from segsiam_jax import inputs
from segsiam_jax.engine import meshes, runs, steps
from segsiam_jax.engine.state import create_state, make_optimizer
from segsiam_jax.metrics.base import compute_all, widen

STEPS = 5


def train(
  config,
  num_devices,
  backend="jit",
  count=STEPS,
  grad_accum=1,
  ema_decay=0.0,
  frozen="",
  fsdp=1,
  space=1,
  reduce_dtype="float32",
):
  """State and metrics after a few steps on `num_devices`."""
  config = config.copy_and_resolve_references()
  config.backend = backend
  mesh = meshes.make_mesh(jax.devices()[:num_devices], fsdp, space)
  data = inputs.open_inputs(config, train=True)
  task = runs.make_task(config, data.element_spec)
  tx, _ = make_optimizer(config.optimizer, 100)
  state = create_state(
    task,
    tx,
    seed=0,
    ema=ema_decay > 0,
    sharding=functools.partial(meshes.of_state, mesh),
  )
  step = steps.make_train_step(
    task,
    tx,
    mesh=mesh,
    backend=backend,
    grad_accum=grad_accum,
    ema_decay=ema_decay,
    frozen=frozen,
    reduce_dtype=reduce_dtype,
  )
  iterator, history = iter(data.batches), []
  for _ in range(count):
    batch = meshes.to_global(next(iterator), mesh, backend)
    state, metrics = step(state, batch)
    history.append(compute_all(widen(metrics)))
  iterator.close()
  return state, history, step


def assert_close(actual, expected, rtol=1e-5):
  """Relative to each array's size: a zero has no relative error."""

  def check(path, a, b):
    scale = max(float(jnp.abs(b).max()), 1e-3)
    worst = float(jnp.abs(a - b).max()) / scale
    assert worst <= rtol, f"{jax.tree_util.keystr(path)}: {worst:.2e}"

  a, b = (
    jax.device_get((state.params, state.model_state))
    for state in (actual, expected)
  )
  jax.tree_util.tree_map_with_path(check, a, b)
