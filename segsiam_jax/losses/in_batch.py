"""Losses over all pairs and triplets inside a batch.

What is averaged here are pairs and triplets, not examples, and how many there
are is known only after looking at the batch. So these losses return a
`WeightedLoss`: a value per anchor and the weight of each. Its `mean()` is the
loss of the paper; and as `sum(weights * values) / sum(weights)` it stays exact
when sums are taken over parts, as in `metrics.Mean.of(values, where=weights)`.

The batch must be the global one: under `jit` over a mesh it is, under `pmap`
gather it with `segsiam_jax.ops.all_gather_batch`.

Arguments all share: `embeddings (B, D)` of any float dtype, computed with in
float32; integer `labels (B,)`, equal = same identity; `where (B,)`, nonzero =
count; integer `ids (B,)`, equal = copies of one example, which form no pair;
`num_anchors`, the rows that are anchors, the first ones, where the others are
only compared with: a cross-batch memory (Wang et al., arXiv:1912.06798), to
which no gradient should go. A result then has `num_anchors` values. Nothing
broadcasts: shapes that do not fit, and `num_anchors` outside [0, B], are a
`ValueError`.

Labels and ids of 64 bits stay distinct if they are NumPy arrays. Arguments of a
compiled function have been cut to 32 bits by `jit`, unless x64 is on: renumber
such labels with `segsiam_jax.ops.renumber` first.

A NaN in a row that counts makes every value NaN, also where a choice of pairs
or triplets would pass over it.
"""

from typing import Literal, get_args

import jax
import jax.numpy as jnp

from segsiam_jax.losses._batch import Batch, keep_nan, prepare
from segsiam_jax.losses._masking import masked_logsumexp
from segsiam_jax.losses.weighted import WeightedLoss
from segsiam_jax.ops.distances import (
  Metric,
  l2_normalize,
  paired_distances,
  pairwise_cosine_similarities,
  pairwise_distances,
)
from segsiam_jax.ops.mining import (
  Fallback,
  mine_distance_weighted,
  mine_hard,
  mine_multi_similarity,
  mine_semi_hard,
)

__all__ = [
  "batch_triplet_loss",
  "multi_similarity_loss",
  "nt_xent_loss",
  "supervised_contrastive_loss",
]

Mining = Literal["hard", "semi_hard", "all", "distance_weighted"]
AverageOver = Literal["valid", "active"]


def batch_triplet_loss(
  embeddings: jax.Array,
  labels: jax.Array,
  *,
  mining: Mining = "hard",
  margin: float = 0.2,
  distance: Metric = "euclidean",
  soft: bool = False,
  average_over: AverageOver = "valid",
  semi_hard_fallback: Fallback = "easiest",
  rng: jax.Array | None = None,
  where: jax.Array | None = None,
  ids: jax.Array | None = None,
  num_anchors: int | None = None,
) -> WeightedLoss:
  """Triplet loss over triplets chosen among all those of the batch.

  `max(0, d(a, p) - d(a, n) + margin)`, averaged over

  * "hard": one triplet per anchor, of its farthest positive and nearest
    negative (Hermans et al., arXiv:1703.07737, eq. 5; `BatchHardMiner` of
    pytorch-metric-learning; `TripletHardLoss` of tensorflow-addons, which
    also counts anchors that have no positive).
  * "semi_hard": all pairs of an anchor and a positive, each with its nearest
    negative beyond the positive (Schroff et al., arXiv:1503.03832).
    `TripletSemiHardLoss` of tensorflow-addons is `distance="sq_euclidean",
    margin=1.0, semi_hard_fallback="easiest"`.
  * "all": all triplets ("batch all" of Hermans et al.). Most soon have zero
    loss, so `average_over="active"` is customary. Takes O(B^3) time, O(B^2)
    memory.
  * "distance_weighted": all pairs of an anchor and a positive, each with a
    random negative (`mine_distance_weighted`), drawn by the distances of the
    normalised embeddings whatever `distance` is.

  Nothing is normalised otherwise: pass `l2_normalize(embeddings)` for a margin
  on the unit sphere, as FaceNet and pytorch-metric-learning have it. Non-
  squared distances, the default, make collapse to a point less likely with
  hard triplets (Hermans et al.). A loss that stays at `margin` indicates that
  collapse.

  Args:
    embeddings: `(B, D)`.
    labels: `(B,)`.
    mining: see above.
    margin: in units of the distance.
    distance: a metric of `pairwise_distances`.
    soft: `softplus` in place of `max(0, .)`, margin included; Hermans et al.
      set `margin=0.0`.
    average_over: "valid" averages over all the triplets chosen, "active" over
      those with a loss above 0 ("batch all, non-zero" of Hermans et al.; the
      `AvgNonZeroReducer` that pytorch-metric-learning takes by default). The
      latter does not fall while fewer triplets violate the margin.
    semi_hard_fallback: the negative of pairs that have none beyond them, see
      `mine_semi_hard`.
    rng: typed key; needed by "distance_weighted" only.
    where: `(B,)`.
    ids: `(B,)`.
    num_anchors: None for all.

  Returns:
    Per anchor, the mean over its triplets and their number; `(B,)` each.

  Raises:
    ValueError: unknown `mining`, `distance`, `average_over` or fallback, or
      no `rng` where one is needed.

  >>> embeddings = jnp.array([[0.0], [1.0], [1.5], [9.0]])
  >>> loss = batch_triplet_loss(embeddings, jnp.array([0, 0, 1, 2]), margin=1.0)
  >>> loss.values.tolist(), loss.weights.tolist()
  ([0.5, 1.5, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0])
  >>> float(loss.mean())
  1.0
  """
  if mining not in get_args(Mining):
    raise ValueError(
      f"mining must be one of {', '.join(get_args(Mining))}; got {mining!r}"
    )
  if mining == "distance_weighted" and rng is None:
    raise ValueError('mining="distance_weighted" needs rng=jax.random.key(...)')
  if average_over not in ("valid", "active"):
    raise ValueError(
      f"average_over must be valid or active; got {average_over!r}"
    )
  batch = prepare(
    embeddings, labels, where=where, ids=ids, num_anchors=num_anchors
  )
  anchors, embeddings, masks = batch
  margin = jnp.float32(margin)

  def penalty(violations):
    return (jax.nn.softplus if soft else jax.nn.relu)(violations + margin)

  def count(losses, valid):
    return valid & (losses > 0) if average_over == "active" else valid

  if mining == "hard":
    triplets = mine_hard(
      pairwise_distances(anchors, embeddings, metric=distance), *masks
    )
    # Distances of the chosen, again: exact for close vectors, and a backward
    # pass of B rows rather than B^2 pairs.
    losses = penalty(
      paired_distances(anchors, embeddings[triplets.positive], distance)
      - paired_distances(anchors, embeddings[triplets.negative], distance)
    )
    loss = _average(losses[:, None], count(losses, triplets.valid)[:, None])
    return keep_nan(loss, embeddings)

  distances = pairwise_distances(anchors, embeddings, metric=distance)
  if mining == "all":
    loss = _average_all_triplets(distances, masks, penalty, count)
    return keep_nan(loss, embeddings)
  if mining == "semi_hard":
    mined = mine_semi_hard(distances, *masks, fallback=semi_hard_fallback)
  else:
    assert rng is not None
    mined = mine_distance_weighted(
      rng,
      pairwise_distances(l2_normalize(anchors), l2_normalize(embeddings)),
      *masks,
      embedding_size=embeddings.shape[1],
    )
  to_negative = jnp.take_along_axis(distances, mined.index, axis=1)
  losses = penalty(distances - to_negative)
  return keep_nan(_average(losses, count(losses, mined.valid)), embeddings)


def nt_xent_loss(
  embeddings: jax.Array,
  labels: jax.Array,
  *,
  temperature: float = 0.1,
  where: jax.Array | None = None,
  ids: jax.Array | None = None,
  num_anchors: int | None = None,
) -> WeightedLoss:
  """Normalised temperature-scaled cross-entropy over pairs (SimCLR).

  For an anchor a, a positive p and cosine similarities s, averaged over pairs:
  `-log(exp(s_ap / t) / (exp(s_ap / t) + sum_n exp(s_an / t)))`
  (Chen et al., arXiv:2002.05709, eq. 1).

  SimCLR's two views of N images are `embeddings = concatenate([x, y])` and
  `labels = concatenate([arange(N), arange(N)])`. With more than one positive
  per anchor, the others are left out of the denominator, as they are in
  pytorch-metric-learning's `NTXentLoss` and `optax.losses.ntxent` (which both
  default to t = 0.07, and of which optax returns NaN for a batch without
  positive pairs); `supervised_contrastive_loss` keeps them there.

  Args:
    embeddings: `(B, D)`, normalised here.
    labels: `(B,)`.
    temperature: t.
    where: `(B,)`.
    ids: `(B,)`.
    num_anchors: None for all.

  Returns:
    Per anchor, the mean over its positives and their number; `(B,)` each.

  >>> embeddings = jnp.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
  >>> loss = nt_xent_loss(embeddings, jnp.array([0, 0, 1]), temperature=1.0)
  >>> round(float(loss.mean()), 4)  # log(1 + exp(-1))
  0.3133
  """
  batch = prepare(
    embeddings, labels, where=where, ids=ids, num_anchors=num_anchors
  )
  logits, positive, negative = _logits(batch, temperature)
  negatives = masked_logsumexp(logits, negative, axis=1)
  losses = jax.nn.softplus(negatives[:, None] - logits)
  return keep_nan(_average(losses, positive), batch.embeddings)


def supervised_contrastive_loss(
  embeddings: jax.Array,
  labels: jax.Array,
  *,
  temperature: float = 0.1,
  where: jax.Array | None = None,
  ids: jax.Array | None = None,
  num_anchors: int | None = None,
) -> WeightedLoss:
  """Cross-entropy against all the positives of an anchor (SupCon).

  For an anchor a with positives P and cosine similarities s, averaged over
  anchors that have a positive:
  `-1/|P| sum_p log(exp(s_ap / t) / sum_j exp(s_aj / t))`, j over all others,
  the other positives included (Khosla et al., arXiv:2004.11362, eq. 2, the
  form with the sum outside of the logarithm).

  A batch without a pair of different identities has no loss, as in
  pytorch-metric-learning, whose `SupConLoss` this equals. (The formula alone
  would push the examples of one identity apart.) The authors' code multiplies
  by `temperature / base_temperature`, 1 by default. With one positive per
  anchor it equals `nt_xent_loss`.

  Args:
    embeddings: `(B, D)`, normalised here.
    labels: `(B,)`.
    temperature: t.
    where: `(B,)`.
    ids: `(B,)`.
    num_anchors: None for all.

  Returns:
    Per anchor, the loss and 1, or 0 and 0 without a positive, or without any
    negative in the batch; `(B,)` each.

  >>> embeddings = jnp.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
  >>> loss = supervised_contrastive_loss(
  ...   embeddings, jnp.array([0, 0, 1]), temperature=1.0
  ... )
  >>> loss.weights.tolist(), round(float(loss.mean()), 4)
  ([1.0, 1.0, 0.0], 0.3133)
  """
  batch = prepare(
    embeddings, labels, where=where, ids=ids, num_anchors=num_anchors
  )
  logits, positive, negative = _logits(batch, temperature)
  others = masked_logsumexp(logits, positive | negative, axis=1)
  values, num_positives = _average(others[:, None] - logits, positive)
  one_class = ~negative.any()
  loss = WeightedLoss(
    jnp.where(one_class, 0.0, values),
    jnp.where(one_class, 0.0, jnp.minimum(num_positives, 1.0)),
  )
  return keep_nan(loss, batch.embeddings)


def multi_similarity_loss(
  embeddings: jax.Array,
  labels: jax.Array,
  *,
  alpha: float = 2.0,
  beta: float = 50.0,
  base: float = 0.5,
  epsilon: float | None = 0.1,
  where: jax.Array | None = None,
  ids: jax.Array | None = None,
  num_anchors: int | None = None,
) -> WeightedLoss:
  """Multi-similarity loss with its mining (Wang et al., CVPR 2019).

  For an anchor a with positives P, negatives N and cosine similarities s:
  `1/alpha log(1 + sum_P exp(-alpha (s_ap - base)))
  + 1/beta log(1 + sum_N exp(beta (s_an - base)))`, averaged over all anchors;
  an anchor with no pair kept by the mining adds 0, as in the authors' code.

  The paper states `base` 1 and beta 50, the authors' code 0.5 and 40,
  pytorch-metric-learning's `MultiSimilarityLoss` 0.5 and 50 (taken here).

  Args:
    embeddings: `(B, D)`, normalised here.
    labels: `(B,)`.
    alpha: sharpness of the positive term.
    beta: sharpness of the negative term.
    base: similarity at which pairs start to count; lambda in the paper.
    epsilon: tolerance of `mine_multi_similarity`; None keeps all pairs, as
      pytorch-metric-learning does without a miner.
    where: `(B,)`.
    ids: `(B,)`.
    num_anchors: None for all.

  Returns:
    Per anchor, the loss and 1 (0 where `where` is 0); `(B,)` each.

  >>> embeddings = jnp.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
  >>> loss = multi_similarity_loss(
  ...   embeddings, jnp.array([0, 0, 1]), epsilon=None
  ... )
  >>> [round(float(value), 4) for value in loss.values]
  [0.1566, 0.1566, 0.0]
  """
  batch = prepare(
    embeddings, labels, where=where, ids=ids, num_anchors=num_anchors
  )
  anchors, embeddings, masks = batch
  similarities = pairwise_cosine_similarities(anchors, embeddings)
  if epsilon is not None:
    masks = mine_multi_similarity(similarities, *masks, epsilon=epsilon)
  alpha, beta, base = (jnp.float32(number) for number in (alpha, beta, base))
  pull = masked_logsumexp(alpha * (base - similarities), masks.positive, 1)
  push = masked_logsumexp(beta * (similarities - base), masks.negative, 1)
  values = jax.nn.softplus(pull) / alpha + jax.nn.softplus(push) / beta
  weights = jnp.ones_like(values)
  if where is not None:
    # A masked row has no pairs, so its value is 0 already.
    counted = jnp.asarray(where)[: len(anchors)] != 0
    weights = counted.astype(jnp.float32)
  return keep_nan(WeightedLoss(values, weights), embeddings)


def _logits(
  batch: Batch, temperature: float
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Scaled cosines, and the masks of positives and of negatives."""
  similarities = pairwise_cosine_similarities(batch.anchors, batch.embeddings)
  return similarities / jnp.float32(temperature), *batch.masks


def _average(losses: jax.Array, counted: jax.Array) -> WeightedLoss:
  """Mean over the counted columns, and their number, of each row."""
  counts = jnp.sum(counted, axis=1).astype(jnp.float32)
  totals = jnp.sum(jnp.where(counted, losses, 0.0), axis=1)
  return WeightedLoss(totals / jnp.maximum(counts, 1.0), counts)


def _average_all_triplets(distances, masks, penalty, count) -> WeightedLoss:
  """Mean over all triplets of each anchor.

  One positive at a time for all anchors at once: no (B, B, B) array, neither
  here nor, thanks to the checkpoint, in the backward pass, and the anchors
  stay spread over devices.
  """

  @jax.checkpoint
  def add_positive(sums, positive):
    to_positive, is_positive = positive
    losses = penalty(to_positive[:, None] - distances)
    counted = count(losses, is_positive[:, None] & masks.negative)
    return (
      sums[0] + jnp.sum(jnp.where(counted, losses, 0.0), axis=1),
      sums[1] + jnp.sum(counted, axis=1).astype(jnp.float32),
    ), None

  zeros = jnp.zeros(len(distances), jnp.float32)
  (totals, counts), _ = jax.lax.scan(
    add_positive, (zeros, zeros), (distances.T, masks.positive.T)
  )
  return WeightedLoss(totals / jnp.maximum(counts, 1.0), counts)
