"""Augmentation of one image and its mask, pure and keyed: `vmap` for a batch.

Geometry is one warp: flips, scale, rotation, translation and elastic
deformation make a single field of sampling positions, so that pixels are
interpolated once. Images are sampled bilinearly, masks by nearest neighbour,
both mirrored at the borders, so that every pixel stays labelled.

Everything is float32, whatever the dtypes given and with x64 too, so that a
key always draws the same. Labels of 64 bits become int32, with what does not
fit out of range. Shapes that do not fit are a ValueError. A NaN of an image
stays one wherever it is sampled; a NaN position has any label.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import dm_pix
import jax
import jax.numpy as jnp
import numpy as np

from segsiam_jax.ops.labels import to_classes
from segsiam_jax.ops.shapes import check_shapes

# 2 x 2 numbers: an array, or tuples of scalars.
Matrix = Any

# A probability in float32: the type of what is drawn and compared with it.
_HALF = np.float32(0.5)


class Augmentation(NamedTuple):
  """Strengths; each is drawn anew for every image. All are plain numbers.

  Attributes:
    flip_left_right: whether half of the images are mirrored.
    flip_up_down: likewise.
    scale: smallest and largest zoom, drawn log-uniformly; 2 shows objects
      twice as large.
    rotate: largest rotation either way, in degrees.
    translate: largest shift either way, as a fraction of height and width.
    elastic_sigma: standard deviation of the elastic displacements, in pixels.
    elastic_grid: number of displacement vectors per side; they are interpolated
      bicubically in between (U-Net: 3 by 3, sigma 10).
    brightness: largest addition either way, as a fraction of full range.
    contrast: smallest and largest contrast factor.
    noise: largest standard deviation of added noise, as a fraction of full
      range.
    invert: share of images whose brightness is inverted.
  """

  flip_left_right: bool = False
  flip_up_down: bool = False
  scale: tuple[float, float] = (1.0, 1.0)
  rotate: float = 0.0
  translate: float = 0.0
  elastic_sigma: float = 0.0
  elastic_grid: int = 3
  brightness: float = 0.0
  contrast: tuple[float, float] = (1.0, 1.0)
  noise: float = 0.0
  invert: float = 0.0


def augment(
  key: jax.Array,
  image: jax.Array,
  label: jax.Array,
  settings: Augmentation,
  weights: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array, jax.Array | None]:
  """Augments an image, its mask and its pixel weights with one geometry.

  Args:
    key: decides everything.
    image: (H, W, C) floats in [0, 1], or a volume (D, H, W, C), every slice of
      which is moved alike; only noise differs between slices.
    label: (H, W) or (D, H, W) integers.
    settings: static strengths.
    weights: floats of the shape of `label`, or None.

  Returns:
    The image as float32 in [0, 1], the label in its dtype, and float32 weights
    if there are any.
  """
  space = "D H+ W+" if np.ndim(label) == 3 else "H+ W+"
  check_shapes(
    image=(image, f"{space} C+"), label=(label, space), weights=(weights, space)
  )
  label = jnp.asarray(to_classes(label))
  geometry, photometry = jax.random.split(key)
  planes = jnp.asarray(image, jnp.float32)
  if weights is not None:
    weights = jnp.asarray(weights, jnp.float32)
    planes = jnp.concatenate([planes, weights[..., None]], axis=-1)

  def move(planes, label):
    return warp(geometry, planes, label, settings)

  is_volume = label.ndim == 3
  planes, label = (jax.vmap(move) if is_volume else move)(planes, label)
  if weights is not None:
    planes, weights = planes[..., :-1], planes[..., -1]
  # One tall image is adjusted as a whole.
  flat = planes.reshape(-1, *planes.shape[-2:])
  adjusted = adjust(photometry, flat, settings).reshape(planes.shape)
  return adjusted, label, weights


def warp(
  key: jax.Array, image: jax.Array, label: jax.Array, settings: Augmentation
) -> tuple[jax.Array, jax.Array]:
  """The geometric part of `augment`, of (H, W, C) and (H, W)."""
  check_shapes(image=(image, "H+ W+ C+"), label=(label, "H W"))
  image = jnp.asarray(image, jnp.float32)
  label = jnp.asarray(to_classes(label))
  keys = jax.random.split(key, 5)
  if settings.flip_left_right:
    flip = jax.random.bernoulli(keys[0], _HALF)
    image = jnp.where(flip, image[:, ::-1], image)
    label = jnp.where(flip, label[:, ::-1], label)
  if settings.flip_up_down:
    flip = jax.random.bernoulli(keys[1], _HALF)
    image = jnp.where(flip, image[::-1], image)
    label = jnp.where(flip, label[::-1], label)

  rotates, bends = settings.rotate > 0, settings.elastic_sigma > 0
  moves = settings.translate > 0 or tuple(settings.scale) != (1.0, 1.0)
  if not (rotates or bends or moves):
    return image, label

  height, width = label.shape
  low, high = jnp.log(jnp.asarray(settings.scale, jnp.float32))
  zoom = jnp.exp(_uniform(keys[2], (), low, high))
  shift = settings.translate * _uniform(keys[3], (2,), -1.0, 1.0)
  rotate_key, bend_key = jax.random.split(keys[4])
  center_y: Any = (height - 1) / 2
  center_x: Any = (width - 1) / 2
  ys = (jnp.arange(height, dtype=jnp.float32) - center_y) / zoom
  xs = (jnp.arange(width, dtype=jnp.float32) - center_x) / zoom
  center_y += shift[0] * height
  center_x += shift[1] * width
  if not (rotates or bends):
    return (
      sample_separable(image, ys + center_y, xs + center_x),
      sample_separable_nearest(label, ys + center_y, xs + center_x),
    )
  angle = jnp.deg2rad(jnp.float32(settings.rotate))
  angle *= _uniform(rotate_key, (), -1.0, 1.0)
  offsets = [(center_y, center_x)]
  if bends:
    field = elastic_field(
      bend_key,
      (height, width),
      sigma=settings.elastic_sigma,
      grid=settings.elastic_grid,
    )
    offsets.append((field[..., 0], field[..., 1]))
  grid_y, grid_x = positions(ys, xs, rotation(angle), offsets)
  return (
    sample(image, grid_y, grid_x),
    sample_nearest(label, grid_y, grid_x),
  )


def rotation(angle: jax.Array) -> Matrix:
  """The matrix that turns (y, x) by an angle in radians, () float32."""
  cos, sin = jnp.cos(angle), jnp.sin(angle)
  return (cos, -sin), (sin, cos)


def positions(
  ys: jax.Array,
  xs: jax.Array,
  matrix: Matrix,
  offsets: Sequence[tuple[jax.Array | float, jax.Array | float]],
) -> tuple[jax.Array, jax.Array]:
  """Where in an image the pixels of a warped one come from.

  Args:
    ys: (h,) float32 rows of the result, counted from where the origin lies.
    xs: (w,) float32 columns.
    matrix: maps (y, x) of the result to the image.
    offsets: (dy, dx), each () or (h, w) float32, added in turn: the origin in
      the image, a shift, an elastic field.

  Returns:
    Rows and columns in the image, (h, w) float32 each.
  """
  ys = ys[:, None]
  grid_y = matrix[0][0] * ys + matrix[0][1] * xs
  grid_x = matrix[1][0] * ys + matrix[1][1] * xs
  for dy, dx in offsets:
    grid_y, grid_x = grid_y + dy, grid_x + dx
  return grid_y, grid_x


def elastic_field(
  key: jax.Array, size: tuple[int, int], *, sigma: float, grid: int
) -> jax.Array:
  """Smooth random displacements (U-Net, section 3.1).

  Args:
    key: decides the displacements.
    size: (height, width) of the field.
    sigma: standard deviation of the vectors on the coarse grid, in pixels.
    grid: vectors per side; the field is bicubic between them.

  Returns:
    (height, width, 2) float32 displacements (dy, dx) in pixels.
  """
  coarse = jax.random.normal(key, (grid * grid * 2,), jnp.float32)
  coarse *= jnp.float32(sigma)
  coarse = coarse.reshape(grid, grid, 2)
  return jax.image.resize(coarse, (*size, 2), "cubic")


def adjust(
  key: jax.Array, image: jax.Array, settings: Augmentation
) -> jax.Array:
  """The photometric part of `augment`: (H, W, C) in [0, 1] to the same."""
  check_shapes(image=(image, "H+ W+ C+"))
  keys = jax.random.split(key, 4)
  changed = image = jnp.asarray(image, jnp.float32)
  if settings.invert > 0:
    inverted = jax.random.bernoulli(
      jax.random.fold_in(key, 4), jnp.float32(settings.invert)
    )
    changed = jnp.where(inverted, 1.0 - changed, changed)
  if settings.contrast != (1.0, 1.0):
    factor = _uniform(keys[0], (), *settings.contrast)
    changed = dm_pix.adjust_contrast(changed, factor)
  if settings.brightness > 0:
    most = settings.brightness
    changed += _uniform(keys[1], (), -most, most)
  if settings.noise > 0:
    sigma = settings.noise * _uniform(keys[2], (), 0.0, 1.0)
    # Drawn flat: the same numbers, compiled in a fraction of the time.
    noise = jax.random.normal(keys[3], (image.size,), jnp.float32)
    changed += sigma * noise.reshape(image.shape)
  return image if changed is image else jnp.clip(changed, 0.0, 1.0)


def _uniform(
  key: jax.Array, shape: tuple[int, ...], low: float, high: float
) -> jax.Array:
  return jax.random.uniform(key, shape, jnp.float32, low, high)


def _mirror(position: jax.Array, length: int) -> jax.Array:
  """Reflects positions into [0, length - 1] about the outermost pixels."""
  position = jnp.asarray(position, jnp.float32)
  last = max(length - 1, 1)
  folded = jnp.mod(position, 2 * last)
  return jnp.clip(last - jnp.abs(folded - last), 0, length - 1)


def _neighbors(
  position: jax.Array, length: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Both neighbouring indices and the weight of the second one."""
  position = _mirror(position, length)
  first = jnp.clip(jnp.floor(position).astype(jnp.int32), 0, length - 1)
  second = jnp.minimum(first + 1, length - 1)
  return first, second, position - first


def _nearest(position: jax.Array, length: int) -> jax.Array:
  return jnp.round(_mirror(position, length)).astype(jnp.int32)


def sample(image: jax.Array, ys: jax.Array, xs: jax.Array) -> jax.Array:
  """Bilinear samples of (H, W, C) at (h, w) positions: (h, w, C)."""
  check_shapes(image=(image, "H+ W+ C"), ys=(ys, "h w"), xs=(xs, "h w"))
  image = jnp.asarray(image, jnp.float32)
  y0, y1, wy = _neighbors(ys, image.shape[0])
  x0, x1, wx = _neighbors(xs, image.shape[1])
  wy, wx = wy[..., None], wx[..., None]
  upper = (1 - wx) * image[y0, x0] + wx * image[y0, x1]
  lower = (1 - wx) * image[y1, x0] + wx * image[y1, x1]
  return (1 - wy) * upper + wy * lower


def sample_nearest(label: jax.Array, ys: jax.Array, xs: jax.Array) -> jax.Array:
  """Nearest samples of (H, W) at (h, w) positions: (h, w)."""
  check_shapes(label=(label, "H+ W+"), ys=(ys, "h w"), xs=(xs, "h w"))
  label = jnp.asarray(to_classes(label))
  height, width = label.shape
  return label[_nearest(ys, height), _nearest(xs, width)]


def sample_separable(
  image: jax.Array, ys: jax.Array, xs: jax.Array
) -> jax.Array:
  """`sample` where rows and columns are independent: ys (h,), xs (w,)."""
  check_shapes(image=(image, "H+ W+ C"), ys=(ys, "h"), xs=(xs, "w"))
  image = jnp.asarray(image, jnp.float32)
  y0, y1, wy = _neighbors(ys, image.shape[0])
  x0, x1, wx = _neighbors(xs, image.shape[1])
  wy, wx = wy[:, None, None], wx[:, None]
  rows = (1 - wy) * image[y0] + wy * image[y1]
  return (1 - wx) * rows[:, x0] + wx * rows[:, x1]


def sample_separable_nearest(
  label: jax.Array, ys: jax.Array, xs: jax.Array
) -> jax.Array:
  """`sample_nearest` where rows and columns are independent."""
  check_shapes(label=(label, "H+ W+"), ys=(ys, "h"), xs=(xs, "w"))
  label = jnp.asarray(to_classes(label))
  height, width = label.shape
  return label[_nearest(ys, height)][:, _nearest(xs, width)]
