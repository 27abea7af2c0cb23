import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segsiam_jax.config import default_config
from segsiam_jax.engine.state import (
  decayed,
  frozen_parameters,
  make_optimizer,
  make_schedule,
)
from segsiam_jax.errors import UserError


@pytest.fixture
def optimizer():
  return default_config("semantic", "unet").optimizer


def rates(optimizer, total, **changes):
  with optimizer.ignore_type():
    optimizer.update(changes)
  schedule = make_schedule(optimizer, total)
  return np.array([float(schedule(step)) for step in range(total + 1)])


def test_constant_with_warm_up(optimizer):
  values = rates(optimizer, 10, schedule="constant", warmup_steps=4)
  np.testing.assert_allclose(
    values[:6] / 1e-3, [0.25, 0.5, 0.75, 1, 1, 1], rtol=1e-6
  )


def test_cosine(optimizer):
  values = rates(
    optimizer, 20, schedule="cosine", warmup_steps=4, end_factor=0.1
  )
  steps = np.arange(4, 21)
  cosine = 0.5 * (1 + np.cos(np.pi * (steps - 4) / 16))
  expected = 1e-3 * (0.1 + 0.9 * cosine)
  np.testing.assert_allclose(values[4:], expected, rtol=1e-5)


def test_polynomial(optimizer):
  values = rates(optimizer, 10, schedule="polynomial", power=0.9)
  expected = 1e-3 * (1 - np.arange(11) / 10) ** 0.9
  np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-9)


def test_step_drops_at_fractions_of_all_steps(optimizer):
  values = rates(
    optimizer,
    10,
    schedule="step",
    step_boundaries=(0.5, 0.8),
    step_factor=0.1,
    warmup_steps=2,
  )
  np.testing.assert_allclose(
    values[[2, 4, 5, 7, 8]] / 1e-3, [1, 1, 0.1, 0.1, 0.01], rtol=1e-4
  )


@pytest.mark.parametrize(
  ("boundaries", "expected"),
  [
    # Of ten steps, both of the first two are step 6.
    ((0.55, 0.6), {5: 1, 6: 0.01, 10: 0.01}),
    ((0.5, 0.5), {4: 1, 5: 0.01}),
    ((0.5, 0.5, 0.52, 0.8), {4: 1, 5: 1e-3, 7: 1e-3, 8: 1e-4}),
    ((0.0, 0.0), {0: 0.01, 10: 0.01}),
  ],
)
def test_boundaries_of_one_step_drop_as_often(optimizer, boundaries, expected):
  values = rates(
    optimizer,
    10,
    schedule="step",
    step_boundaries=boundaries,
    step_factor=0.1,
  )
  found = values[list(expected)] / 1e-3
  np.testing.assert_allclose(found, list(expected.values()), rtol=1e-4)


def test_weight_decay_is_for_kernels():
  params = {
    "conv": {"kernel": jnp.ones((3, 3, 1, 2)), "bias": jnp.ones(2)},
    "norm": {"scale": jnp.ones(2)},
  }
  assert decayed(params) == {
    "conv": {"kernel": True, "bias": False},
    "norm": {"scale": False},
  }


@pytest.mark.parametrize("name", ["sgd", "momentum", "adamw", "lamb"])
def test_optimizers_go_downhill_and_decay_kernels_alone(optimizer, name):
  optimizer.update(
    name=name, learning_rate=0.1, weight_decay=0.1, schedule="constant"
  )
  tx, _ = make_optimizer(optimizer, 10)
  params = {"kernel": jnp.full((2, 2), 3.0), "bias": jnp.full((2,), 3.0)}
  opt_state = tx.init(params)
  zeros = jax.tree.map(jnp.zeros_like, params)
  updates, _ = tx.update(zeros, opt_state, params)
  assert (updates["kernel"] < 0).all()
  np.testing.assert_array_equal(updates["bias"], 0)
  updates, _ = tx.update(params, opt_state, params)
  assert (updates["bias"] < 0).all()


def test_gradient_is_clipped_by_its_global_norm(optimizer):
  optimizer.update(
    name="sgd", learning_rate=1.0, clip_norm=1.0, schedule="constant"
  )
  tx, _ = make_optimizer(optimizer, 10)
  params = {"a": jnp.zeros((2, 2)), "b": jnp.zeros(3)}
  grads = {"a": jnp.full((2, 2), 3.0), "b": jnp.full(3, 4.0)}
  updates, _ = tx.update(grads, tx.init(params), params)
  flat = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(updates)])
  np.testing.assert_allclose(np.linalg.norm(flat), 1.0, rtol=1e-5)


LAYERS = {
  "tower": {"conv": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}},
  "head": {"kernel": jnp.ones((2, 2))},
}


@pytest.mark.parametrize("name", ["momentum", "adamw", "lamb"])
def test_frozen_parameters_neither_learn_nor_decay(optimizer, name):
  optimizer.update(name=name, weight_decay=0.1, frozen="^tower/", clip_norm=1.0)
  tx, _ = make_optimizer(optimizer, 10)
  opt_state = tx.init(LAYERS)
  for _ in range(2):
    updates, opt_state = tx.update(LAYERS, opt_state, LAYERS)
    np.testing.assert_array_equal(updates["tower"]["conv"]["kernel"], 0)
    np.testing.assert_array_equal(updates["tower"]["conv"]["bias"], 0)
    assert (updates["head"]["kernel"] < 0).all()
  kept = [leaf.shape for leaf in jax.tree.leaves(opt_state)]
  assert (2, 2) in kept
  assert (2,) not in kept


def test_clipping_looks_at_what_learns(optimizer):
  optimizer.update(
    name="sgd",
    learning_rate=1.0,
    schedule="constant",
    clip_norm=1.0,
    frozen="tower",
  )
  tx, _ = make_optimizer(optimizer, 10)
  huge = jax.tree.map(lambda leaf: leaf, LAYERS) | {
    "tower": jax.tree.map(lambda leaf: 100 * leaf, LAYERS["tower"])
  }
  updates, _ = tx.update(huge, tx.init(LAYERS), LAYERS)
  np.testing.assert_allclose(updates["head"]["kernel"], -0.5)


def test_rates_by_layer(optimizer):
  with optimizer.ignore_type():
    optimizer.update(
      name="sgd",
      learning_rate=1.0,
      schedule="constant",
      rate_scales=("bias$=0.5", "^tower/=0.1"),
    )
  tx, _ = make_optimizer(optimizer, 10)
  updates, _ = tx.update(LAYERS, tx.init(LAYERS), LAYERS)
  np.testing.assert_allclose(updates["tower"]["conv"]["bias"], -0.5)
  np.testing.assert_allclose(updates["tower"]["conv"]["kernel"], -0.1)
  np.testing.assert_allclose(updates["head"]["kernel"], -1.0)


def test_patterns_that_match_nothing_are_told(optimizer):
  with pytest.raises(UserError, match="'towr' matches no .* head/kernel"):
    frozen_parameters(LAYERS, "towr")
  with pytest.raises(UserError, match="matches every parameter"):
    frozen_parameters(LAYERS, "kernel|bias")
  with optimizer.ignore_type():
    optimizer.update(rate_scales=("towr=0.1",))
  tx, _ = make_optimizer(optimizer, 10)
  with pytest.raises(UserError, match="rate_scales: 'towr' matches no"):
    tx.update(LAYERS, tx.init(LAYERS), LAYERS)
