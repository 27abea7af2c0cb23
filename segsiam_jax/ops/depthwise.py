"""Depthwise convolutions."""

import jax
import jax.numpy as jnp
from jax import lax


def depthwise_conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """Convolves every channel by itself, at stride 1, padded with zeros.

  On a CPU it is a sum of shifted products, as XLA's own takes forty times as
  long there.

  Args:
    x: (B, H, W, C).
    kernel: (h, w, 1, C), h and w odd.

  Returns:
    (B, H, W, C).
  """
  return lax.platform_dependent(x, kernel, cpu=_shifted, default=_direct)


def _direct(x: jax.Array, kernel: jax.Array) -> jax.Array:
  return lax.conv_general_dilated(
    x,
    kernel,
    (1, 1),
    [(length // 2, length // 2) for length in kernel.shape[:2]],
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
    feature_group_count=x.shape[-1],
  )


@jax.custom_vjp
def _shifted(x: jax.Array, kernel: jax.Array) -> jax.Array:
  height, width = kernel.shape[:2]
  padded = _padded(x, kernel)
  return sum(
    padded[:, row : row + x.shape[1], column : column + x.shape[2]]
    * kernel[row, column, 0]
    for row in range(height)
    for column in range(width)
  )


def _padded(x, kernel):
  height, width = kernel.shape[:2]
  return jnp.pad(x, [(0, 0), (height // 2,) * 2, (width // 2,) * 2, (0, 0)])


def _forward(x, kernel):
  return _shifted(x, kernel), (x, kernel)


def _backward(kept, gradient):
  x, kernel = kept
  height, width = kernel.shape[:2]
  padded = _padded(x, kernel)

  def of_row(row):
    shifted = lax.dynamic_slice_in_dim(padded, row, x.shape[1], axis=1)
    return jnp.stack(
      [
        (shifted[:, :, column : column + x.shape[2]] * gradient).sum((0, 1, 2))
        for column in range(width)
      ]
    )

  # A row at a time: compiled in a third of the time of all.
  of_kernel = lax.map(of_row, jnp.arange(height)).reshape(kernel.shape)
  return _shifted(gradient, kernel[::-1, ::-1]), of_kernel


_shifted.defvjp(_forward, _backward)
