"""Miners against loops over all pairs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segsiam_jax.ops import (
  mine_distance_weighted,
  mine_hard,
  mine_multi_similarity,
  mine_semi_hard,
  pair_masks,
  pairwise_distances,
)

B = 12
label_lists = st.lists(st.integers(0, 3), min_size=B, max_size=B)
masks = st.lists(st.booleans(), min_size=B, max_size=B)
# Multiples of 1/4 have many exact ties.
distance_rows = st.lists(st.integers(0, 8), min_size=B * B, max_size=B * B).map(
  lambda values: np.reshape(values, (B, B)).astype(np.float32) / 4
)

hard = jax.jit(mine_hard)
semi_hard = jax.jit(mine_semi_hard, static_argnames="fallback")
multi_similarity = jax.jit(mine_multi_similarity)


def reference_masks(labels, where, ids):
  positive, negative = np.zeros((2, B, B), bool)
  for i in range(B):
    for j in range(B):
      if i != j and where[i] and where[j] and ids[i] != ids[j]:
        positive[i, j] = labels[i] == labels[j]
        negative[i, j] = labels[i] != labels[j]
  return positive, negative


@settings(max_examples=30, deadline=None, derandomize=True)
@given(labels=label_lists, where=masks, ids=st.permutations([0, 0, *range(10)]))
def test_pair_masks(labels, where, ids):
  labels, where, ids = map(np.array, (labels, where, ids))
  found = pair_masks(labels, where=where.astype(np.float32), ids=ids)
  for mask, expected in zip(
    found, reference_masks(labels, where, ids), strict=True
  ):
    np.testing.assert_array_equal(mask, expected)


def test_pair_masks_without_options():
  labels = np.array([0, 1, 0])
  found = pair_masks(labels)
  np.testing.assert_array_equal(
    found.positive, [[0, 0, 1], [0, 0, 0], [1, 0, 0]]
  )
  np.testing.assert_array_equal(
    found.negative, [[0, 1, 0], [1, 0, 1], [0, 1, 0]]
  )


@settings(max_examples=40, deadline=None, derandomize=True)
@given(distances=distance_rows, labels=label_lists, where=masks)
def test_mine_hard(distances, labels, where):
  positive, negative = reference_masks(labels, where, range(B))
  mined = jax.device_get(hard(distances, positive, negative))
  for a in range(B):
    positives, negatives = (
      np.nonzero(positive[a])[0],
      np.nonzero(negative[a])[0],
    )
    assert mined.valid[a] == bool(len(positives) and len(negatives))
    if mined.valid[a]:
      row = distances[a]
      assert mined.positive[a] == positives[row[positives].argmax()]
      assert mined.negative[a] == negatives[row[negatives].argmin()]
    else:
      assert mined.positive[a] == mined.negative[a] == 0


@pytest.mark.parametrize("fallback", ["easiest", "hardest", "skip"])
@settings(max_examples=40, deadline=None, derandomize=True)
@given(distances=distance_rows, labels=label_lists, where=masks)
def test_mine_semi_hard(fallback, distances, labels, where):
  positive, negative = reference_masks(labels, where, range(B))
  mined = jax.device_get(
    semi_hard(distances, positive, negative, fallback=fallback)
  )
  for a in range(B):
    negatives = distances[a][negative[a]]
    for p in range(B):
      beyond = negatives[negatives > distances[a, p]]
      has_negative = len(beyond) if fallback == "skip" else len(negatives)
      assert mined.valid[a, p] == bool(positive[a, p] and has_negative)
      if not mined.valid[a, p]:
        continue
      chosen = mined.index[a, p]
      assert negative[a, chosen]
      if len(beyond):
        expected = beyond.min()
      else:
        expected = negatives.max() if fallback == "easiest" else negatives.min()
      assert distances[a, chosen] == expected


@settings(max_examples=40, deadline=None, derandomize=True)
@given(distances=distance_rows, labels=label_lists, where=masks)
def test_mine_multi_similarity(distances, labels, where):
  similarities = 1 - distances
  positive, negative = reference_masks(labels, where, range(B))
  kept = multi_similarity(similarities, positive, negative)
  expected_positive, expected_negative = np.zeros((2, B, B), bool)
  for a in range(B):
    if not positive[a].any() or not negative[a].any():
      continue
    row = similarities[a]
    expected_positive[a] = positive[a] & (row < row[negative[a]].max() + 0.1)
    expected_negative[a] = negative[a] & (row > row[positive[a]].min() - 0.1)
  np.testing.assert_array_equal(kept.positive, expected_positive)
  np.testing.assert_array_equal(kept.negative, expected_negative)


distance_weighted = jax.jit(
  mine_distance_weighted,
  static_argnames=("embedding_size", "nonzero_loss_cutoff"),
)


def weighted(seed, distances, positive, negative, size=16, **options):
  return jax.device_get(
    distance_weighted(
      jax.random.key(seed),
      distances,
      positive,
      negative,
      embedding_size=size,
      **options,
    )
  )


def test_distance_weighted_frequencies():
  """Draws follow the inverse of the density of distances on the sphere."""
  distances = np.array([0.1, 0.45, 0.9, 1.1, 1.3, 1.39, 1.5, 1.9], np.float32)
  candidates = distances < 1.4
  clipped = np.maximum(distances.astype(np.float64), 0.5)
  size = 8
  density = clipped ** (size - 2) * (1 - clipped**2 / 4) ** ((size - 3) / 2)
  expected = np.where(candidates, 1 / density, 0.0)
  expected /= expected.sum()
  # Every row is an anchor whose column 0 is its positive.
  rows = 20000
  mined = weighted(
    0,
    np.tile(np.append(0.3, distances).astype(np.float32), (rows, 1)),
    np.tile(np.arange(9) == 0, (rows, 1)),
    np.tile(np.arange(9) > 0, (rows, 1)),
    size,
  )
  assert mined.valid[:, 0].all() and not mined.valid[:, 1:].any()
  counts = np.bincount(mined.index[:, 0] - 1, minlength=8)
  assert (counts[~candidates] == 0).all()
  np.testing.assert_allclose(
    counts / rows, expected, atol=4 * np.sqrt(0.25 / rows)
  )


def test_distance_weighted_far_rows_do_not_underflow():
  """One close negative must not cost the other anchors theirs.

  Its weight is e^300 times theirs: subtracting the maximum of the whole matrix
  leaves rows of zeros, which then are dropped or divided by zero.
  """
  distances = np.array([[0.1, 0.5], [0.1, 1.3]], np.float32)
  positive = np.array([[1, 0], [1, 0]], bool)
  mined = weighted(0, distances, positive, ~positive, size=512)
  assert mined.valid.tolist() == [[True, False], [True, False]]
  assert mined.index[:, 0].tolist() == [1, 1]


def test_distance_weighted_without_candidates():
  positive = np.array([[1, 0], [1, 0], [0, 0]], bool)
  negative = np.array([[0, 1], [0, 0], [1, 1]], bool)
  distances = np.full((3, 2), 1.9, np.float32)
  mined = weighted(0, distances, positive, negative)
  assert not mined.valid.any() and (mined.index == 0).all()


def test_distance_weighted_takes_antipodes():
  """d = 2, where the density is 0, if the caller allows it."""
  distances = np.array([[0.0, 2.0000002]], np.float32)
  mined = weighted(
    0,
    distances,
    np.array([[1, 0]], bool),
    np.array([[0, 1]], bool),
    nonzero_loss_cutoff=3.0,
  )
  assert mined.valid[0, 0] and mined.index[0, 0] == 1


def test_distance_weighted_draws_candidates_only(rng):
  embeddings = rng.normal(size=(B, 6)).astype(np.float32)
  embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
  distances = pairwise_distances(embeddings)
  positive, negative = pair_masks(np.arange(B) // 4)
  mined = weighted(1, distances, positive, negative)
  rows = np.arange(B)[:, None]
  chosen_negative = np.asarray(negative)[rows, mined.index]
  close = np.asarray(distances)[rows, mined.index] < 1.4
  assert (chosen_negative & close)[mined.valid].all()


def test_miners_stop_gradients(rng):
  distances = jnp.asarray(rng.uniform(size=(4, 4)), jnp.float32)
  positive, negative = pair_masks(jnp.array([0, 0, 1, 1]))

  def chosen(distances):
    mined = mine_semi_hard(distances, positive, negative)
    return jnp.sum(mined.index * 1.0) + jnp.sum(
      mine_hard(distances, positive, negative).negative * 1.0
    )

  assert (np.asarray(jax.grad(chosen)(distances)) == 0).all()


def test_unknown_fallback():
  x = jnp.zeros((2, 2))
  with pytest.raises(ValueError, match=r"fallback must be .* got 'best'"):
    mine_semi_hard(x, x > 0, x > 0, fallback="best")
