"""Distortion of one image without a mask, pure and keyed: `vmap` for a batch.

What a Siamese network must not mind, or, the same for all images of an
identity, what makes a new identity of it (`turn`). Geometry is one warp, so
that pixels are interpolated once.
"""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from segsiam_jax.ops import augment
from segsiam_jax.ops.shapes import check_shapes

Fill = Literal["mirror", "zero"]


class Distortion(NamedTuple):
  """Strengths; each is drawn anew for every image. All are plain numbers.

  Attributes:
    flip_left_right: whether half of the images are mirrored.
    rotate: largest rotation either way, in degrees.
    shear: largest shear either way, of rows and of columns.
    scale: smallest and largest factor, of rows and of columns apart; 2 shows
      objects twice as large.
    translate: largest shift either way, as a fraction of height and width.
    chance: probability of each of rotation, two shears, two scales and two
      shifts (Koch et al. 2015: one half).
    elastic_sigma: standard deviation of the elastic displacements, in pixels.
    elastic_grid: number of displacement vectors per side.
    thickness: largest change of bright strokes either way: of 1, by a pixel on
      every side.
    brightness: largest addition either way, as a fraction of full range.
    contrast: smallest and largest contrast factor.
    noise: largest standard deviation of added noise, as a fraction of full
      range.
    fill: what is beyond the border: the image mirrored, or zeros.
  """

  flip_left_right: bool = False
  rotate: float = 0.0
  shear: float = 0.0
  scale: tuple[float, float] = (1.0, 1.0)
  translate: float = 0.0
  chance: float = 1.0
  elastic_sigma: float = 0.0
  elastic_grid: int = 4
  thickness: float = 0.0
  brightness: float = 0.0
  contrast: tuple[float, float] = (1.0, 1.0)
  noise: float = 0.0
  fill: Fill = "mirror"


def distort(
  key: jax.Array, image: jax.Array, settings: Distortion
) -> jax.Array:
  """A distorted image.

  Args:
    key: decides everything.
    image: (H, W, C) floats in [0, 1].
    settings: static strengths.

  Returns:
    (H, W, C) float32 in [0, 1].

  Raises:
    ValueError: another shape.
  """
  check_shapes(image=(image, "H+ W+ C+"))
  flip, geometry, stroke, photometry = jax.random.split(key, 4)
  image = jnp.asarray(image, jnp.float32)
  if settings.flip_left_right:
    mirrored = jax.random.bernoulli(flip, np.float32(0.5))
    image = jnp.where(mirrored, image[:, ::-1], image)
  image = _warp(geometry, image, settings)
  if settings.thickness:
    image = _change_thickness(stroke, image, settings.thickness)
  photometric = augment.Augmentation(
    brightness=settings.brightness,
    contrast=settings.contrast,
    noise=settings.noise,
  )
  return augment.adjust(photometry, image, photometric)


def turn(key: jax.Array, image: jax.Array, mirrors: bool = True) -> jax.Array:
  """A random one of the four quarter turns, or, with mirrors, of all eight.

  With one key for all images of an identity these are new identities: a turned
  character is another character (Santoro et al. 2016, arXiv:1605.06065).

  Args:
    key: decides which.
    image: (H, W, C); square.
    mirrors: whether the turned image may also be mirrored.

  Returns:
    (H, W, C): the same pixels elsewhere.

  Raises:
    ValueError: another shape, or no square.
  """
  check_shapes(image=(image, "H W C"))
  image = jnp.asarray(image)
  if image.shape[0] != image.shape[1]:
    raise ValueError(
      f"image: expected shape (H, H, C), square; got {image.shape}"
    )
  down, right, across = jax.random.bernoulli(key, np.float32(0.5), (3,))
  if not mirrors:
    # Of two reflections, or of none, a turn is made.
    across = down ^ right
  image = jnp.where(down, image[::-1], image)
  image = jnp.where(right, image[:, ::-1], image)
  return jnp.where(across, image.swapaxes(0, 1), image)


def _warp(key: jax.Array, image: jax.Array, settings: Distortion) -> jax.Array:
  low, high = settings.scale
  bends = settings.elastic_sigma > 0
  strengths = (settings.rotate, settings.shear, settings.translate)
  if not (any(strengths) or bends or (low, high) != (1, 1)):
    return image
  height, width, _ = image.shape
  affine_key, chance_key, bend_key = jax.random.split(key, 3)
  used = jax.random.bernoulli(chance_key, jnp.float32(settings.chance), (7,))
  draws = jax.random.uniform(affine_key, (7,), jnp.float32, -1.0, 1.0)
  middle, reach = (low + high) / 2, (high - low) / 2
  scale = jnp.where(used[:2], middle + reach * draws[:2], 1.0)
  draws = jnp.where(used, draws, 0.0)
  angle = jnp.deg2rad(jnp.float32(settings.rotate)) * draws[2]
  shear = settings.shear * draws[3:5]
  shift = settings.translate * draws[5:] * np.array([height, width], np.float32)
  # From where in the image each pixel of the result comes.
  matrix = jnp.array(augment.rotation(angle))
  matrix = matrix @ jnp.array([[1.0, shear[0]], [shear[1], 1.0]])
  matrix = jnp.matmul(
    matrix, jnp.diag(1.0 / scale), precision=jax.lax.Precision.HIGHEST
  )
  center_y, center_x = (height - 1) / 2, (width - 1) / 2
  offsets: list[tuple[jax.Array | float, jax.Array | float]] = [
    (center_y, center_x),
    (shift[0], shift[1]),
  ]
  if bends:
    field = augment.elastic_field(
      bend_key,
      (height, width),
      sigma=settings.elastic_sigma,
      grid=settings.elastic_grid,
    )
    offsets.append((field[..., 0], field[..., 1]))
  grid_y, grid_x = augment.positions(
    jnp.arange(height, dtype=jnp.float32) - center_y,
    jnp.arange(width, dtype=jnp.float32) - center_x,
    matrix,
    offsets,
  )
  warped = augment.sample(image, grid_y, grid_x)
  if settings.fill == "zero":
    inside = (grid_y > -1) & (grid_y < height)
    inside &= (grid_x > -1) & (grid_x < width)
    warped = jnp.where(inside[..., None], warped, 0.0)
  return warped


def _change_thickness(
  key: jax.Array, image: jax.Array, most: float
) -> jax.Array:
  """Blends with the largest or the smallest of each pixel's neighbourhood."""
  height, width, _ = image.shape
  padded = jnp.pad(image, ((1, 1), (1, 1), (0, 0)), mode="edge")
  around = [
    padded[y : y + height, x : x + width]
    for y, x in ((0, 1), (1, 0), (1, 2), (2, 1))
  ]
  largest = smallest = image
  for neighbor in around:
    largest = jnp.maximum(largest, neighbor)
    smallest = jnp.minimum(smallest, neighbor)
  share = most * jax.random.uniform(key, (), jnp.float32, -1.0, 1.0)
  thicker = image + share * (largest - image)
  thinner = image + share * (image - smallest)
  return jnp.where(share > 0, thicker, thinner)
