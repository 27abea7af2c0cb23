"""Which truth a box is trained on, and which boxes are trained at all.

Array operations of static shape, for any leading axes: nothing is gathered by
a mask, and what is not there is marked.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from segsiam_jax.ops.shapes import check_integer, check_shapes

# What `match` gives for boxes that are background, and that are to be ignored.
BACKGROUND = -1
IGNORED = -2


def match(
  overlaps: jax.Array,
  valid: jax.Array,
  *,
  high: float,
  low: float,
  keep_best: bool,
) -> jax.Array:
  """The true box that each anchor or proposal belongs to.

  Args:
    overlaps: `(..., N, A)` IoU of true boxes with anchors.
    valid: `(..., N)`, nonzero for true boxes that are there.
    high: from this overlap on, an anchor is on an object.
    low: below, it is background; between the two it is ignored.
    keep_best: whether the anchors that a true box overlaps most, all of them
      where they tie, count as on an object however little that is, as in the
      RPN. Such an anchor still belongs to the box that overlaps *it* most, as
      in torchvision and detectron2.

  Returns:
    `(..., A)` int32: the true box's index, `BACKGROUND` or `IGNORED`; without
    any true box all are background. An anchor whose overlap with a true box is
    NaN belongs to it, so that the losses made of the two are NaN.

  Raises:
    ValueError: shapes that do not fit, or limits out of order.

  >>> overlaps = jnp.array([[0.8, 0.4, 0.1], [0.0, 0.2, 0.25]])
  >>> valid = jnp.ones(2)
  >>> match(overlaps, valid, high=0.7, low=0.3, keep_best=False).tolist()
  [0, -2, -1]
  >>> match(overlaps, valid, high=0.7, low=0.3, keep_best=True).tolist()
  [0, -2, 1]
  """
  check_shapes(overlaps=(overlaps, "*B N A"), valid=(valid, "*B N"))
  if not low <= high:
    raise ValueError(f"low, high: expected low <= high; got {low}, {high}")
  overlaps, valid = jnp.asarray(overlaps, jnp.float32), jnp.asarray(valid)
  if not overlaps.shape[-2]:
    no_truth = (*overlaps.shape[:-2], overlaps.shape[-1])
    return jnp.full(no_truth, BACKGROUND, jnp.int32)
  overlaps = jnp.where(valid[..., None] != 0, overlaps, -1.0)
  if keep_best:
    # Compared with its own maximum below: it must be computed once.
    overlaps = jax.lax.optimization_barrier(overlaps)
  best = overlaps.argmax(-2).astype(jnp.int32)
  value = overlaps.max(-2)
  matches = jnp.where(value < jnp.float32(high), IGNORED, best)
  matches = jnp.where(value < jnp.float32(low), BACKGROUND, matches)
  if keep_best:
    of_truth = overlaps.max(-1, keepdims=True, initial=-1.0)
    kept = ((overlaps == of_truth) & (of_truth > 0)).any(-2)
    matches = jnp.where(kept, best, matches)
  return matches


class Samples(NamedTuple):
  """Boxes that are trained on; positives come first.

  Attributes:
    index: `(..., S)` int32, which box.
    positive: `(..., S)` bool.
    valid: `(..., S)` bool: False where there were too few boxes.
  """

  index: jax.Array  # type: ignore[assignment]
  positive: jax.Array
  valid: jax.Array


def balanced_sample(
  keys: jax.Array,
  positive: jax.Array,
  negative: jax.Array,
  *,
  size: int,
  positive_fraction: float,
) -> Samples:
  """Random boxes, at most a fraction of them positive; negatives fill up.

  Args:
    keys: `(B,)` typed keys.
    positive: `(B, A)` bool.
    negative: `(B, A)` bool.
    size: S, how many to take; at most A are.
    positive_fraction: at most `int(S * positive_fraction)` are positive.

  Returns:
    `Samples` of `(B, S)` without repetition.

  Raises:
    ValueError: shapes that do not fit, or numbers out of range.
  """
  check_shapes(
    keys=(keys, "B"), positive=(positive, "B A"), negative=(negative, "B A")
  )
  size = check_integer("size", size, 0)
  if not 0 <= positive_fraction <= 1:
    raise ValueError(
      f"positive_fraction: expected 0 to 1; got {positive_fraction}"
    )
  positive, negative = jnp.asarray(positive), jnp.asarray(negative)
  most = int(size * positive_fraction)
  size = min(size, positive.shape[-1])
  most = min(most, size)

  def sample(key, positive, negative):
    order = jax.random.uniform(key, positive.shape, jnp.float32)
    chosen, index = zip(
      *(
        jax.lax.top_k(jnp.where(mask, order, -1.0), count)
        for mask, count in ((positive, most), (negative, size))
      ),
      strict=True,
    )
    num_positive, num_negative = ((values >= 0).sum() for values in chosen)
    slots = jnp.arange(size)
    is_positive = slots < num_positive
    rest = jnp.where(is_positive, 0, slots - num_positive)
    where = index[1][rest]
    if most:
      where = jnp.where(
        is_positive, index[0][jnp.minimum(slots, most - 1)], where
      )
    return Samples(where, is_positive, slots < num_positive + num_negative)

  return jax.vmap(sample)(keys, positive, negative)
