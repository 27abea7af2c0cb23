"""How well nearest neighbours share their query's label.

`rank_gallery` searches block by block, so that no matrix of all queries
against the whole gallery ever exists, and keeps only whether each neighbour is
relevant. The measures read that ranking and return one value per query; average
them over the queries that have something to find, as `retrieval_metrics` does,
or with `Mean.of(values, where=ranking.num_relevant > 0)` over several batches.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from segsiam_jax.metrics.nearest import nearest
from segsiam_jax.ops.distances import Metric
from segsiam_jax.ops.labels import renumber
from segsiam_jax.ops.shapes import check_integer, check_shapes


class Ranking(NamedTuple):
  """Nearest neighbours of each query.

  Attributes:
    relevant: `(Q, K)` bool, nearest first: has the query's label.
    num_relevant: `(Q,)` int64, how many such examples the gallery holds. With
      0 (a lone query) all measures are 0 and the query should not be counted.
  """

  relevant: np.ndarray
  num_relevant: np.ndarray


def rank_gallery(
  queries: np.ndarray,
  query_labels: np.ndarray,
  gallery: np.ndarray | None = None,
  gallery_labels: np.ndarray | None = None,
  *,
  query_ids: np.ndarray | None = None,
  gallery_ids: np.ndarray | None = None,
  k: int | None = None,
  metric: Metric = "cosine",
  query_block: int = 1024,
  gallery_block: int = 8192,
) -> Ranking:
  """Ranks the nearest gallery examples of each query.

  An example is never retrieved for itself: gallery entries with the id of the
  query are left out of its neighbours and of its relevant ones. The order is
  that of exact distances, whatever the blocks; of equal distances, the first in
  the gallery wins.

  Args:
    queries: `(Q, D)` embeddings of any float dtype, finite.
    query_labels: `(Q,)` integers, of 64 bits too.
    gallery: `(G, D)`; None for the queries themselves.
    gallery_labels: `(G,)` integers; None if and only if `gallery` is.
    query_ids: `(Q,)` integers; None for no ids or, without a gallery, for
      the row numbers.
    gallery_ids: `(G,)` integers; given if and only if `query_ids` are.
    k: number of neighbours, at least 1; None for as many as the R measures
      need, the largest number of relevant examples.
    metric: a metric of `pairwise_distances`.
    query_block: largest number of queries per block.
    gallery_block: largest number of gallery examples per block. The search
      takes `query_block * gallery_block` distances of memory at a time.

  Returns:
    The ranking, on the host. Where fewer than k examples are left to retrieve,
    the rest is not relevant.

  Raises:
    ValueError: a gallery without labels or the other way round, ids on one
      side only, shapes that do not fit, numbers that are not finite, k or a
      block below 1.

  >>> queries = np.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]])
  >>> ranking = rank_gallery(queries, np.array([7, 7, 8]), k=2)
  >>> ranking.relevant.tolist(), ranking.num_relevant.tolist()
  ([[True, False], [True, False], [False, False]], [1, 1, 0])
  """
  if gallery is None:
    for name, given in (
      ("gallery_labels", gallery_labels),
      ("gallery_ids", gallery_ids),
    ):
      if given is not None:
        raise ValueError(f"{name}: rank_gallery has no gallery they are of")
    if query_ids is None:
      query_ids = np.arange(len(query_labels))
    gallery, gallery_labels, gallery_ids = queries, query_labels, query_ids
  if gallery_labels is None:
    raise ValueError("rank_gallery needs gallery_labels for its gallery")
  if (query_ids is None) != (gallery_ids is None):
    raise ValueError(
      "rank_gallery needs both query_ids and gallery_ids, or neither"
    )
  check_shapes(
    queries=(queries, "Q D+"),
    query_labels=(query_labels, "Q"),
    query_ids=(query_ids, "Q"),
    gallery=(gallery, "G D"),
    gallery_labels=(gallery_labels, "G"),
    gallery_ids=(gallery_ids, "G"),
  )
  if k is not None:
    k = check_integer("k", k, 1)
  query_labels, gallery_labels = renumber(query_labels, gallery_labels)
  if query_ids is not None and gallery_ids is not None:
    query_ids, gallery_ids = renumber(query_ids, gallery_ids)
  num_relevant = _count_relevant(
    query_labels, gallery_labels, query_ids, gallery_ids
  )
  found = nearest(
    queries,
    gallery,
    query_ids,
    gallery_ids,
    k=max(1, int(num_relevant.max(initial=0))) if k is None else k,
    metric=metric,
    query_block=query_block,
    gallery_block=gallery_block,
  )
  relevant = found >= 0
  row, _ = np.nonzero(relevant)
  relevant[relevant] = gallery_labels[found[relevant]] == query_labels[row]
  return Ranking(relevant, num_relevant)


def precision_at_1(ranking: Ranking) -> np.ndarray:
  """Whether the nearest neighbour is relevant; recall@1 of many papers.

  Returns:
    `(Q,)` float64.

  >>> ranking = Ranking(np.array([[True], [False]]), np.array([1, 1]))
  >>> precision_at_1(ranking).tolist()
  [1.0, 0.0]
  """
  return recall_at_k(ranking, 1)


def recall_at_k(
  ranking: Ranking, k: int, *, fraction: bool = False
) -> np.ndarray:
  """What is found among the k nearest neighbours.

  Args:
    ranking: with at least k neighbours.
    k: how many neighbours to look at.
    fraction: False is the measure of the metric-learning literature (Jegou et
      al. 2011; Song et al., arXiv:1511.06452), 1 if *any* of them is relevant.
      True is that of information retrieval, the fraction of all the relevant
      that is among them.

  Returns:
    `(Q,)` float64.

  Raises:
    ValueError: k is not in [1, K], the neighbours ranked.

  >>> ranking = Ranking(np.array([[False, True, False]]), np.array([4]))
  >>> recall_at_k(ranking, 3).tolist()
  [1.0]
  >>> recall_at_k(ranking, 3, fraction=True).tolist()
  [0.25]
  """
  _check(ranking)
  k = check_integer("k", k, 1, ranking.relevant.shape[1])
  found = ranking.relevant[:, :k]
  if fraction:
    return found.sum(axis=1) / np.maximum(ranking.num_relevant, 1)
  return np.asarray(found.any(axis=1), np.float64)


def r_precision(ranking: Ranking) -> np.ndarray:
  """Fraction of relevant ones among the R nearest neighbours.

  R is the number of relevant examples of the query.

  Args:
    ranking: with at least R neighbours.

  Returns:
    `(Q,)` float64.

  Raises:
    ValueError: the ranking has fewer than R neighbours for some query.

  >>> ranking = Ranking(np.array([[True, False, True]]), np.array([2]))
  >>> r_precision(ranking).tolist()
  [0.5]
  """
  return _up_to_r(ranking).sum(axis=1) / np.maximum(ranking.num_relevant, 1)


def mean_average_precision_at_r(ranking: Ranking) -> np.ndarray:
  """MAP@R: precision at each relevant neighbour up to R, over R.

  `1/R sum_{i=1..R} relevant_i * precision@i` (Musgrave et al., "A Metric
  Learning Reality Check", arXiv:2003.08505), which, unlike
  precision@1, rewards ranking all the relevant ones first.

  Args:
    ranking: with at least R neighbours.

  Returns:
    `(Q,)` float64, to be averaged (the "mean" of its name).

  Raises:
    ValueError: the ranking has fewer than R neighbours for some query.

  >>> ranking = Ranking(np.array([[True, False, True]]), np.array([3]))
  >>> mean_average_precision_at_r(ranking).round(4).tolist()  # (1 + 2/3) / 3
  [0.5556]
  """
  relevant = _up_to_r(ranking)
  precision = relevant.cumsum(axis=1) / np.arange(1, relevant.shape[1] + 1)
  total = np.where(relevant, precision, 0.0).sum(axis=1)
  return total / np.maximum(ranking.num_relevant, 1)


def retrieval_metrics(
  ranking: Ranking, recall_at: Sequence[int] = (1,)
) -> dict[str, float]:
  """All of the above, averaged over queries with something to find.

  Lone queries, whose label is nowhere else in the gallery, are left out (as in
  pytorch-metric-learning); NaN if there is no other.

  Args:
    ranking: with at least R neighbours, and `max(recall_at)`.
    recall_at: the k of `recall_at_k` ("any" convention).

  Returns:
    `precision_at_1`, `r_precision`, `mean_average_precision_at_r` and
    `recall_at_<k>`.

  Raises:
    ValueError: the ranking is too short.

  >>> ranking = Ranking(np.array([[True], [False]]), np.array([1, 0]))
  >>> retrieval_metrics(ranking)["r_precision"]
  1.0
  """
  values = {
    "precision_at_1": precision_at_1(ranking),
    "r_precision": r_precision(ranking),
    "mean_average_precision_at_r": mean_average_precision_at_r(ranking),
  }
  for k in recall_at:
    values[f"recall_at_{k}"] = recall_at_k(ranking, k)
  counted = ranking.num_relevant > 0
  if not counted.any():
    return dict.fromkeys(values, float("nan"))
  return {name: float(value[counted].mean()) for name, value in values.items()}


def _check(ranking: Ranking) -> None:
  check_shapes(
    relevant=(ranking.relevant, "Q K+"),
    num_relevant=(ranking.num_relevant, "Q"),
  )


def _up_to_r(ranking: Ranking) -> np.ndarray:
  """`relevant` up to each query's R, False beyond."""
  _check(ranking)
  needed, ranked = (
    ranking.num_relevant.max(initial=0),
    ranking.relevant.shape[1],
  )
  if ranked < needed:
    raise ValueError(
      f"the ranking has {ranked} neighbours but some query has {needed} "
      "relevant examples: leave k of rank_gallery at None"
    )
  return ranking.relevant & (np.arange(ranked) < ranking.num_relevant[:, None])


def _count_relevant(query_labels, gallery_labels, query_ids, gallery_ids):
  """Gallery examples with each query's label and another id, (Q,) int64."""
  size = int(max(query_labels.max(initial=-1), gallery_labels.max(initial=-1)))
  counts = np.bincount(gallery_labels, minlength=size + 1)[query_labels]
  if query_ids is None:
    return counts
  pairs = [
    labels.astype(np.int64) << 32 | ids
    for labels, ids in (
      (query_labels, query_ids),
      (gallery_labels, gallery_ids),
    )
  ]
  queries, gallery = renumber(*pairs)
  return (
    counts
    - np.bincount(gallery, minlength=queries.max(initial=-1) + 1)[queries]
  )
