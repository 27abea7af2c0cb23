"""One step body, two backends: the numbers must be the same."""

import logging

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from segsiam_jax import inputs
from segsiam_jax.config import validate
from segsiam_jax.engine import meshes, runs, steps
from segsiam_jax.engine.state import create_state, make_optimizer
from segsiam_jax.errors import UserError
from tests.step_runs import STEPS, assert_close, train


@pytest.fixture(scope="module")
def plain_config(blobs):
  """Like `tiny_config`, with momentum, and on few pixels.

  Adam divides small gradients by their own size, which makes an error of
  rounding as large as a step. And where an activation is zero but for
  rounding, ReLU makes a small step of it: the fewer pixels, the rarer.
  """
  from tests.conftest import make_tiny_config

  config = make_tiny_config(blobs)
  config.optimizer.name = "momentum"
  config.optimizer.learning_rate = 0.05
  config.optimizer.clip_norm = 1.0
  config.data.image_size = (8, 8)
  return config


@pytest.fixture(scope="module")
def reference(plain_config):
  return train(plain_config, num_devices=1)


@pytest.mark.parametrize(
  ("num_devices", "backend"),
  [(4, "jit"), (4, "pmap"), (4, "shard_map"), (1, "pmap")],
)
def test_backends_and_device_counts_agree(
  plain_config, reference, num_devices, backend
):
  state, history, _ = train(plain_config, num_devices, backend)
  for ours, theirs in zip(history, reference[1], strict=True):
    assert ours == pytest.approx(theirs, rel=1e-5)
  assert_close(state, reference[0])
  assert int(state.step) == STEPS


@pytest.mark.slow
def test_batch_dice_is_global_under_pmap(plain_config):
  config = plain_config.copy_and_resolve_references()
  config.loss.dice_batch = True
  (jit, *_), (pmap, *_) = train(config, 1), train(config, 4, "pmap")
  assert_close(pmap, jit)


@pytest.mark.slow
def test_backends_agree_on_a_net_with_everything(plain_config):
  config = plain_config.copy_and_resolve_references()
  config.model.update(
    depth=2, block="residual", attention=True, deep_supervision=True
  )
  (jit, *_), (pmap, *_) = train(config, 1), train(config, 4, "pmap")
  assert_close(pmap, jit)


@pytest.mark.slow
def test_parts_of_a_batch_add_up(plain_config):
  """Without batch statistics and randomness, two halves are the whole."""
  config = plain_config.copy_and_resolve_references()
  config.model.norm = "none"
  config.augment.flip_left_right = False
  config.augment.rotate = config.augment.noise = 0.0
  whole, history, _ = train(config, 1)
  for backend in ("jit", "pmap"):
    parts, part_history, _ = train(config, 2, backend, grad_accum=2)
    assert_close(parts, whole)
    for ours, theirs in zip(part_history, history, strict=True):
      assert ours == pytest.approx(theirs, rel=1e-5)


def test_average_of_parameters(plain_config, reference):
  """A small decay keeps little of where they were."""
  first, *_ = train(plain_config, 1, count=0)
  state, *_ = train(plain_config, 1, ema_decay=0.05)
  assert_close(state, reference[0])
  assert state.eval_params is state.ema_params
  start, average, now = (
    np.asarray(params["logits"]["kernel"])
    for params in (first.params, state.ema_params, state.params)
  )
  behind = np.abs(average - now).max()
  assert 0 < behind < 0.1 * np.abs(now - start).max()


def test_frozen_parameters_get_no_gradient(plain_config):
  """Even an optimizer that knows nothing of them leaves them alone."""
  state, history, _ = train(plain_config, 1, frozen="^(?!logits)")
  moved = jax.tree.map(
    lambda leaf: bool((leaf != 0).any()),
    optax.tree.get(state.opt_state, "trace"),
  )
  assert all(jax.tree.leaves(moved.pop("logits")))
  assert not any(jax.tree.leaves(moved))
  assert history[-1]["loss"] < history[0]["loss"]


def test_gradients_are_added_up_in_bfloat16(plain_config, reference):
  state, history, _ = train(
    plain_config, 4, "shard_map", reduce_dtype="bfloat16"
  )
  assert history[0]["loss"] == pytest.approx(reference[1][0]["loss"], rel=1e-5)
  assert history[-1]["loss"] == pytest.approx(
    reference[1][-1]["loss"], rel=0.05
  )
  # Rounded, and so not the same; the state stays float32.
  with pytest.raises(AssertionError):
    assert_close(state, reference[0])
  assert {leaf.dtype for leaf in jax.tree.leaves(state.params)} == {
    jnp.dtype("float32")
  }
  config = plain_config.copy_and_resolve_references()
  config.train.reduce_dtype = "bfloat16"
  with pytest.raises(UserError, match="the compiler adds up under 'jit'"):
    validate(config)


def test_bfloat16_keeps_float32_state_and_learns(plain_config):
  config = plain_config.copy_and_resolve_references()
  config.dtype = "bfloat16"
  state, history, _ = train(config, 1)
  for leaf in jax.tree.leaves((state.params, state.model_state)):
    assert leaf.dtype == jnp.float32
  assert history[-1]["loss"] < history[0]["loss"]


@pytest.mark.slow
def test_one_compilation_of_each_step(tiny_config, caplog):
  mesh = meshes.make_mesh()
  data = inputs.open_inputs(tiny_config, train=True)
  eval_data = inputs.open_inputs(tiny_config, train=False)
  task = runs.make_task(tiny_config, data.element_spec)
  tx, _ = make_optimizer(tiny_config.optimizer, 100)
  state = create_state(task, tx, 0, sharding=meshes.replicated(mesh))
  train_step = steps.make_train_step(task, tx, mesh=mesh)
  eval_step = steps.make_eval_step(task, mesh=mesh)
  with jax.log_compiles(), caplog.at_level(logging.WARNING):
    iterator = iter(data.batches)
    for _ in range(3):
      batch = meshes.to_global(next(iterator), mesh, "jit")
      state, _ = train_step(state, batch)
      so_far = jax.device_put(
        jax.device_get(task.empty_metrics()), meshes.replicated(mesh)
      )
      for rows in eval_data.batches:
        placed = meshes.to_global(rows, mesh, "jit")
        so_far, _ = eval_step(state, placed, so_far)
    iterator.close()
  messages = [record.getMessage() for record in caplog.records]
  for name in ("train_step", "eval_step"):
    # In the words of JAX 0.10 and 0.12.
    compiled = [text for text in messages if f"Compiling jit({name})" in text]
    assert len(compiled) == 1, messages
  # Every test image counts once: padding rows do not.
  assert int(so_far[""].counts.sum()) == 5 * 32 * 32
