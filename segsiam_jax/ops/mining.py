"""Selection of pairs and triplets inside a batch, with static shapes.

Miners read a distance matrix and two masks over it, which say who may be a
positive and who a negative of each anchor, and return masks or indices of a
fixed size with a mask of the valid ones. So all can be compiled, and they
serve a batch against itself (`pair_masks`) as well as anchors against a
memory or a gallery (`(A, N)` matrices of any origin).

Nothing is differentiated through a choice: miners stop gradients. Distances are
compared in float32. An infinite one is the farthest of all, and a candidate
like any other. A NaN makes a choice meaningless, and the losses of
`losses.in_batch` NaN. Nothing broadcasts: shapes that do not fit are a
`ValueError`.
"""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from segsiam_jax.ops.labels import to_ids
from segsiam_jax.ops.shapes import check_shapes

Fallback = Literal["easiest", "hardest", "skip"]


class PairMasks(NamedTuple):
  """Who may be paired with whom.

  Attributes:
    positive: `(A, N)` bool, column is a positive of the anchor (row).
    negative: `(A, N)` bool, column is a negative of the anchor.
  """

  positive: jax.Array
  negative: jax.Array


class HardTriplets(NamedTuple):
  """One triplet per anchor.

  Attributes:
    positive: `(A,)` int32, column of the positive.
    negative: `(A,)` int32, column of the negative.
    valid: `(A,)` bool, the anchor has both; the indices are 0 otherwise.
  """

  positive: jax.Array
  negative: jax.Array
  valid: jax.Array


class MinedNegatives(NamedTuple):
  """One negative per anchor-positive pair.

  Attributes:
    index: `(A, N)` int32, column of the negative for the pair of the anchor
      (row) with the positive (column).
    valid: `(A, N)` bool, the column is a positive and has a negative.
  """

  index: jax.Array  # type: ignore[assignment]
  valid: jax.Array


def pair_masks(
  labels: jax.Array,
  *,
  where: jax.Array | None = None,
  ids: jax.Array | None = None,
) -> PairMasks:
  """Masks of all pairs of a batch with itself.

  Args:
    labels: `(B,)` integer identities; of 64 bits too, unless `jit` has cut
      them to 32.
    where: `(B,)` mask, nonzero = count; padding is paired with nothing.
    ids: `(B,)` integer example ids. Samplers that draw with replacement, and
      augmented copies, put one example into a batch twice. With ids, two
      copies do not form a pair; without, only a row and itself are not.

  Returns:
    `(B, B)` masks.

  >>> pair_masks(jnp.array([5, 5, 7])).positive.astype(int).tolist()
  [[0, 1, 0], [1, 0, 0], [0, 0, 0]]
  """
  check_shapes(labels=(labels, "B"), where=(where, "B"), ids=(ids, "B"))
  labels = jnp.asarray(to_ids(labels))
  same = labels[:, None] == labels
  allowed = ~jnp.eye(len(labels), dtype=bool)
  if ids is not None:
    ids = jnp.asarray(to_ids(ids))
    allowed &= ids[:, None] != ids
  if where is not None:
    counted = jnp.asarray(where) != 0
    allowed &= counted[:, None] & counted
  return PairMasks(positive=same & allowed, negative=~same & allowed)


def mine_hard(
  distances: jax.Array, positive: jax.Array, negative: jax.Array
) -> HardTriplets:
  """Farthest positive and nearest negative of every anchor ("batch hard").

  Hermans et al., "In Defense of the Triplet Loss", arXiv:1703.07737, eq. 5.
  Of equals, the first is taken. An anchor without positives (a singleton
  identity) or without negatives is not valid; implementations that mask by
  multiplication (tensorflow-addons 0.23, triplet-reid) take a distance of 0,
  often that of the anchor to itself, for its hardest positive.

  Args:
    distances: `(A, N)`, smaller = more similar.
    positive: `(A, N)` bool mask.
    negative: `(A, N)` bool mask.

  Returns:
    One triplet per anchor.

  >>> distances = jnp.array([[0.0, 1.0, 3.0, 2.0]])
  >>> masks = jnp.array([[0, 1, 1, 0]]) == 1, jnp.array([[0, 0, 0, 1]]) == 1
  >>> triplets = mine_hard(distances, *masks)
  >>> [int(part[0]) for part in triplets]
  [2, 3, 1]
  """
  distances, positive, negative = _candidates(distances, positive, negative)
  valid = positive.any(axis=1) & negative.any(axis=1)
  if not distances.shape[1]:
    nothing = jnp.zeros(len(distances), jnp.int32)
    return HardTriplets(nothing, nothing, valid)
  farthest = jnp.argmax(jnp.where(positive, distances, -jnp.inf), axis=1)
  nearest = jnp.argmin(jnp.where(negative, distances, jnp.inf), axis=1)
  return HardTriplets(
    positive=jnp.where(valid, farthest, 0).astype(jnp.int32),
    negative=jnp.where(valid, nearest, 0).astype(jnp.int32),
    valid=valid,
  )


def mine_semi_hard(
  distances: jax.Array,
  positive: jax.Array,
  negative: jax.Array,
  *,
  fallback: Fallback = "easiest",
) -> MinedNegatives:
  """Nearest negative beyond each positive.

  For every anchor a and positive p, the n with the smallest `d(a, n)` among
  those with `d(a, n) > d(a, p)`: FaceNet's semi-hard negatives (Schroff et
  al., arXiv:1503.03832, eq. 4). Its upper bound `d(a, n) < d(a, p) + margin`
  is left to the hinge, which is 0 beyond it.

  Libraries differ where no negative is beyond the positive, so this is the
  argument `fallback`:

  * "easiest": the farthest negative (tensorflow-addons and
    TensorFlow-Similarity, the latter beyond the farthest positive only).
  * "hardest": the nearest negative.
  * "skip": the pair is not valid (pytorch-metric-learning, whose
    `BatchEasyHardMiner` looks beyond the one chosen positive and whose
    `TripletMarginMiner(type_of_triplets="semihard")` keeps every negative
    within the margin, not the nearest).

  Args:
    distances: `(A, N)`, smaller = more similar.
    positive: `(A, N)` bool mask.
    negative: `(A, N)` bool mask.
    fallback: see above.

  Returns:
    One negative per pair.

  Raises:
    ValueError: unknown fallback.

  >>> distances = jnp.array([[0.0, 2.0, 4.0, 1.0, 3.0]])
  >>> positive = jnp.array([[0, 1, 1, 0, 0]]) == 1
  >>> negative = jnp.array([[0, 0, 0, 1, 1]]) == 1
  >>> mined = mine_semi_hard(distances, positive, negative, fallback="hardest")
  >>> mined.index[0, 1:3].tolist()  # 3.0 beyond 2.0; the nearest for 4.0
  [4, 3]
  """
  if fallback not in ("easiest", "hardest", "skip"):
    raise ValueError(
      f"fallback must be easiest, hardest or skip; got {fallback!r}"
    )
  distances, positive, negative = _candidates(distances, positive, negative)
  # Sorted behind infinity, NaN would be no candidate.
  distances = jnp.nan_to_num(distances, nan=jnp.finfo(jnp.float32).max)
  columns = jax.lax.broadcasted_iota(jnp.int32, distances.shape, 1)
  sorted_distances, order = jax.lax.sort(
    (jnp.where(negative, distances, jnp.inf), columns), num_keys=1
  )
  num_negatives = jnp.sum(negative, axis=1, keepdims=True)
  beyond = _search(sorted_distances, distances)
  found = beyond < num_negatives
  rank = jnp.where(
    found, beyond, 0 if fallback == "hardest" else num_negatives - 1
  )
  index = jnp.take_along_axis(order, jnp.maximum(rank, 0), axis=1)
  valid = positive & (found if fallback == "skip" else num_negatives > 0)
  return MinedNegatives(index=jnp.where(valid, index, 0), valid=valid)


def mine_distance_weighted(
  rng: jax.Array,
  distances: jax.Array,
  positive: jax.Array,
  negative: jax.Array,
  *,
  embedding_size: int,
  cutoff: float = 0.5,
  nonzero_loss_cutoff: float = 1.4,
) -> MinedNegatives:
  """One random negative for each pair, at uniformly distributed distances.

  Points drawn uniformly on the unit sphere of D dimensions are at distance d
  with density `q(d) ~ d^(D-2) (1 - d^2 / 4)^((D-3)/2)`, nearly all of them at
  sqrt(2). A negative is drawn with probability `~ 1 / q(max(d, cutoff))`,
  which corrects for that, and never beyond `nonzero_loss_cutoff`, where
  the loss is mostly 0 (Wu et al., "Sampling Matters in Deep Embedding
  Learning", arXiv:1706.07567, section 4; the cutoffs are of its code). With
  `cutoff=0` the density of a negative at distance 0 is 0: it is left out.

  A pair whose anchor has no negative within the cutoff is not valid. The
  authors' code then draws from the whole batch, positives included;
  pytorch-metric-learning leaves the anchor out as here, but also loses
  anchors whose weights underflow against the largest of the whole batch.

  Args:
    rng: typed key.
    distances: `(A, N)` Euclidean distances of unit vectors.
    positive: `(A, N)` bool mask.
    negative: `(A, N)` bool mask.
    embedding_size: D.
    cutoff: distances below it count as it, to bound the variance.
    nonzero_loss_cutoff: negatives beyond it are never drawn.

  Returns:
    One negative per pair.

  >>> distances = jnp.array([[0.0, 1.0, 1.2, 1.9]])
  >>> positive = jnp.array([[0, 1, 0, 0]]) == 1
  >>> negative = jnp.array([[0, 0, 1, 1]]) == 1
  >>> mined = mine_distance_weighted(
  ...   jax.random.key(0), distances, positive, negative, embedding_size=8
  ... )
  >>> int(mined.index[0, 1]), bool(mined.valid[0, 1])
  (2, True)
  """
  distances, positive, negative = _candidates(distances, positive, negative)
  candidates = negative & (distances < jnp.float32(nonzero_loss_cutoff))
  # Rounding and callers with a larger nonzero_loss_cutoff reach d >= 2,
  # where the density is 0 and its logarithm not finite.
  clipped = jnp.clip(distances, jnp.float32(cutoff), 2.0 - 1e-6)
  log_weights = jax.scipy.special.xlogy(2.0 - embedding_size, clipped) - 0.5 * (
    embedding_size - 3.0
  ) * jnp.log1p(-0.25 * clipped**2)
  candidates &= jnp.isfinite(log_weights)
  log_weights = jnp.where(candidates, log_weights, -jnp.inf)
  # The maximum of each row, not of the batch: exp would underflow.
  peak = jnp.max(log_weights, axis=1, keepdims=True, initial=-jnp.inf)
  weights = jnp.exp(log_weights - jnp.where(jnp.isfinite(peak), peak, 0.0))
  cumulative = jnp.cumsum(weights, axis=1)
  # Inverse transform sampling: Gumbel noise would need (A, N, N) numbers.
  draws = (
    jax.random.uniform(rng, distances.shape, jnp.float32) * cumulative[:, -1:]
  )
  columns = jnp.arange(distances.shape[1])
  last = jnp.max(
    jnp.where(weights > 0, columns, 0), axis=1, keepdims=True, initial=0
  )
  # A draw may round up to the total, which is past the last candidate.
  index = jnp.minimum(_search(cumulative, draws), last)
  valid = positive & candidates.any(axis=1, keepdims=True)
  return MinedNegatives(
    index=jnp.where(valid, index, 0).astype(jnp.int32), valid=valid
  )


def mine_multi_similarity(
  similarities: jax.Array,
  positive: jax.Array,
  negative: jax.Array,
  *,
  epsilon: float = 0.1,
) -> PairMasks:
  """Pairs that are informative relative to the opposite pairs of the anchor.

  Keeps negatives with `s(a, n) > min_p s(a, p) - epsilon` and positives with
  `s(a, p) < max_n s(a, n) + epsilon` (Wang et al., "Multi-Similarity Loss",
  CVPR 2019). Anchors without positives or without negatives
  keep none.

  Args:
    similarities: `(A, N)`, larger = more similar.
    positive: `(A, N)` bool mask.
    negative: `(A, N)` bool mask.
    epsilon: tolerance in units of similarity.

  Returns:
    The masks of the pairs that are kept.

  >>> similarities = jnp.array([[1.0, 0.6, 0.55, -0.2]])
  >>> positive = jnp.array([[0, 1, 0, 0]]) == 1
  >>> negative = jnp.array([[0, 0, 1, 1]]) == 1
  >>> kept = mine_multi_similarity(similarities, positive, negative)
  >>> kept.positive[0].astype(int).tolist(), kept.negative[0].tolist()
  ([0, 1, 0, 0], [False, False, True, False])
  """
  check_shapes(
    similarities=(similarities, "A N"),
    positive=(positive, "A N"),
    negative=(negative, "A N"),
  )
  similarities = jax.lax.stop_gradient(jnp.asarray(similarities, jnp.float32))
  epsilon = jnp.float32(epsilon)
  least_positive = jnp.min(
    similarities,
    axis=1,
    keepdims=True,
    where=positive,
    initial=jnp.inf,
  )
  most_negative = jnp.max(
    similarities,
    axis=1,
    keepdims=True,
    where=negative,
    initial=-jnp.inf,
  )
  return PairMasks(
    positive=positive & (similarities < most_negative + epsilon),
    negative=negative & (similarities > least_positive - epsilon),
  )


def _candidates(
  distances: jax.Array, positive: jax.Array, negative: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Distances in float32, no number beyond its largest, and the masks."""
  check_shapes(
    distances=(distances, "A N"),
    positive=(positive, "A N"),
    negative=(negative, "A N"),
  )
  distances = jax.lax.stop_gradient(jnp.asarray(distances, jnp.float32))
  # Infinity stands for what is not a candidate.
  largest = jnp.finfo(jnp.float32).max
  distances = jnp.clip(distances, -largest, largest)
  return distances, jnp.asarray(positive), jnp.asarray(negative)


def _search(sorted_rows: jax.Array, values: jax.Array) -> jax.Array:
  """Index of the first entry of the same row greater than each value."""
  return jax.vmap(lambda row, v: jnp.searchsorted(row, v, side="right"))(
    sorted_rows, values
  )
