"""Metrics of embeddings by a protocol: verification, few-shot, retrieval.

Scores are larger for more alike pairs, see `ops.similarity`. All that a run
needs to decide later is among the metrics of its checkpoint: `threshold` is the
score from which on two images count as the same.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from segsiam_jax import metrics
from segsiam_jax.errors import UserError
from segsiam_jax.metrics.gather import gather
from segsiam_jax.ops.deformable import (
  Maps,
  deformable_similarities,
)
from segsiam_jax.ops.similarity import (
  Head,
  Learned,
  similarity,
)
from segsiam_jax.tasks import pair_plots
from segsiam_jax.tasks.base import HostMetrics

# Pairs, and numbers of embeddings, that are scored at a time.
_BLOCK, _BLOCK_FLOATS = 1 << 14, 1 << 24
# Queries of maps that are compared with a support set at a time.
_QUERIES = 32


class EvaluationProtocol(Protocol):
  """See `data.protocol.Protocol`."""

  labels: np.ndarray
  contents: np.ndarray
  pairs: Any
  trials: Mapping[str, Any]
  independent: bool


class SiameseMetrics(HostMetrics):
  """Embeddings of a split, and what they are worth.

  Attributes:
    protocol: what they are evaluated on.
  """

  def __init__(
    self,
    protocol: EvaluationProtocol,
    head: Head,
    far: float,
    fars: Sequence[float] = (),
    maps: Maps | None = None,
    learned: Learned | None = None,
  ):
    """Starts without embeddings.

    Args:
      protocol: of the split.
      head: how embeddings compare.
      far: false accept rate that the threshold is set for.
      fars: rates at which the true accept rate is told, as far as there are
        enough different pairs to measure them.
      maps: of a deformable head.
      learned: what the head has learned, on the host.
    """
    self.protocol = protocol
    self._head, self._far, self._fars = head, far, tuple(fars)
    self._maps = maps
    self._rows: dict[int, np.ndarray] = {}
    self._learned = learned
    self._pair_scores: np.ndarray | None = None

  def add(
    self, batch: Mapping[str, Any], predictions: Mapping[str, np.ndarray]
  ) -> None:
    """Takes this process's rows of a batch."""
    self._pair_scores = None
    index = np.asarray(batch["index"])
    # Maps are large, and their numbers below 1.
    dtype = np.float16 if self._maps else np.float32
    for row in np.flatnonzero(np.asarray(batch["mask"])):
      self._rows[int(index[row])] = np.array(
        predictions["embeddings"][row], dtype
      )

  def gather(self) -> "SiameseMetrics":
    """Those of all processes together, on every process."""
    self._pair_scores = None
    self._rows = dict(gather(list(self._rows.items())))
    return self

  @property
  def embeddings(self) -> np.ndarray:
    """(n, D) float32, or of maps float16, in the order of the source.

    Raises:
      UserError: some are not finite, and have no distance.
    """
    missing = set(range(len(self.protocol.labels))) - set(self._rows)
    if missing:
      raise ValueError(
        f"{len(missing)} of {len(self.protocol.labels)} examples were not "
        f"embedded (first: {min(missing)})"
      )
    rows = np.stack([self._rows[i] for i in range(len(self.protocol.labels))])
    require_finite_rows(rows)
    return rows

  def score(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(..., D) and (..., D) to (...) scores."""
    return np.asarray(_score(first, second, self._learned, head=self._head))

  def pair_scores(self) -> np.ndarray:
    """(P,) scores of the protocol's pairs; computed once."""
    if self._pair_scores is None:
      pairs, embeddings = self.protocol.pairs, self.embeddings
      block = max(1, min(_BLOCK, _BLOCK_FLOATS // embeddings.shape[1]))
      self._pair_scores = np.concatenate(
        [
          self.score(
            embeddings[pairs.first[part]], embeddings[pairs.second[part]]
          )
          for part in _parts(len(pairs.first), block)
        ]
      )
    return self._pair_scores

  def compute(self) -> dict[str, float]:
    """The metrics by name."""
    out = {}
    for name, trials in self.protocol.trials.items():
      out |= self._few_shot(name, trials)
    out |= self._verification()
    # A ranking needs a metric, which learned weights are not, and takes all
    # pairs, which are too many to bend.
    if self._head not in ("learned", "deformable"):
      out |= self._retrieval()
    return out

  def names(self) -> dict[str, str]:
    """See `HostMetrics`."""
    out = {
      name + part: "max"
      for name in self.protocol.trials
      for part in ("", "_low", "_high")
    }
    pairs = self.protocol.pairs
    if pairs is not None:
      different = np.count_nonzero(~pairs.same)
      out |= {"auc": "max", "eer": "min"}
      if len(np.unique(pairs.fold)) > 1:
        out |= {"verification_accuracy": "max", "verification_accuracy_se": ""}
      out |= {
        f"tar_at_far_{far:g}": "max"
        for far in self._fars
        if far * different >= 1
      }
      out |= {"threshold": "", "threshold_far": "min", "threshold_tar": "max"}
      for number, kind in enumerate(pairs.kinds):
        if (~pairs.same & (pairs.kind == number)).any():
          out |= {f"eer/{kind}": "min", f"auc/{kind}": "max"}
          out[f"threshold_far/{kind}"] = "min"
    if self._head not in ("learned", "deformable"):
      # An image has something to find if its identity has another image that
      # is not a copy.
      labels, contents = self.protocol.labels, self.protocol.contents
      images = np.unique(np.stack([labels, contents]), axis=1)
      if images.shape[1] > len(np.unique(labels)):
        out |= {"precision_at_1": "max", "r_precision": "max"}
        out["map_at_r"] = "max"
    return out

  def plots(self, source: Any, thorough: bool) -> dict[str, np.ndarray]:
    """ROC, distances, the hardest pairs and the embeddings in the plane.

    Args:
      source: of the split.
      thorough: whether to take seconds for a better plane.

    Returns:
      (h, w, 3) uint8 pictures by name.
    """
    pairs, scores = self.protocol.pairs, self.pair_scores()
    scored = pair_plots.ScoredPairs(
      pairs.first, pairs.second, pairs.same, scores, pairs.kind, pairs.kinds
    )
    point = metrics.tar_at_far(scores, pairs.same, self._far)
    out = {
      "roc": scored.roc(),
      "distances": scored.distances(point.threshold),
      "hardest_pairs": scored.hardest(source),
    }
    views = self._maps.views if self._maps else 1
    embeddings = self.embeddings
    # Of several views, the image itself.
    embeddings = embeddings[:, : embeddings.shape[1] // views]
    return out | {
      "embeddings": pair_plots.projection(
        embeddings.astype(np.float32),
        self.protocol.labels,
        source.class_names,
        "tsne" if thorough else "pca",
      )
    }

  def _few_shot(self, name: str, trials: Any) -> dict[str, float]:
    if self._head == "deformable":
      scores = self._bent(trials)
      right = metrics.top_1_with_ties(
        jnp.asarray(scores), jnp.asarray(trials.answer)
      )
      return self._accuracy(name, trials, np.asarray(right))
    embeddings = self.embeddings
    right = []
    size = trials.support[0].size * embeddings.shape[1]
    for part in _parts(len(trials.query), max(1, _BLOCK_FLOATS // size)):
      support = embeddings[trials.support[part]]
      query = embeddings[trials.query[part]]
      if self._head == "learned":
        scores = self.score(query[:, None, None], support).mean(axis=-1)
      else:
        # Prototypes (Snell et al.); with one shot, the example itself.
        scores = self.score(query[:, None], support.mean(axis=2))
      answers = jnp.asarray(trials.answer[part])
      right.append(np.asarray(metrics.top_1_with_ties(scores, answers)))
    return self._accuracy(name, trials, np.concatenate(right))

  def _bent(self, trials: Any) -> np.ndarray:
    """(T, N) scores of maps, of each identity's nearest example.

    Trials of an episode share their support set: all pairs of it at once.
    """
    scores = np.zeros(trials.support.shape[:2], np.float32)
    for episode in np.unique(trials.episode):
      rows = np.flatnonzero(trials.episode == episode)
      for part in _parts(len(rows), _QUERIES):
        mine = rows[part]
        query = trials.query[mine]
        # As many queries each time, to compile once.
        query = np.resize(query, min(_QUERIES, len(rows)))
        support, place = np.unique(trials.support[mine], return_inverse=True)
        pairs = _all_bent(
          self._stacked(query), self._stacked(support), self._learned
        )
        place = place.reshape(trials.support[mine].shape)
        each = np.asarray(pairs)[np.arange(len(mine))[:, None, None], place]
        scores[mine] = each.max(axis=-1)
    return scores

  def _stacked(self, indices: np.ndarray) -> np.ndarray:
    return np.stack([self._rows[index] for index in indices.tolist()])

  def _accuracy(
    self, name: str, trials: Any, right: np.ndarray
  ) -> dict[str, float]:
    """With its interval, of (T,) chances to be right."""
    right = right.astype(np.float64)
    accuracy = float(right.mean())
    if self.protocol.independent:
      interval = metrics.wilson_interval(right.sum(), len(right))
    else:
      _, episode = np.unique(trials.episode, return_inverse=True)
      means = np.bincount(episode, right) / np.bincount(episode)
      std = float(np.std(means, ddof=1)) if len(means) > 1 else 0.0
      interval = metrics.t_interval(accuracy, std, len(means))
    return {
      name: accuracy,
      f"{name}_low": interval.low,
      f"{name}_high": interval.high,
    }

  def _verification(self) -> dict[str, float]:
    pairs, scores = self.protocol.pairs, self.pair_scores()
    num_different = np.count_nonzero(~pairs.same)
    out = {
      "auc": metrics.roc_auc(scores, pairs.same),
      "eer": metrics.equal_error_rate(scores, pairs.same).rate,
    }
    if len(np.unique(pairs.fold)) > 1:
      folds = metrics.k_fold_verification(scores, pairs.same, pairs.fold)
      out["verification_accuracy"] = folds.mean
      out["verification_accuracy_se"] = folds.standard_error
    for far in self._fars:
      if far * num_different >= 1:
        point = metrics.tar_at_far(scores, pairs.same, far)
        out[f"tar_at_far_{far:g}"] = point.tar
    point = metrics.tar_at_far(scores, pairs.same, self._far)
    out |= {
      "threshold": point.threshold,
      "threshold_far": point.far,
      "threshold_tar": point.tar,
    }
    for number, kind in enumerate(pairs.kinds):
      of_kind = ~pairs.same & (pairs.kind == number)
      if of_kind.any():
        chosen = pairs.same | of_kind
        out[f"eer/{kind}"] = metrics.equal_error_rate(
          scores[chosen], pairs.same[chosen]
        ).rate
        out[f"auc/{kind}"] = metrics.roc_auc(scores[chosen], pairs.same[chosen])
        accepted = scores[of_kind] >= point.threshold
        out[f"threshold_far/{kind}"] = float(accepted.mean())
    return out

  def _retrieval(self) -> dict[str, float]:
    ranking = metrics.rank_gallery(
      self.embeddings,
      self.protocol.labels,
      query_ids=self.protocol.contents,
      metric=self._head,
    )
    if not (ranking.num_relevant > 0).any():
      return {}
    out = metrics.retrieval_metrics(ranking, recall_at=())
    out["map_at_r"] = out.pop("mean_average_precision_at_r")
    return out


@functools.partial(jax.jit, static_argnames="head")
def _score(first, second, learned, *, head: Head) -> jax.Array:
  return similarity(first, second, head, learned)


_all_bent = jax.jit(deformable_similarities)


def require_finite_rows(embeddings: np.ndarray) -> None:
  """Raises `UserError` if some of (n, D) embeddings are not finite."""
  bad = np.flatnonzero(~np.isfinite(embeddings).all(axis=1))
  if len(bad):
    raise UserError(
      f"the embeddings of {len(bad)} of {len(embeddings)} images are not "
      f"finite (first: {bad[0]}), and have no distance; train again with a "
      "lower config.optimizer.learning_rate"
    )


def _parts(count: int, block: int) -> list[slice]:
  return [slice(start, start + block) for start in range(0, count, block)]
