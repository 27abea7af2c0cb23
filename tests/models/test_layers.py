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
