"""N-way K-shot accuracy, with the uncertainty it must be reported with.

Ties never favour the right answer: a query whose right class shares the best
score with others counts as its expected value under random choice. So a network
with constant output scores 1/N, where `argmax` with the right class always
first (a common evaluation bug) reports 100 %.
"""

from typing import Literal, NamedTuple

import flax
import jax
import jax.numpy as jnp
import numpy as np

from segsiam_jax.metrics.base import MetricState
from segsiam_jax.metrics.intervals import (
  Interval,
  t_interval,
  wilson_interval,
)
from segsiam_jax.ops.distances import Metric, paired_distances
from segsiam_jax.ops.labels import to_classes
from segsiam_jax.ops.shapes import check_integer, check_shapes

Rule = Literal["prototype", "nearest"]


class FewShotResult(NamedTuple):
  """Accuracy over episodes.

  Attributes:
    accuracy: mean over all queries.
    wilson: interval of a rate over all queries taken as independent, as in
      the 400 one-shot trials of Lake et al. and Koch et al.
    t: interval of the mean over episodes, as printed for thousands of random
      episodes (Snell et al.); infinite for a single one.
  """

  accuracy: float
  wilson: Interval
  t: Interval


def top_1_with_ties(scores: jax.Array, labels: jax.Array) -> jax.Array:
  """Probability that the best-scored class is the right one.

  1 or 0, or 1/n if the right class is one of n with the best score. NaN where
  a score is NaN.

  Args:
    scores: `(..., N)`, larger = more similar; from any model, as the learned
      similarity of Koch et al.
    labels: `(...)` integers in [0, N); any other is never right.

  Returns:
    `(...)` float32.

  Raises:
    ValueError: shapes that do not fit.

  >>> scores = jnp.array([[0.1, 0.9, 0.3], [0.5, 0.5, 0.5]])
  >>> top_1_with_ties(scores, jnp.array([1, 0])).tolist()
  [1.0, 0.3333333432674408]
  """
  check_shapes(scores=(scores, "*S N+"), labels=(labels, "*S"))
  scores, labels = jnp.asarray(scores), jnp.asarray(to_classes(labels))
  highest = jnp.max(scores, axis=-1, keepdims=True)
  best = scores == highest
  right = best & (labels[..., None] == jnp.arange(scores.shape[-1]))
  number = jnp.sum(best, axis=-1, dtype=jnp.float32)
  chance = right.any(axis=-1) / jnp.maximum(number, 1.0)
  return jnp.where(jnp.isnan(highest[..., 0]), jnp.nan, chance)


def episode_accuracy(
  support: jax.Array,
  queries: jax.Array,
  *,
  metric: Metric = "sq_euclidean",
  rule: Rule = "prototype",
) -> jax.Array:
  """Accuracy of each episode from embeddings; can be compiled.

  Args:
    support: `(..., N, K, D)` embeddings of K examples of N classes.
    queries: `(..., N, Q, D)` embeddings to classify; those at index n belong
      to class n.
    metric: a metric of `paired_distances`.
    rule: "prototype" compares with the mean of each class (Snell et al.,
      "Prototypical Networks", arXiv:1703.05175), "nearest" with its nearest
      example. The same for K = 1.

  Returns:
    `(...)` float32; NaN where an embedding of the episode is NaN.

  Raises:
    ValueError: unknown rule, or shapes that do not fit, as of different N.

  >>> support = jnp.array([[[0.0]], [[1.0]]])
  >>> queries = jnp.array([[[0.2]], [[0.4]]])
  >>> float(episode_accuracy(support, queries))
  0.5
  """
  check_shapes(support=(support, "*E N+ K+ D+"), queries=(queries, "*E N Q+ D"))
  queries = jnp.asarray(queries)
  num_classes, num_queries = queries.shape[-3:-1]
  support = jnp.asarray(support, jnp.float32)
  if rule == "prototype":
    support = jnp.mean(support, axis=-2, keepdims=True)
  elif rule != "nearest":
    raise ValueError(f"rule must be prototype or nearest; got {rule!r}")
  # Differences rather than a product of matrices, as equal vectors must have
  # equal distances to the last bit for ties to be seen: (..., N, Q, N, K).
  distances = paired_distances(
    queries[..., :, :, None, None, :], support[..., None, None, :, :, :], metric
  )
  scores = -jnp.min(distances, axis=-1)
  labels = jnp.broadcast_to(
    jnp.arange(num_classes)[:, None],
    (*scores.shape[:-3], num_classes, num_queries),
  )
  return jnp.mean(top_1_with_ties(scores, labels), axis=(-2, -1))


def n_way_k_shot_accuracy(
  support: jax.Array,
  queries: jax.Array,
  *,
  metric: Metric = "sq_euclidean",
  rule: Rule = "prototype",
  confidence: float = 0.95,
) -> FewShotResult:
  """Accuracy over episodes, with intervals.

  Args:
    support: `(E, N, K, D)` embeddings of E episodes.
    queries: `(E, N, Q, D)`, see `episode_accuracy`.
    metric: of `episode_accuracy`.
    rule: of `episode_accuracy`.
    confidence: of both intervals.

  Returns:
    Accuracy, Wilson interval and t interval.

  Raises:
    ValueError: unknown rule, shapes that do not fit, or confidence outside
      (0, 1).

  >>> constant = jnp.zeros((400, 20, 1, 8))
  >>> result = n_way_k_shot_accuracy(constant, constant)
  >>> round(result.accuracy, 6)
  0.05
  """
  check_shapes(support=(support, "E N K D"), queries=(queries, "E N Q D"))
  # Compiled, the differences of all pairs never exist in memory.
  accuracies = jax.jit(episode_accuracy, static_argnames=("metric", "rule"))(
    support, queries, metric=metric, rule=rule
  )
  state = EpisodeAccuracy.of(
    accuracies, queries_per_episode=int(np.prod(np.shape(queries)[1:3]))
  )
  return state.result(confidence)


@flax.struct.dataclass
class EpisodeAccuracy(MetricState):
  """Mergeable mean over episodes, with its intervals.

  Attributes:
    total: () float32, sum of the episodes' accuracies.
    total_squared: () float32, sum of their squares.
    episodes: () int32, number of episodes.
    queries: () int32, number of queries in them.
  """

  total: jax.Array
  total_squared: jax.Array
  episodes: jax.Array
  queries: jax.Array

  @classmethod
  def empty(cls) -> "EpisodeAccuracy":
    zero, none = jnp.zeros((), jnp.float32), jnp.zeros((), jnp.int32)
    return cls(total=zero, total_squared=zero, episodes=none, queries=none)

  @classmethod
  def of(
    cls,
    accuracies: jax.Array,
    queries_per_episode: int,
    where: jax.Array | None = None,
  ) -> "EpisodeAccuracy":
    """State of some episodes.

    Args:
      accuracies: `(...)` one per episode, as from `episode_accuracy`.
      queries_per_episode: N * Q.
      where: `(...)` mask, nonzero = count.

    Returns:
      A state to be merged.

    Raises:
      ValueError: shapes that do not fit.

    >>> accuracies = jnp.array([1.0, 0.5])
    >>> state = EpisodeAccuracy.of(accuracies, queries_per_episode=20)
    >>> state.merge(EpisodeAccuracy.empty()).compute()["accuracy"]
    0.75
    """
    check_shapes(accuracies=(accuracies, "*S"), where=(where, "*S"))
    each = check_integer("queries_per_episode", queries_per_episode, 1)
    accuracies = jnp.asarray(accuracies, jnp.float32)
    counted = (
      jnp.ones_like(accuracies, bool)
      if where is None
      else jnp.asarray(where) != 0
    )
    accuracies = jnp.where(counted, accuracies, 0.0)
    episodes = jnp.sum(counted, dtype=jnp.int32)
    return cls(
      total=jnp.sum(accuracies),
      total_squared=jnp.sum(jnp.square(accuracies)),
      episodes=episodes,
      queries=episodes * each,
    )

  def result(self, confidence: float = 0.95) -> FewShotResult:
    """Accuracy with intervals; NaN without episodes, or if one is NaN."""
    episodes, queries = int(self.episodes), int(self.queries)
    if not episodes:
      nothing = Interval(float("nan"), float("nan"))
      return FewShotResult(float("nan"), nothing, nothing)
    mean = float(self.total) / episodes
    variance = float(self.total_squared) / episodes - mean**2
    std = np.sqrt(max(variance, 0.0) * episodes / max(episodes - 1, 1))
    return FewShotResult(
      accuracy=mean,
      wilson=wilson_interval(mean * queries, queries, confidence),
      t=t_interval(mean, float(std), episodes, confidence),
    )

  def compute(self) -> dict[str, float]:
    """`accuracy` and the ends of both 95 % intervals."""
    result = self.result()
    return {
      "accuracy": result.accuracy,
      "wilson_low": result.wilson.low,
      "wilson_high": result.wilson.high,
      "t_low": result.t.low,
      "t_high": result.t.high,
    }
