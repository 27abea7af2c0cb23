"""Non-maximum suppression with static shapes and without a loop over boxes.

A box with a NaN, or with a score of NaN, comes first with that score, as in
torchvision, so that it shows.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from segsiam_jax.ops.boxes import pairwise_iou
from segsiam_jax.ops.labels import to_ids
from segsiam_jax.ops.shapes import check_integer, check_shapes

# Boxes that are compared with as many others at a time: memory is its square.
_TILE = 512


class Kept(NamedTuple):
  """Boxes that are left, those of the highest score first.

  Attributes:
    index: `(..., M)` int32, which box; anything where `valid` is False.
    scores: `(..., M)` float32; 0 where `valid` is False.
    valid: `(..., M)` bool.
  """

  index: jax.Array  # type: ignore[assignment]
  scores: jax.Array
  valid: jax.Array


def _nothing(batch: Sequence[int]) -> Kept:
  empty = jnp.zeros((*batch, 0), jnp.float32)
  return Kept(empty.astype(jnp.int32), empty, empty.astype(bool))


class _Flat(NamedTuple):
  """Boxes of images in one row: the arguments of both functions, checked."""

  boxes: jax.Array
  scores: jax.Array
  groups: jax.Array | None
  there: jax.Array


def _flatten(boxes, scores, groups, valid) -> _Flat:
  check_shapes(
    boxes=(boxes, "*B N 4"),
    scores=(scores, "*B N"),
    groups=(groups, "*B N"),
    valid=(valid, "*B N"),
  )
  *batch, count = np.shape(scores)
  flat = (math.prod(batch), count)
  boxes = jnp.asarray(boxes, jnp.float32).reshape(*flat, 4)
  scores = jnp.asarray(scores, jnp.float32).reshape(flat)
  scores = jnp.where(jnp.isnan(boxes).any(-1), jnp.nan, scores)
  if groups is not None:
    groups = jnp.asarray(to_ids(groups)).reshape(flat)
  there = jnp.ones(flat, bool)
  if valid is not None:
    there = jnp.asarray(valid).reshape(flat) != 0
  return _Flat(boxes, scores, groups, there)


def nms(
  boxes: jax.Array,
  scores: jax.Array,
  threshold: float,
  *,
  max_outputs: int | None = None,
  groups: jax.Array | None = None,
  valid: jax.Array | None = None,
) -> Kept:
  """Greedy non-maximum suppression, exact for every threshold.

  From the highest score down, a box is kept unless it overlaps a kept one by
  *more* than the threshold; of equal scores the first comes first. This is
  `torchvision.ops.batched_nms`.

  Boxes are sorted and cut into tiles. What earlier tiles keep suppresses a
  tile's boxes; which of the rest suppress each other is the fixed point of
  `keep[j] = not any(keep[i] and over[i, j] for i before j)`, reached after as
  many rounds as the longest chain of suppressions. Tiles are left out once
  every image has its `max_outputs`.

  Args:
    boxes: `(..., N, 4)`.
    scores: `(..., N)`.
    threshold: on the IoU.
    max_outputs: M, how many to return at most; None means N.
    groups: `(..., N)` integers, such as classes: boxes of different groups do
      not suppress each other. None is one group.
    valid: `(..., N)`, nonzero for boxes that are there.

  Returns:
    `Kept`.

  Raises:
    ValueError: shapes that do not fit, or a threshold of NaN.

  >>> boxes = jnp.array([[0.0, 0, 2, 2], [0, 0, 2, 2.1], [0, 3, 2, 4]])
  >>> kept = nms(boxes, jnp.array([0.2, 0.9, 0.5]), 0.5)
  >>> kept.index[kept.valid].tolist()
  [1, 2]
  """
  *batch, count = np.shape(scores)
  max_outputs = _most(max_outputs, count)
  boxes, scores, groups, there = _flatten(boxes, scores, groups, valid)
  if not count:
    return _nothing(batch)
  # Not -inf: that may be a box's score.
  first = jnp.where(jnp.isnan(scores), jnp.inf, scores)
  order = jnp.lexsort((-first, ~there), axis=-1)
  in_order = lambda x: jnp.take_along_axis(x, order, axis=1)  # noqa: E731
  boxes = jnp.take_along_axis(boxes, order[..., None], axis=1)
  groups = None if groups is None else in_order(groups)
  keep = _greedy(boxes, groups, in_order(there), threshold, max_outputs)
  first = jnp.argsort(~keep, axis=-1, stable=True)[:, :max_outputs]
  kept = jnp.take_along_axis(keep, first, axis=1)
  index = jnp.take_along_axis(order, first, axis=1)
  scores = jnp.where(kept, jnp.take_along_axis(scores, index, axis=1), 0.0)
  shaped = lambda x: x.reshape(*batch, max_outputs)  # noqa: E731
  return Kept(shaped(index.astype(jnp.int32)), shaped(scores), shaped(kept))


def _most(max_outputs: int | None, count: int) -> int:
  if max_outputs is None:
    return count
  return min(check_integer("max_outputs", max_outputs, 0), count)


def _greedy(boxes, groups, there, threshold, max_outputs):
  """Which of the sorted boxes `(B, N, 4)` stay, at least the first of them."""
  count = there.shape[1]
  tile = min(_TILE, count)
  pad = -count % tile
  num_tiles = (count + pad) // tile
  boxes = jnp.pad(boxes, ((0, 0), (0, pad), (0, 0)))
  there = jnp.pad(there, ((0, 0), (0, pad)))
  if groups is not None:
    groups = jnp.pad(groups, ((0, 0), (0, pad)))
  last = there.sum(-1)
  before = np.arange(tile)[:, None] < np.arange(tile)

  def cut(array, index):
    return jax.lax.dynamic_slice_in_dim(array, index * tile, tile, axis=1)

  def over_each_other(index, other):
    iou = pairwise_iou(cut(boxes, index), cut(boxes, other))
    over = iou > _rounded_down(threshold)
    if groups is None:
      return over
    return over & (
      cut(groups, index)[:, :, None] == cut(groups, other)[:, None]
    )

  def suppressed(keep, over):
    return (keep[:, :, None] & over).any(1)

  def body(state):
    index, keep = state

    def against(earlier, alive):
      over = over_each_other(earlier, index)
      return alive & ~suppressed(cut(keep, earlier), over)

    alive = jax.lax.fori_loop(0, index, against, cut(there, index))
    over = over_each_other(index, index) & before

    def settle(state):
      kept, _ = state
      new = alive & ~suppressed(kept, over)
      return new, (new != kept).any()

    kept, _ = jax.lax.while_loop(
      lambda state: state[1], settle, (alive, _true(alive))
    )
    keep = jax.lax.dynamic_update_slice_in_dim(keep, kept, index * tile, axis=1)
    return index + 1, keep

  def unfinished(state):
    index, keep = state
    more = (keep.sum(-1) < max_outputs) & (index * tile < last)
    return (index < num_tiles) & more.any()

  start = (jnp.array(0), there & False)
  return jax.lax.while_loop(unfinished, body, start)[1][:, :count]


def _true(like: jax.Array) -> jax.Array:
  """True, spread over devices as an array is."""
  return like.any() | True


def _rounded_down(threshold: float) -> np.float32:
  """The largest float32 that is not above: comparisons come out as in float64.

  >>> float(_rounded_down(0.6)) < 0.6, float(_rounded_down(0.5))
  (True, 0.5)
  """
  if np.isnan(threshold):
    raise ValueError("threshold: expected a number; got NaN")
  nearest = np.float32(threshold)
  if float(nearest) > threshold:
    nearest = np.nextafter(nearest, np.float32(-np.inf))
  return nearest


def soft_nms(
  boxes: jax.Array,
  scores: jax.Array,
  *,
  max_outputs: int,
  method: str = "linear",
  threshold: float = 0.3,
  sigma: float = 0.5,
  min_score: float = 0.001,
  groups: jax.Array | None = None,
  valid: jax.Array | None = None,
) -> Kept:
  """Soft-NMS: overlapping boxes lose score (Bodla et al., arXiv:1704.04503).

  Args:
    boxes: `(..., N, 4)`.
    scores: `(..., N)`, not negative.
    max_outputs: M, how many to take.
    method: 'linear': a score is multiplied by `1 - iou` where that is above
      the threshold; 'gaussian': by `exp(-iou^2 / sigma)`.
    threshold: of 'linear'.
    sigma: of 'gaussian'.
    min_score: a box whose score sinks below, or to 0, is dropped.
    groups: see `nms`.
    valid: see `nms`.

  Returns:
    `Kept`, its scores the lowered ones.

  Raises:
    ValueError: shapes that do not fit, or an unknown method.
  """
  if method not in ("linear", "gaussian"):
    raise ValueError(f"method {method!r} is not one of 'linear', 'gaussian'")
  *batch, count = np.shape(scores)
  max_outputs = _most(max_outputs, count)
  boxes, scores, group, there = _flatten(boxes, scores, groups, valid)
  if not count:
    return _nothing(batch)
  scores = jnp.where(there, scores, -1.0)
  sigma = jnp.float32(sigma)

  def step(scores, _):
    index = scores.argmax(-1)[:, None]
    at = lambda x: jnp.take_along_axis(x, index, axis=1)  # noqa: E731
    score = at(scores)
    best = jnp.take_along_axis(boxes, index[..., None], axis=1)
    iou = pairwise_iou(best, boxes)[:, 0]
    if method == "linear":
      factor = jnp.where(iou > _rounded_down(threshold), 1.0 - iou, 1.0)
    else:
      factor = jnp.exp(-jnp.square(iou) / sigma)
    if group is not None:
      factor = jnp.where(at(group) == group, factor, 1.0)
    taken = jnp.arange(count) == index
    lowered = jnp.where(scores > 0, scores * factor, scores)
    return jnp.where(taken, -1.0, lowered), (index[:, 0], score[:, 0])

  _, (index, scores) = jax.lax.scan(step, scores, length=max_outputs)
  index, scores = index.T.astype(jnp.int32), scores.T
  kept = ~(scores < jnp.float32(min_score)) & ~(scores <= 0)
  shaped = lambda x: x.reshape(*batch, max_outputs)  # noqa: E731
  return Kept(shaped(index), shaped(jnp.where(kept, scores, 0.0)), shaped(kept))
