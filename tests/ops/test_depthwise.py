"""Depthwise convolutions against a loop in NumPy, and XLA's own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segsiam_jax.ops import depthwise
from segsiam_jax.ops.depthwise import depthwise_conv


def slow(x, kernel):
  height, width = kernel.shape[:2]
  out = np.zeros(x.shape)
  for b, y, z, c in np.ndindex(*x.shape):
    for i, j in np.ndindex(height, width):
      row, column = y + i - height // 2, z + j - width // 2
      if 0 <= row < x.shape[1] and 0 <= column < x.shape[2]:
        out[b, y, z, c] += x[b, row, column, c] * kernel[i, j, 0, c]
  return out


@pytest.mark.parametrize("size", [(7, 7), (3, 5)])
def test_values_and_gradients(rng, size):
  x = rng.normal(size=(2, 5, 6, 3)).astype(np.float32)
  kernel = rng.normal(size=(*size, 1, 3)).astype(np.float32)
  weights = rng.normal(size=x.shape).astype(np.float32)
  out, back = jax.vjp(depthwise_conv, x, kernel)
  expected, expected_back = jax.vjp(depthwise._direct, x, kernel)
  np.testing.assert_allclose(out, slow(x, kernel), atol=1e-5)
  np.testing.assert_allclose(out, expected, atol=1e-5)
  for one, other in zip(back(weights), expected_back(weights), strict=True):
    np.testing.assert_allclose(one, other, atol=1e-4)


def test_compute_dtype():
  x = jnp.ones((1, 4, 4, 2), jnp.bfloat16)
  assert depthwise_conv(x, jnp.ones((3, 3, 1, 2), x.dtype)).dtype == x.dtype
