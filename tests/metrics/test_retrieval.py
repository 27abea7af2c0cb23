"""Retrieval measures against sorting every row of the distance matrix."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segsiam_jax.metrics import (
  Ranking,
  mean_average_precision_at_r,
  nearest,
  precision_at_1,
  r_precision,
  rank_gallery,
  recall_at_k,
  retrieval_metrics,
)

Q, G, D = 11, 14, 3


def reference(x, labels, gallery, gallery_labels, ids, gallery_ids, metric):
  """Relevance of all retrievable examples of each query, nearest first."""
  rows = []
  for i, query in enumerate(x):
    others = [
      j for j in range(len(gallery)) if ids is None or gallery_ids[j] != ids[i]
    ]
    if metric == "cosine":
      norms = np.linalg.norm(gallery, axis=1) * np.linalg.norm(query)
      distances = 1 - gallery @ query / norms
    else:
      distances = ((gallery - query) ** 2).sum(axis=1)
    others.sort(key=lambda j, d=distances: d[j])
    rows.append([bool(gallery_labels[j] == labels[i]) for j in others])
  return rows


def expected_measures(rows, k):
  """P@1, R@k of both conventions, R-precision and MAP@R of each query."""
  found = []
  for row in rows:
    r = sum(row)
    precisions = [sum(row[: i + 1]) / (i + 1) for i in range(r) if row[i]]
    found.append(
      [
        float(row[0]),
        float(any(row[:k])),
        sum(row[:k]) / max(r, 1),
        sum(row[:r]) / max(r, 1),
        sum(precisions) / max(r, 1),
      ]
    )
  return np.array(found).T


def measures(ranking, k):
  return np.array(
    [
      precision_at_1(ranking),
      recall_at_k(ranking, k),
      recall_at_k(ranking, k, fraction=True),
      r_precision(ranking),
      mean_average_precision_at_r(ranking),
    ]
  )


@pytest.mark.parametrize("metric", ["cosine", "sq_euclidean"])
@settings(max_examples=15, deadline=None, derandomize=True)
@given(seed=st.integers(0, 999), num_classes=st.integers(1, 6))
def test_within_one_set(metric, seed, num_classes):
  random = np.random.default_rng(seed)
  x = random.normal(size=(Q, D)).astype(np.float32)
  labels = random.integers(0, num_classes, Q)
  ids = np.arange(Q)
  rows = reference(
    np.float64(x), labels, np.float64(x), labels, ids, ids, metric
  )
  # Several blocks of both, the last ones padded.
  ranking = rank_gallery(
    x, labels, k=Q - 1, metric=metric, query_block=4, gallery_block=3
  )
  np.testing.assert_array_equal(ranking.relevant, rows)
  np.testing.assert_array_equal(ranking.num_relevant, [sum(r) for r in rows])
  np.testing.assert_allclose(measures(ranking, 3), expected_measures(rows, 3))


@settings(max_examples=15, deadline=None, derandomize=True)
@given(seed=st.integers(0, 999))
def test_gallery_with_ids(seed):
  random = np.random.default_rng(seed)
  x = random.normal(size=(Q, D)).astype(np.float32)
  gallery = random.normal(size=(G, D)).astype(np.float32)
  labels, gallery_labels = random.integers(0, 4, Q), random.integers(0, 5, G)
  # Some queries stand in the gallery, one of them twice.
  ids, gallery_ids = np.arange(Q), 9 + np.arange(G)
  gallery_ids[-1] = gallery_ids[0]
  for position, row in ((0, 9), (1, 10), (-1, 9)):
    gallery[position], gallery_labels[position] = x[row], labels[row]
  rows = reference(
    np.float64(x),
    labels,
    np.float64(gallery),
    gallery_labels,
    ids,
    gallery_ids,
    "cosine",
  )
  ranking = rank_gallery(
    x,
    labels,
    gallery,
    gallery_labels,
    query_ids=ids,
    gallery_ids=gallery_ids,
    k=G,
    gallery_block=5,
  )
  for row, relevant in zip(rows, ranking.relevant, strict=True):
    np.testing.assert_array_equal(relevant[: len(row)], row)
    assert not relevant[len(row) :].any()
  np.testing.assert_array_equal(ranking.num_relevant, [sum(r) for r in rows])
  np.testing.assert_allclose(measures(ranking, 2), expected_measures(rows, 2))


def test_defaults_and_large_labels(rng):
  """k is what the R measures need; 64-bit hashes do not collide."""
  x = rng.normal(size=(Q, D)).astype(np.float32)
  labels = np.array([2**53, 2**53 + 1] * 5 + [2**60])
  ranking = rank_gallery(x, labels, query_ids=labels[0] + np.arange(Q))
  assert ranking.relevant.shape == (Q, 4)
  assert ranking.num_relevant.tolist() == [4] * 10 + [0]
  small = rank_gallery(x, np.array([0, 1] * 5 + [2]))
  np.testing.assert_array_equal(ranking.relevant, small.relevant)
  values = retrieval_metrics(ranking, recall_at=(1, 4))
  # The lone query is not averaged.
  assert values["precision_at_1"] == precision_at_1(ranking)[:10].mean()
  assert values["recall_at_4"] == recall_at_k(ranking, 4)[:10].mean()
  assert set(values) == {
    "precision_at_1",
    "r_precision",
    "mean_average_precision_at_r",
    "recall_at_1",
    "recall_at_4",
  }


def test_without_ids_equal_rows_count(rng):
  x = rng.normal(size=(4, D)).astype(np.float32)
  labels = np.array([0, 0, 1, 1])
  ranking = rank_gallery(x, labels, x, labels)
  assert ranking.num_relevant.tolist() == [2, 2, 2, 2]
  assert ranking.relevant[:, 0].all()


def test_nothing_to_find(rng):
  x = rng.normal(size=(3, D)).astype(np.float32)
  ranking = rank_gallery(x, np.arange(3))
  assert not ranking.relevant.any()
  values = retrieval_metrics(ranking)
  assert np.isnan(list(values.values())).all()
  empty = rank_gallery(np.zeros((0, D), np.float32), np.zeros(0, int))
  assert empty.relevant.shape == (0, 1) and empty.num_relevant.shape == (0,)


def test_constant_embeddings_are_at_chance():
  """Precision@1 of ties is the share of the class that comes first."""
  labels = np.arange(40) % 4
  ranking = rank_gallery(np.ones((40, D), np.float32), labels)
  assert precision_at_1(ranking).mean() == pytest.approx(0.25, abs=0.03)


def test_errors(rng):
  x, labels = rng.normal(size=(4, D)), np.array([0, 0, 0, 1])
  ranking = rank_gallery(x, labels, k=1)
  for measure in (r_precision, mean_average_precision_at_r):
    with pytest.raises(ValueError, match="1 neighbours but some query has 2"):
      measure(ranking)
  with pytest.raises(ValueError, match=r"needs 1 <= k <= 1.* got 2"):
    recall_at_k(ranking, 2)
  with pytest.raises(ValueError, match="gallery_labels"):
    rank_gallery(x, labels, x)
  with pytest.raises(ValueError, match="both query_ids and gallery_ids"):
    rank_gallery(x, labels, x, labels, query_ids=labels)


def test_memory_of_a_large_gallery():
  """100,000 examples: blocks of distances, never a row of the whole matrix."""
  queries, blocks, size, k = 1024, 25, 4096, 20

  def shapes(*leading):
    shape = jax.ShapeDtypeStruct
    return (
      shape((*leading, 128), jnp.float32),
      shape(leading, jnp.int32),
    )

  memory = (
    nearest._candidates.lower(
      *shapes(queries),
      *shapes(blocks, size),
      jax.ShapeDtypeStruct((blocks, size), jnp.int32),
      jax.ShapeDtypeStruct((blocks, size), jnp.bool_),
      count=k,
      metric="sq_euclidean",
    )
    .compile()
    .memory_analysis()
  )
  assert memory.temp_size_in_bytes < 8 * queries * size * 4


def test_map_at_r_of_the_paper():
  """The toy example of Musgrave et al., arXiv:2003.08505: R = 10.

  Precision@1 cannot tell its cases apart, MAP@R can.
  """
  found = ([1], [1, 10], [1, 2], range(1, 11))
  ranking = Ranking(
    np.array([np.isin(np.arange(1, 11), list(ranks)) for ranks in found]),
    np.full(4, 10),
  )
  assert (precision_at_1(ranking) == 1).all()
  np.testing.assert_allclose(r_precision(ranking), [0.1, 0.2, 0.2, 1.0])
  np.testing.assert_allclose(
    mean_average_precision_at_r(ranking), [0.1, 0.12, 0.2, 1.0]
  )
