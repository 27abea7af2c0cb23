"""Contrastive loss over all pairs inside a batch."""

import jax
import jax.numpy as jnp

from segsiam_jax.losses._batch import keep_nan, prepare
from segsiam_jax.losses.pairs import contrastive_loss
from segsiam_jax.losses.weighted import WeightedLoss
from segsiam_jax.ops.distances import Metric, pairwise_distances

__all__ = ["batch_contrastive_loss"]


def batch_contrastive_loss(
  embeddings: jax.Array,
  labels: jax.Array,
  *,
  margin: float = 1.0,
  positive_margin: float = 0.0,
  squared: bool = True,
  distance: Metric = "euclidean",
  where: jax.Array | None = None,
  ids: jax.Array | None = None,
  num_anchors: int | None = None,
) -> WeightedLoss:
  """`contrastive_loss` of all pairs, same and different ones weighing equally.

  The mean over the same pairs and the mean over the different ones, averaged:
  what random pairs with a ratio of one half cost in expectation. (The mean over
  all pairs alike would hardly see the same ones.)

  Args:
    embeddings: `(B, D)` of any float dtype.
    labels: `(B,)` integers, equal = same identity.
    margin: see `contrastive_loss`.
    positive_margin: likewise.
    squared: likewise.
    distance: a metric of `pairwise_distances`.
    where: `(B,)` mask, nonzero = count.
    ids: `(B,)` integers, equal = copies of one example, which form no pair.
    num_anchors: the first rows, that are compared with all; None for all. See
      `losses.in_batch`, also for 64-bit labels and NaN.

  Returns:
    Per anchor, `(num_anchors,)` each. The weights add up to 2 where there are
    pairs of either kind.

  Raises:
    ValueError: unknown distance, shapes that do not fit, or `num_anchors` out
      of range.

  >>> embeddings = jnp.array([[0.0], [0.5], [0.7]])
  >>> loss = batch_contrastive_loss(embeddings, jnp.array([0, 0, 1]))
  >>> round(float(loss.mean()), 4)  # (0.25 + (0.3**2 + 0.8**2) / 2) / 2
  0.3075
  """
  batch = prepare(
    embeddings, labels, where=where, ids=ids, num_anchors=num_anchors
  )
  losses = contrastive_loss(
    pairwise_distances(batch.anchors, batch.embeddings, distance),
    batch.masks.positive,
    margin=margin,
    positive_margin=positive_margin,
    squared=squared,
  )
  shares = sum(
    mask / jnp.maximum(jnp.sum(mask, dtype=jnp.float32), 1)
    for mask in batch.masks
  )
  weights = jnp.sum(shares, axis=1)
  totals = jnp.sum(jnp.where(shares > 0, shares * losses, 0.0), axis=1)
  values = jnp.where(
    weights > 0, totals / jnp.where(weights > 0, weights, 1), 0
  )
  return keep_nan(WeightedLoss(values, weights), batch.embeddings)
