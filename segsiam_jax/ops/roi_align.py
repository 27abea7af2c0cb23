"""RoIAlign over a feature pyramid (He et al., arXiv:1703.06870).

Two formulations with equal results and gradients, to torchvision's semantics:

- 'gather' reads the cells around each sample from the flattened pyramid. It
  does least arithmetic, and suits CPUs and GPUs.
- 'matmul' multiplies with an interpolation matrix for rows and one for
  columns. It does far more arithmetic, all of it matrix products, which suits
  TPUs, whose gathers and scatters are slow.

Boxes get no gradient, as elsewhere.
"""

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from segsiam_jax.ops.boxes import box_area
from segsiam_jax.ops.labels import to_classes
from segsiam_jax.ops.shapes import check_shapes

METHODS = ("gather", "matmul")

Shapes = tuple[tuple[int, int], ...]


def assign_levels(
  boxes: jax.Array,
  num_levels: int,
  *,
  canonical_size: float = 224.0,
  canonical_level: int = 2,
) -> jax.Array:
  """The level of a pyramid that each box is read from.

  `floor(canonical_level + log2(sqrt(area) / canonical_size))`, within the
  pyramid (Lin et al., arXiv:1612.03144, eq. 1).

  Args:
    boxes: `(..., 4)`.
    num_levels: how many there are, the finest is level 0.
    canonical_size: in pixels; a box of this size belongs to `canonical_level`.
    canonical_level: 2 is the paper's P4 where the finest is P2.

  Returns:
    `(...)` int32; any level of a box with a NaN, whose features are NaN.

  >>> sides = jnp.array([[0.0, 0, 10, 10], [0, 0, 224, 224], [0, 0, 900, 900]])
  >>> assign_levels(sides, 4).tolist()
  [0, 2, 3]
  """
  size = jnp.sqrt(box_area(boxes)) / jnp.float32(canonical_size)
  # torchvision adds as much, so that a size on the border is above it.
  level = jnp.floor(canonical_level + jnp.log2(size) + 1e-6)
  level = jnp.nan_to_num(level)
  return jnp.clip(level, 0, num_levels - 1).astype(jnp.int32)


def roi_align(
  features: Sequence[jax.Array],
  boxes: jax.Array,
  levels: jax.Array,
  *,
  output_size: int,
  strides: Sequence[int],
  sampling_ratio: int = 2,
  aligned: bool = False,
  method: str = "gather",
  chunk: int | None = None,
) -> jax.Array:
  """Features of boxes, resampled to squares.

  A box is cut into bins; a bin's value is the mean of `sampling_ratio ** 2`
  samples in it, each interpolated between the four cells around it.

  Args:
    features: of the levels, finest first, each `(B, H, W, C)`.
    boxes: `(B, R, 4)` in pixels of the image.
    levels: `(B, R)` int32, the level that each box is read from.
    output_size: bins along each side.
    strides: pixels between two cells of each level.
    sampling_ratio: samples along each side of a bin. torchvision's and
      detectron2's 0, as many as a bin has cells, has no static shape.
    aligned: whether cells lie at their centres, as in detectron2, or half a
      cell before them, and a box has at least the size of one cell, as in
      torchvision.
    method: one of `METHODS`.
    chunk: of 'matmul': boxes of an image that are multiplied at a time, for
      less memory; None is all at once.

  Returns:
    `(B, R, output_size, output_size, C)` in the features' dtype. Samples more
    than one cell outside of the map are 0. A box with a NaN, or of no level,
    is NaN.

  Raises:
    ValueError: shapes that do not fit, or an unknown method.
  """
  if method not in METHODS:
    raise ValueError(f"method {method!r} is not one of {METHODS}")
  check_shapes(
    boxes=(boxes, "B R 4"),
    levels=(levels, "B R"),
    **{
      f"features[{level}]": (feature, f"B H{level}+ W{level}+ C")
      for level, feature in enumerate(features)
    },
    strides=(strides, f"{len(features)}"),
  )
  features = [jnp.asarray(feature) for feature in features]
  shapes = tuple(feature.shape[1:3] for feature in features)
  levels = jnp.asarray(to_classes(levels)).astype(jnp.int32)
  known = (levels >= 0) & (levels < len(features))
  boxes = jax.lax.stop_gradient(jnp.asarray(boxes, jnp.float32))
  boxes = jnp.where(known[..., None], boxes, jnp.nan)
  levels = jnp.where(known, levels, 0)
  scale = 1.0 / jnp.asarray(strides, jnp.float32)[levels]
  y, x = (
    _interpolation(
      boxes[..., axis] * scale,
      boxes[..., axis + 2] * scale,
      jnp.array([shape[1 - axis] for shape in shapes])[levels],
      output_size,
      sampling_ratio,
      aligned,
    )
    for axis in (1, 0)
  )
  if method == "gather":
    return _gather(tuple(features), y, x, levels)
  return _multiply(features, y, x, levels, chunk)


class _Interpolation(NamedTuple):
  """What the bins along one axis are sums of.

  Attributes:
    index: `(K, B, R, out)` int32 cells, K = 2 * sampling_ratio.
    weight: `(K, B, R, out)` float32.
  """

  index: jax.Array  # type: ignore[assignment]
  weight: jax.Array


def _interpolation(low, high, size, out, sampling_ratio, aligned):
  """Cells and weights along one axis.

  Args:
    low: `(B, R)` where the boxes begin, in cells.
    high: `(B, R)` where they end.
    size: `(B, R)` cells of the map.
    out: bins.
    sampling_ratio: samples per bin.
    aligned: see `roi_align`.
  """
  if aligned:
    low, high = low - 0.5, high - 0.5
    length = high - low
  else:
    length = jnp.maximum(high - low, 1.0)
  step = length / out
  samples = (jnp.arange(sampling_ratio) + 0.5) / sampling_ratio
  offsets = samples[:, None] + jnp.arange(out)
  # (samples, B, R, bins)
  at = low[..., None] + offsets[:, None, None] * step[..., None]
  size = size[..., None]
  inside = (at >= -1.0) & (at <= size)
  at = jnp.maximum(at, 0.0)
  first = jnp.clip(jnp.floor(at).astype(jnp.int32), 0, size - 1)
  # On the last cell and beyond there is nothing to interpolate with.
  second = jnp.where(first < size - 1, at - first, 0.0)
  outside = jnp.where(jnp.isnan(at), jnp.nan, 0.0)
  share = jnp.where(inside, 1.0 / sampling_ratio, outside)
  return _Interpolation(
    jnp.concatenate([first, jnp.minimum(first + 1, size - 1)]),
    jnp.concatenate([share * (1.0 - second), share * second]),
  )


def _flat_cells(shapes: Shapes, rows, columns, levels):
  """Where cells of an image lie in the flattened pyramid, `(R * out * out,)`.

  Args:
    shapes: of the levels.
    rows: `(R, out)`.
    columns: `(R, out)`.
    levels: `(R,)`.
  """
  starts = np.cumsum([0] + [math.prod(shape) for shape in shapes[:-1]])
  widths = np.array([shape[1] for shape in shapes])
  start, width = (jnp.asarray(x)[levels][:, None] for x in (starts, widths))
  cells = (start + rows * width)[..., None] + columns[:, None]
  return cells.reshape(cells.size)


def _corners(shapes, y, x, levels, number):
  """Cells and weights of one of the K * K terms of every bin of an image."""
  ky, kx = number // len(x.index), number % len(x.index)
  weight = y.weight[ky][..., None] * x.weight[kx][:, None]
  return (
    _flat_cells(shapes, y.index[ky], x.index[kx], levels),
    weight.reshape(weight.size, 1),
  )


# Of the arrays of `_Interpolation` and of levels: where the images are.
_AXES = (
  _Interpolation(1, 1),  # type: ignore[arg-type]
  _Interpolation(1, 1),  # type: ignore[arg-type]
  0,
)


@jax.custom_vjp
def _gather(features, y, x, levels):
  shapes = tuple(feature.shape[1:3] for feature in features)
  batch, _, _, channels = features[0].shape
  flat = jnp.concatenate(
    [f.reshape(batch, math.prod(f.shape[1:3]), channels) for f in features], 1
  )

  def read(flat, y, x, levels):
    total = 0.0
    for number in range(len(y.index) * len(x.index)):
      cells, weight = _corners(shapes, y, x, levels, number)
      total += flat.at[cells].get(mode="promise_in_bounds") * weight
    return total

  total = jax.lax.platform_dependent(
    flat,
    y,
    x,
    levels,
    # XLA:CPU would read the features anew wherever the result is used, in any
    # order: half of a small Mask R-CNN's train step. A loop's result it keeps.
    cpu=lambda flat, y, x, levels: jax.lax.map(
      lambda image: read(*image),
      (flat, *jax.tree.map(lambda a: jnp.moveaxis(a, 1, 0), (y, x)), levels),
    ),
    default=jax.vmap(read, (0, *_AXES)),
  )
  boxes, out = y.index.shape[-2:]
  total = total.reshape(batch, boxes, out, out, channels)
  return total.astype(features[0].dtype)


def _gather_forward(features, y, x, levels):
  empty = [jnp.zeros((0, *f.shape[1:]), f.dtype) for f in features]
  return _gather(features, y, x, levels), (empty, y, x, levels)


def _gather_backward(saved, gradient):
  """Scatters, term by term into one array: all at once takes three times."""
  empty, y, x, levels = saved
  shapes = tuple(feature.shape[1:3] for feature in empty)
  batch, *bins, channels = gradient.shape
  gradient = gradient.reshape(batch, math.prod(bins), channels)
  gradient = gradient.astype(jnp.float32)

  def add(number, total):
    def scatter(total, gradient, y, x, levels):
      cells, weight = _corners(shapes, y, x, levels, number)
      return total.at[cells].add(gradient * weight, mode="promise_in_bounds")

    return jax.vmap(scatter, (0, 0, *_AXES))(total, gradient, y, x, levels)

  sizes = [math.prod(shape) for shape in shapes]
  # The first by itself: the others then add to what is spread as they are.
  total = add(0, jnp.zeros((batch, sum(sizes), channels)))
  total = jax.lax.fori_loop(1, len(y.index) * len(x.index), add, total)
  parts = jnp.split(total, np.cumsum(sizes[:-1]), axis=1)
  features = tuple(
    part.reshape(batch, *like.shape[1:]).astype(like.dtype)
    for part, like in zip(parts, empty, strict=True)
  )
  return features, None, None, None


_gather.defvjp(_gather_forward, _gather_backward)


class _Canvas(NamedTuple):
  """A pyramid laid out on one plane: the finest level on top, the others in a
  row below it. One product then reads from all levels.

  Attributes:
    size: rows and columns.
    corners: top and left of each level.
  """

  size: tuple[int, int]
  corners: tuple[tuple[int, int], ...]

  @classmethod
  def of(cls, shapes: Shapes) -> "_Canvas":
    height, width = shapes[0]
    lefts = np.cumsum([0] + [shape[1] for shape in shapes[1:]])
    below = max((shape[0] for shape in shapes[1:]), default=0)
    corners = [(0, 0)] + [(height, int(left)) for left in lefts[:-1]]
    return cls((height + below, max(width, int(lefts[-1]))), tuple(corners))

  def pack(self, features: Sequence[jax.Array]) -> jax.Array:
    height, width = self.size

    def widen(x, rows):
      return jnp.pad(
        x, ((0, 0), (0, rows - x.shape[1]), (0, width - x.shape[2]), (0, 0))
      )

    top = features[0].shape[1]
    if len(features) == 1:
      return widen(features[0], height)
    tall = [
      jnp.pad(f, ((0, 0), (0, height - top - f.shape[1]), (0, 0), (0, 0)))
      for f in features[1:]
    ]
    return jnp.concatenate(
      [widen(features[0], top), widen(jnp.concatenate(tall, 2), height - top)],
      axis=1,
    )


def _matrices(canvas, y, x, levels, dtype):
  """Interpolation matrices `(B, R, out, rows)` and `(B, R, out, columns)`."""
  corners = np.array(canvas.corners)
  matrices = []
  for axis, part in enumerate((y, x)):
    cells = part.index + jnp.asarray(corners[:, axis])[levels][..., None]
    here = cells[..., None] == jnp.arange(canvas.size[axis])
    weights = jnp.where(here, part.weight[..., None], 0.0)
    matrices.append(weights.sum(0).astype(dtype))
  return matrices


def _precision(dtype):
  return jax.lax.Precision.HIGHEST if dtype == jnp.float32 else None


def _multiply(features, y, x, levels, chunk):
  dtype = features[0].dtype
  canvas = _Canvas.of(tuple(feature.shape[1:3] for feature in features))
  packed = canvas.pack(features)
  rows, columns = _matrices(canvas, y, x, levels, dtype)
  product = functools.partial(jnp.einsum, precision=_precision(dtype))

  def pool(matrices):
    rows, columns = matrices
    strips = product("broh,bhwc->browc", rows, packed)
    return product("browc,brpw->bropc", strips, columns)

  number = rows.shape[1]
  if chunk is None or chunk >= number:
    return pool((rows, columns))

  def cut(x):
    x = jnp.pad(x, ((0, 0), (0, -number % chunk), (0, 0), (0, 0)))
    cuts = x.reshape(x.shape[0], x.shape[1] // chunk, chunk, *x.shape[2:])
    return jnp.moveaxis(cuts, 1, 0)

  pooled = jnp.moveaxis(jax.lax.map(pool, (cut(rows), cut(columns))), 0, 1)
  pooled = pooled.reshape(
    pooled.shape[0], math.prod(pooled.shape[1:3]), *pooled.shape[3:]
  )
  return pooled[:, :number]
