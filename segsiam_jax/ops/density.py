"""Nonlinear normalisation of characters: ink spread evenly.

What recognisers of handwriting do so that strokes of different people come to
the same places: where rows or columns hold much ink they are stretched, where
they hold little they are squeezed (Tsukumo & Tanaka, "Classification of
handprinted Chinese characters using nonlinear normalization and correlation
methods", ICPR 1988; Yamada et al., Pattern Recognition 23(9), 1990).
"""

import jax
import jax.numpy as jnp
import numpy as np

from segsiam_jax.ops.shapes import check_integer, check_shapes

# Standard deviation of the smoothing of densities, of the image's side.
_SMOOTH = 3 / 64


def equalize(
  images: jax.Array,
  size: tuple[int, int],
  *,
  floor: float = 0.25,
  power: float = 0.7,
) -> jax.Array:
  """Resamples rows and columns so that each shows as much ink as any other.

  The new coordinate of a row is the cumulative sum of `ink^power`, smoothed
  and of mean 1, plus `floor`; of columns likewise. Each new pixel averages two
  by two linear samples.

  Args:
    images: (B, H, W, C) float, zero where there is no ink.
    size: (height, width) of the result.
    floor: share of coordinates that do not move with the ink.
    power: below 1, much ink counts less.

  Returns:
    (B, *size, C) float32. What has no ink is resized.

  Raises:
    ValueError: images of another shape, or without rows or columns; a size
      below 1.
  """
  check_shapes(images=(images, "B H+ W+ C"))
  height, width = (check_integer("size", length, 1) for length in size)
  images = jnp.asarray(images, jnp.float32)

  def of_one(image):
    ink = jnp.sum(jnp.maximum(image, 0.0), axis=-1)
    rows = _weights(jnp.sum(ink, axis=1), height, floor, power)
    columns = _weights(jnp.sum(ink, axis=0), width, floor, power)
    return jnp.einsum(
      "yh,hwc,xw->yxc",
      rows,
      image,
      columns,
      precision=jax.lax.Precision.HIGHEST,
    )

  return jax.vmap(of_one)(images)


def _weights(
  ink: jax.Array, count: int, floor: float, power: float
) -> jax.Array:
  """(count, n): how the old rows make the new ones."""
  length = ink.shape[0]
  # No gradient: a power below 1 has none at 0, and rows are data.
  ink = jax.lax.stop_gradient(ink) ** jnp.float32(power)
  ink = jnp.matmul(_smoothing(length), ink, precision=jax.lax.Precision.HIGHEST)
  mean = jnp.mean(ink)
  ink = jnp.where(mean > 0, ink / jnp.where(mean > 0, mean, 1.0), 1.0)
  ink += jnp.float32(floor)
  ends = jnp.cumsum(ink)
  wanted = (np.arange(2 * count, dtype=np.float32) + 0.5) / (2 * count)
  wanted *= ends[-1]
  # The old row that holds each new one, and where in it; no search, which is
  # slow in a batch.
  row = jnp.sum(ends <= wanted[:, None], axis=1)
  places = row.astype(jnp.float32) + 0.5 - (ends[row] - wanted) / ink[row]
  weights = 1.0 - jnp.abs(places[:, None] - np.arange(length, dtype=np.float32))
  return jnp.maximum(weights, 0.0).reshape(count, 2, length).mean(axis=1)


def _smoothing(length: int) -> np.ndarray:
  """(n, n): a Gaussian, with the border's value beyond it."""
  places = np.arange(length)
  sigma = _SMOOTH * length
  reach = int(3 * sigma + 0.5)
  matrix = np.zeros((length, length), np.float32)
  for step in range(-reach, reach + 1):
    weight = np.exp(-0.5 * (step / sigma) ** 2)
    matrix[places, np.clip(places + step, 0, length - 1)] += weight
  return matrix
