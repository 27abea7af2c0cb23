"""Boxes `(x1, y1, x2, y2)`, continuous: area is `(x2 - x1) * (y2 - y1)`.

Arguments all share: `boxes (..., 4)` of any float dtype, computed with in
float32. Padding boxes of zeros are boxes like any other: every result and
gradient is finite. A NaN makes the results of its box NaN. Shapes that do not
fit are a ValueError.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from segsiam_jax.ops.shapes import broadcasts, check_pairs, check_shapes

# Larger log-sizes are cut before exp (torchvision, detectron2).
MAX_LOG_RATIO = math.log(1000 / 16)


def box_area(boxes: jax.Array) -> jax.Array:
  """Area of `(..., 4)` boxes, 0 where a side is negative: `(...)`.

  >>> box_area(jnp.array([1.0, 2.0, 4.0, 6.0])).item()
  12.0
  """
  check_shapes(boxes=(boxes, "*S 4"))
  sides = jnp.maximum(_f32(boxes)[..., 2:] - _f32(boxes)[..., :2], 0.0)
  return sides[..., 0] * sides[..., 1]


def clip_boxes(boxes: jax.Array, size: jax.Array) -> jax.Array:
  """Moves corners into the image.

  Args:
    boxes: `(..., N, 4)`.
    size: `(..., 2)` heights and widths of the images, in pixels.

  Returns:
    `(..., N, 4)` float32.

  >>> clip_boxes(jnp.array([[-1.0, 2.0, 9.0, 9.0]]), jnp.array([6, 8])).tolist()
  [[0.0, 2.0, 8.0, 6.0]]
  """
  check_shapes(boxes=(boxes, "*S N 4"), size=(size, "*S 2"))
  size = _f32(size)
  high = jnp.concatenate([size[..., ::-1]] * 2, axis=-1)[..., None, :]
  return jnp.clip(_f32(boxes), 0.0, high)


def encode_boxes(
  boxes: jax.Array,
  anchors: jax.Array,
  weights: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0),
) -> jax.Array:
  """Offsets `(dx, dy, dw, dh)` that turn anchors into boxes.

  Args:
    boxes: `(..., 4)`.
    anchors: `(..., 4)`, whose leading axes broadcast with those of `boxes`.
    weights: factor of each offset: (1, 1, 1, 1) in the RPN, (10, 10, 5, 5) in
      the box head of torchvision and detectron2.

  Returns:
    `(..., 4)` float32 (Girshick et al. 2014, appendix C).

  >>> anchor = jnp.array([0.0, 0.0, 2.0, 4.0])
  >>> encode_boxes(anchor + jnp.array([1.0, 1.0, 1.0, 1.0]), anchor).tolist()
  [0.5, 0.25, 0.0, 0.0]
  """
  _check_offsets(boxes=boxes, anchors=anchors, weights=weights)
  (center, side), (anchor_center, anchor_side) = (
    _centers(boxes),
    _centers(anchors),
  )
  # A padding box has no size: its logarithm is cut off, not infinite.
  side, anchor_side = (jnp.maximum(x, 1e-6) for x in (side, anchor_side))
  move = (center - anchor_center) / anchor_side
  scale = jnp.log(side / anchor_side)
  return jnp.concatenate([move, scale], axis=-1) * _f32(weights)


def decode_boxes(
  deltas: jax.Array,
  anchors: jax.Array,
  weights: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0),
) -> jax.Array:
  """Inverse of `encode_boxes`; log-sizes are cut at log(1000 / 16).

  Args:
    deltas: `(..., 4)` offsets.
    anchors: `(..., 4)`, whose leading axes broadcast with those of `deltas`.
    weights: as they were encoded with.

  Returns:
    `(..., 4)` float32 boxes.
  """
  _check_offsets(deltas=deltas, anchors=anchors, weights=weights)
  center, side = _centers(anchors)
  deltas = _f32(deltas) / _f32(weights)
  center = center + deltas[..., :2] * side
  half = 0.5 * jnp.exp(jnp.minimum(deltas[..., 2:], MAX_LOG_RATIO)) * side
  return jnp.concatenate([center - half, center + half], axis=-1)


def pairwise_iou(
  boxes: jax.Array, others: jax.Array, *, crowd: jax.Array | None = None
) -> jax.Array:
  """Intersection over union of every box with every other.

  Args:
    boxes: `(..., N, 4)`.
    others: `(..., M, 4)`, whose leading axes broadcast with those of `boxes`.
    crowd: `(..., M)` of `others`, nonzero where the union is the area of the
      box alone, as COCO matches detections with crowds.

  Returns:
    `(..., N, M)` float32; 0 where the union is empty.

  >>> box = jnp.array([[0.0, 0.0, 2.0, 2.0]])
  >>> pairwise_iou(box, box + jnp.array([1.0, 0.0, 1.0, 0.0])).tolist()
  [[0.3333333432674408]]
  """
  check_shapes(boxes=(boxes, "*S N 4"))
  check_shapes(others=(others, "*T M 4"), crowd=(crowd, "*T M"))
  leading = np.shape(boxes)[:-2]
  if not broadcasts(leading, np.shape(others)[:-2]):
    raise ValueError(
      f"others: expected shape (..., M, 4) that broadcasts with {leading}; got "
      f"{np.shape(others)}"
    )
  boxes = jnp.expand_dims(_f32(boxes), -2)
  others = jnp.expand_dims(_f32(others), -3)
  inter, union = _overlap(boxes, others)
  if crowd is not None:
    alone = box_area(boxes)
    union = jnp.where(
      jnp.expand_dims(jnp.asarray(crowd), -2) != 0, alone, union
    )
  return _ratio(inter, union)


def paired_giou(boxes: jax.Array, others: jax.Array) -> jax.Array:
  """Generalised IoU of boxes in pairs (Rezatofighi et al., arXiv:1902.09630).

  `iou - (hull - union) / hull`, where the hull is the smallest box around
  both: -1 for boxes far apart, 1 for equal ones.

  Args:
    boxes: `(..., 4)`.
    others: `(..., 4)`, whose leading axes broadcast with those of `boxes`.

  Returns:
    `(...)` float32.

  >>> box = jnp.array([0.0, 0.0, 1.0, 1.0])
  >>> paired_giou(box, box + jnp.array([3.0, 0.0, 3.0, 0.0])).item()
  -0.5
  """
  check_shapes(boxes=(boxes, "*S 4"))
  check_pairs(boxes=boxes, others=others)
  boxes, others = _f32(boxes), _f32(others)
  inter, union = _overlap(boxes, others)
  low = jnp.minimum(boxes[..., :2], others[..., :2])
  high = jnp.maximum(boxes[..., 2:], others[..., 2:])
  hull = box_area(jnp.concatenate([low, high], axis=-1))
  return _ratio(inter, union) - _ratio(hull - union, hull)


def _overlap(boxes, others):
  """Areas of intersection and union, broadcast."""
  low = jnp.maximum(boxes[..., :2], others[..., :2])
  high = jnp.minimum(boxes[..., 2:], others[..., 2:])
  inter = box_area(jnp.concatenate([low, high], axis=-1))
  return inter, box_area(boxes) + box_area(others) - inter


def _ratio(numerator, denominator):
  """0 where the denominator is 0, with gradient 0; NaN of NaN."""
  empty = (denominator <= 0) & ~jnp.isnan(numerator)
  return jnp.where(empty, 0.0, numerator / jnp.where(empty, 1.0, denominator))


def _check_offsets(weights, **boxes) -> None:
  """Of two arrays of boxes or offsets by name, and the weights."""
  check_shapes(weights=(weights, "4"))
  (name, first), _ = boxes.items()
  check_shapes(**{name: (first, "*S 4")})
  check_pairs(**boxes)


def _centers(boxes):
  boxes = _f32(boxes)
  side = boxes[..., 2:] - boxes[..., :2]
  return boxes[..., :2] + 0.5 * side, side


def _f32(x) -> jax.Array:
  return jnp.asarray(x, jnp.float32)
