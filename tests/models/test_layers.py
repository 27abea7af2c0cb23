import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segsiam_jax.models import layers


@pytest.mark.parametrize("size", [(8, 8), (7, 9), (2, 3)])
def test_max_pool_equals_flax(rng, size):
  x = jnp.asarray(rng.normal(size=(2, *size, 3)), jnp.float32)
  ours = layers.max_pool_2x2
  theirs = lambda x: nn.max_pool(x, (2, 2), (2, 2), "VALID")  # noqa: E731
  np.testing.assert_array_equal(ours(x), theirs(x))
  weights = jnp.asarray(rng.normal(size=ours(x).shape), jnp.float32)
  grads = [
    jax.grad(lambda x, f=f: (f(x) * weights).sum())(x) for f in (ours, theirs)
  ]
  np.testing.assert_array_equal(*grads)


@pytest.mark.parametrize("size", [(8, 8), (7, 10), (1, 3)])
def test_max_pool_3x3_equals_flax(rng, size):
  x = jnp.asarray(rng.normal(-5, 1, size=(2, *size, 3)), jnp.float32)
  ours = layers.max_pool_3x3
  pads = ((1, 1), (1, 1))
  theirs = lambda x: nn.max_pool(x, (3, 3), (2, 2), pads)  # noqa: E731
  np.testing.assert_array_equal(ours(x), theirs(x))
  weights = jnp.asarray(rng.normal(size=ours(x).shape), jnp.float32)
  grads = [
    jax.grad(lambda x, f=f: (f(x) * weights).sum())(x) for f in (ours, theirs)
  ]
  np.testing.assert_allclose(*grads, atol=1e-6)


def test_frozen_norm_is_an_affine_map_without_parameters(rng):
  norm = layers.make_norm(
    "frozen", True, dtype=jnp.float32, axis_name=None, epsilon=1e-3
  )()
  x = jnp.asarray(rng.normal(size=(2, 3, 3, 4)), jnp.float32)
  variables = norm.init(jax.random.key(0), x)
  assert set(variables) == {"batch_stats"}
  stats = {
    name: jnp.asarray(rng.uniform(0.5, 2, 4), jnp.float32)
    for name in variables["batch_stats"]
  }
  y, state = norm.apply({"batch_stats": stats}, x, mutable=["batch_stats"])
  expected = (x - stats["mean"]) / np.sqrt(stats["var"] + 1e-3)
  expected = expected * stats["scale"] + stats["bias"]
  np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)
  np.testing.assert_array_equal(state["batch_stats"]["mean"], stats["mean"])


class PartialNorm(nn.Module):
  axis_name: str | None = None

  @nn.compact
  def __call__(self, x, where):
    norm = layers.make_norm(
      "batch", True, dtype=jnp.float32, axis_name=self.axis_name, where=where
    )
    return norm(name="bn")(x)


def test_batch_norm_of_some_rows_is_that_of_these_rows(rng):
  x = jnp.asarray(rng.normal(2, 3, size=(6, 3, 3, 4)), jnp.float32)
  where = jnp.array([1, 1, 1, 1, 0, 0])
  whole = layers.make_norm("batch", True, dtype=jnp.float32, axis_name=None)()
  variables = whole.init(jax.random.key(0), x)
  expected, state = whole.apply(variables, x[:4], mutable=["batch_stats"])
  variables = {kind: {"bn": leaf} for kind, leaf in variables.items()}
  y, new = PartialNorm().apply(variables, x, where, mutable=["batch_stats"])
  np.testing.assert_allclose(y[:4], expected, atol=1e-5)
  for name, value in state["batch_stats"].items():
    np.testing.assert_allclose(new["batch_stats"]["bn"][name], value, atol=1e-5)
  # Of two devices one has three such rows and the other one.
  y, _ = jax.pmap(
    lambda *row: PartialNorm("data").apply(
      variables, *row, mutable=["batch_stats"]
    ),
    axis_name="data",
    devices=jax.devices()[:2],
  )(x.reshape(2, 3, *x.shape[1:]), where.reshape(2, 3))
  np.testing.assert_allclose(y.reshape(x.shape)[:4], expected, atol=1e-5)


def test_batch_norm_of_no_rows_changes_nothing(rng):
  x = jnp.asarray(rng.normal(2, 3, size=(2, 3, 3, 4)), jnp.float32)
  variables = PartialNorm().init(jax.random.key(0), x, jnp.zeros(2))
  y, state = PartialNorm().apply(
    variables, x, jnp.zeros(2), mutable=["batch_stats"]
  )
  assert jnp.isfinite(y).all()
  for name, value in variables["batch_stats"]["bn"].items():
    np.testing.assert_array_equal(state["batch_stats"]["bn"][name], value)


@pytest.mark.parametrize("factors", [(2, 2), (2, 2, 2), (1, 2, 2), (3, 1)])
def test_up_conv_equals_flax_transposed_convolution(rng, factors):
  n = len(factors)
  x = jnp.asarray(rng.normal(size=(2, 5, 6, 3, 8)), jnp.float32)
  x = x[:, 0] if n == 2 else x
  theirs = nn.ConvTranspose(4, factors, factors)
  variables = theirs.init(jax.random.key(0), x)
  kernel = variables["params"]["kernel"]  # (*factors, in, out)
  bias = jnp.asarray(rng.normal(size=4), jnp.float32)
  # Flax slides the kernel unflipped over the dilated input: flip it back.
  flat = jnp.moveaxis(jnp.flip(kernel, range(n)), n, 0).reshape(8, -1)
  expected = theirs.apply({"params": {"kernel": kernel, "bias": bias}}, x)
  ours = layers.UpConv(4, factors).apply(
    {"params": {"conv": {"kernel": flat}, "bias": bias}}, x
  )
  np.testing.assert_allclose(ours, expected, atol=1e-5)


def test_max_pool_of_some_axes_of_a_volume(rng):
  x = jnp.asarray(rng.normal(size=(2, 5, 6, 7, 3)), jnp.float32)
  expected = nn.max_pool(x, (2, 2, 2), (2, 2, 2), "VALID")
  np.testing.assert_array_equal(layers.max_pool_axes(x, (1, 2, 3)), expected)
  expected = nn.max_pool(x, (1, 2, 2), (1, 2, 2), "VALID")
  np.testing.assert_array_equal(layers.max_pool_axes(x, (2, 3)), expected)


@pytest.mark.parametrize("channels", [1, 6, 32, 48])
def test_group_norm_takes_any_channel_count(rng, channels):
  norm = layers.make_norm("group", True, dtype=jnp.float32, axis_name=None)
  x = jnp.asarray(rng.normal(2, 3, size=(2, 4, 4, channels)), jnp.float32)
  y, _ = norm().init_with_output(jax.random.key(0), x)
  assert y.shape == x.shape
  np.testing.assert_allclose(y.mean(), 0, atol=1e-4)


def test_pad_to_multiple_repeats_the_edge():
  x = jnp.arange(6.0).reshape(1, 2, 3, 1)
  padded = layers.pad_to_multiple(x, 4)
  assert padded.shape == (1, 4, 4, 1)
  np.testing.assert_array_equal(padded[0, :, 3, 0], [2, 5, 5, 5])
  volume = jnp.zeros((2, 3, 5, 6, 1))
  assert layers.pad_to_multiple(volume, (1, 4, 8)).shape == (2, 3, 8, 8, 1)
