"""What the losses over all pairs of a batch begin and end with."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from segsiam_jax.losses._masking import zero_padding
from segsiam_jax.losses.weighted import WeightedLoss
from segsiam_jax.ops.mining import PairMasks, pair_masks
from segsiam_jax.ops.shapes import check_integer, check_shapes


class Batch(NamedTuple):
  """Rows that are compared with each other.

  Attributes:
    anchors: `(A, D)` float32, the first of the embeddings.
    embeddings: `(B, D)` float32, 0 in padding.
    masks: `(A, B)`, who is a positive and who a negative of each anchor.
  """

  anchors: jax.Array
  embeddings: jax.Array
  masks: PairMasks


def prepare(
  embeddings: jax.Array,
  labels: jax.Array,
  *,
  where: jax.Array | None,
  ids: jax.Array | None,
  num_anchors: int | None,
) -> Batch:
  """Checks shapes, masks padding and pairs the rows.

  Args:
    embeddings: `(B, D)` of any float dtype.
    labels: `(B,)` integers.
    where: `(B,)` mask, nonzero = count.
    ids: `(B,)` integers.
    num_anchors: in [0, B]; None for B.

  Returns:
    The rows.

  Raises:
    ValueError: shapes that do not fit, or `num_anchors` out of range.
  """
  check_shapes(
    embeddings=(embeddings, "B D+"),
    labels=(labels, "B"),
    where=(where, "B"),
    ids=(ids, "B"),
  )
  size = len(embeddings)
  if num_anchors is None:
    num_anchors = size
  num_anchors = check_integer("num_anchors", num_anchors, 0, size)
  embeddings = zero_padding(embeddings, where)
  masks = pair_masks(labels, where=where, ids=ids)
  return Batch(
    anchors=embeddings[:num_anchors],
    embeddings=embeddings,
    masks=PairMasks(*(mask[:num_anchors] for mask in masks)),
  )


def keep_nan(loss: WeightedLoss, *inputs: jax.Array) -> WeightedLoss:
  """NaN in all values, with a weight, if there is one in the inputs.

  A pair or triplet that is chosen, or whose loss is compared with 0, can be
  one without the NaN; and an anchor with nothing to choose from has no weight.

  Args:
    loss: of the batch.
    *inputs: embeddings and the like, without their padding.

  Returns:
    The loss; the same where no input is NaN.
  """
  bad = jnp.stack([jnp.isnan(x).any() for x in inputs]).any()
  return WeightedLoss(
    loss.values + jnp.where(bad, jnp.nan, 0.0),
    jnp.where(bad, jnp.maximum(loss.weights, 1.0), loss.weights),
  )
