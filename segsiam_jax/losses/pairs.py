"""Losses of pairs and triplets that the data pipeline has chosen.

All return one float32 value per pair or triplet, compute in float32 and give
0, and gradient 0, where `where` is 0, whatever the inputs hold there. Nothing
broadcasts: shapes that do not fit are a `ValueError`.
`same = 1` means the same identity in all of them.
"""

import jax
import jax.numpy as jnp

from segsiam_jax.losses._masking import zero_padding
from segsiam_jax.ops.distances import Metric, paired_distances
from segsiam_jax.ops.shapes import check_shapes

__all__ = ["binary_similarity_loss", "contrastive_loss", "triplet_loss"]


def contrastive_loss(
  distances: jax.Array,
  same: jax.Array,
  *,
  margin: float = 1.0,
  positive_margin: float = 0.0,
  squared: bool = True,
  half: bool = False,
  where: jax.Array | None = None,
) -> jax.Array:
  """Pulls same pairs together and pushes different ones beyond a margin.

  `same * max(0, d - positive_margin)^2 + (1 - same) * max(0, margin - d)^2`,
  where the squares go with `squared=False` and `half` halves the sum.

  Published forms, in these arguments:

  * Hadsell et al. 2006, "Dimensionality Reduction by Learning an Invariant
    Mapping", eq. 4: `half=True`, and its label is Y = 1 for *different*, so
    `same = 1 - Y`.
  * Keras' example and Dey et al. 2017 (SigNet, arXiv:1707.02131): defaults.
  * pytorch-metric-learning `ContrastiveLoss`: `squared=False` (its mean is
    over the non-zero positive terms plus that over the negative ones).
  * Caffe's `legacy_version`, `same * d^2 + (1 - same) * max(0, margin - d^2)`:
    pass squared distances and `squared=False`.

  Args:
    distances: `(...)` non-negative, as from `paired_distances`. Take its
      "euclidean" with `squared=True`.
    same: `(...)` 1 or True for the same identity, 0 for another.
    margin: distance beyond which different pairs have no loss. It must be
      within reach: unit vectors are at most 2 apart, and outputs of a
      D-dimensional sigmoid at most `sqrt(D)`.
    positive_margin: distance within which same pairs have no loss.
    squared: square both hinges.
    half: halve the loss.
    where: `(...)` mask, nonzero = count.

  Returns:
    `(...)` float32.

  >>> contrastive_loss(jnp.array([0.5, 0.5, 2.0]), jnp.array([1, 0, 0]))
  Array([0.25, 0.25, 0.  ], dtype=float32)
  """
  check_shapes(
    distances=(distances, "*S"), same=(same, "*S"), where=(where, "*S")
  )
  distances = zero_padding(distances, where)
  same = jnp.asarray(same, jnp.float32)
  # 0 times an infinite distance would be NaN.
  near = jnp.where(same == 0, 0.0, distances)
  pull = jax.nn.relu(near - jnp.float32(positive_margin))
  push = jax.nn.relu(jnp.float32(margin) - distances)
  if squared:
    pull, push = jnp.square(pull), jnp.square(push)
  losses = same * pull + (1.0 - same) * push
  return zero_padding(0.5 * losses if half else losses, where)


def triplet_loss(
  anchor: jax.Array,
  positive: jax.Array,
  negative: jax.Array,
  *,
  margin: float = 0.2,
  distance: Metric = "sq_euclidean",
  soft: bool = False,
  swap: bool = False,
  where: jax.Array | None = None,
) -> jax.Array:
  """Pushes the negative farther from the anchor than the positive, by a margin.

  `max(0, d(a, p) - d(a, n) + margin)`. The defaults are FaceNet's (Schroff et
  al., arXiv:1503.03832, eq. 3), which expects vectors of norm 1 (see
  `l2_normalize`; nothing is normalised here).

  Published forms, in these arguments:

  * `torch.nn.TripletMarginLoss`: `distance="euclidean", margin=1.0` (which
    adds 1e-6 to every coordinate's difference).
  * pytorch-metric-learning: `distance="euclidean"`, normalised embeddings,
    margin 0.05 (version 2) or 0.2 (version 3).
  * tensorflow-addons: `distance_metric="L_2"` there is "sq_euclidean" and
    `"L_1"` is "euclidean", margin 1.0.
  * Hermans et al., arXiv:1703.07737, soft margin: `distance="euclidean",
    soft=True, margin=0.0`.

  Args:
    anchor: `(..., D)` embeddings of any float dtype.
    positive: `(..., D)`, of the anchor's identity.
    negative: `(..., D)`, of another one.
    margin: in units of the distance.
    distance: a metric of `pairwise_distances`.
    soft: `softplus(violation)` in place of `max(0, violation)`. The margin is
      kept, so that no argument is silently ignored.
    swap: take the distance between positive and negative for that between
      anchor and negative if it is smaller (Balntas et al., BMVC 2016).
    where: `(...)` mask, nonzero = count.

  Returns:
    `(...)` float32.

  >>> a, p = jnp.array([[1.0, 0.0]]), jnp.array([[0.0, 1.0]])
  >>> triplet_loss(a, p, -a).tolist()  # distances 2 and 4
  [0.0]
  >>> triplet_loss(a, p, p).tolist()
  [0.20000000298023224]
  """
  check_shapes(
    anchor=(anchor, "*S D+"),
    positive=(positive, "*S D"),
    negative=(negative, "*S D"),
    where=(where, "*S"),
  )
  anchor, positive, negative = (
    zero_padding(x, where) for x in (anchor, positive, negative)
  )
  to_positive = paired_distances(anchor, positive, distance)
  to_negative = paired_distances(anchor, negative, distance)
  if swap:
    to_negative = jnp.minimum(
      to_negative, paired_distances(positive, negative, distance)
    )
  penalty = jax.nn.softplus if soft else jax.nn.relu
  violations = to_positive - to_negative + jnp.float32(margin)
  return zero_padding(penalty(violations), where)


def binary_similarity_loss(
  logits: jax.Array,
  same: jax.Array,
  *,
  positive_weight: float = 1.0,
  where: jax.Array | None = None,
) -> jax.Array:
  """Cross-entropy of a learned similarity: is this pair the same identity?

  `-positive_weight * same * log p - (1 - same) * log(1 - p)` with
  `p = sigmoid(logits)`: Koch et al. 2015, "Siamese Neural Networks for
  One-shot Image Recognition", section 3.2, without its L2 penalty.

  Args:
    logits: `(...)` scores before the sigmoid, larger = more similar.
    same: `(...)` 1 or True for the same identity, 0 for another.
    positive_weight: weight of the same pairs, for unbalanced sampling
      (`pos_weight` of `torch.nn.BCEWithLogitsLoss`).
    where: `(...)` mask, nonzero = count.

  Returns:
    `(...)` float32.

  >>> binary_similarity_loss(jnp.array([0.0, 200.0]), jnp.array([1, 0]))
  Array([  0.6931472, 200.       ], dtype=float32)
  """
  check_shapes(logits=(logits, "*S"), same=(same, "*S"), where=(where, "*S"))
  logits = zero_padding(logits, where)
  same = jnp.asarray(same, jnp.float32)

  def cost(weights, logits):
    # 0 times an infinite logit would be NaN.
    return weights * jax.nn.softplus(jnp.where(weights == 0, 0.0, logits))

  # -log sigmoid(z) = softplus(-z), which neither overflows nor cancels.
  losses = cost(jnp.float32(positive_weight) * same, -logits)
  losses += cost(1.0 - same, logits)
  return zero_padding(losses, where)
