"""Few-shot accuracy against loops, and its intervals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segsiam_jax.metrics import (
  EpisodeAccuracy,
  episode_accuracy,
  n_way_k_shot_accuracy,
  t_interval,
  top_1_with_ties,
  wilson_interval,
)

E, N, K, Q, D = 3, 4, 2, 3, 5


@pytest.mark.parametrize("rule", ["prototype", "nearest"])
@pytest.mark.parametrize("metric", ["sq_euclidean", "cosine"])
def test_episode_accuracy(rule, metric):
  compiled = jax.jit(
    lambda support, queries: episode_accuracy(
      support, queries, metric=metric, rule=rule
    )
  )

  def distance(x, y):
    if metric == "cosine":
      return 1 - x @ y / np.linalg.norm(x) / np.linalg.norm(y)
    return ((x - y) ** 2).sum()

  @settings(max_examples=10, deadline=None, derandomize=True)
  @given(seed=st.integers(0, 999))
  def check(seed):
    random = np.random.default_rng(seed)
    support = random.normal(size=(E, N, K, D))
    queries = support.mean(axis=2, keepdims=True) + random.normal(
      size=(E, N, Q, D)
    )
    expected = np.zeros(E)
    for e, n, q in np.ndindex(E, N, Q):
      query = queries[e, n, q]
      if rule == "prototype":
        distances = [distance(query, c.mean(axis=0)) for c in support[e]]
      else:
        distances = [min(distance(query, s) for s in c) for c in support[e]]
      expected[e] += (int(np.argmin(distances)) == n) / (N * Q)
    found = compiled(np.float32(support), np.float32(queries))
    np.testing.assert_allclose(found, expected, rtol=1e-6)

  check()


@pytest.mark.parametrize("value", [0.0, 0.1, 1e4 / 3])
@pytest.mark.parametrize("rule", ["prototype", "nearest"])
def test_constant_embeddings(value, rule):
  """1/N, where taking the first of equals may say 100 %."""
  support = jnp.full((2, 20, 3, 64), value)
  queries = jnp.full((2, 20, 1, 64), value)
  for function in (
    episode_accuracy,
    jax.jit(episode_accuracy, static_argnames="rule"),
  ):
    np.testing.assert_allclose(
      function(support, queries, rule=rule), 1 / 20, rtol=1e-6
    )


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.lists(st.integers(0, 2), min_size=4, max_size=4), st.integers(0, 3))
def test_ties(scores, label):
  best = [i for i, score in enumerate(scores) if score == max(scores)]
  expected = 1 / len(best) if label in best else 0.0
  found = top_1_with_ties(jnp.array(scores), jnp.array(label))
  np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_nan_and_unknown_labels():
  scores = jnp.array([[jnp.nan, 1.0], [jnp.nan, jnp.nan], [0.0, 1.0]])
  found = top_1_with_ties(scores, jnp.array([0, 0, 1]))
  np.testing.assert_array_equal(found, [np.nan, np.nan, 1.0])
  unknown = np.array([2, -1, 2**32 + 1])
  assert (
    top_1_with_ties(scores[jnp.array([2, 2, 2])], unknown).tolist() == [0.0] * 3
  )
  result = EpisodeAccuracy.of(found, queries_per_episode=1).result()
  assert np.isnan([result.accuracy, *result.wilson, *result.t]).all()


def test_intervals_and_merging(rng):
  support = rng.normal(size=(E, N, K, D)).astype(np.float32)
  queries = support.mean(axis=2, keepdims=True) + rng.normal(size=(E, N, Q, D))
  accuracies = np.float64(episode_accuracy(support, queries))
  result = n_way_k_shot_accuracy(support, queries)
  assert result.accuracy == pytest.approx(accuracies.mean())
  np.testing.assert_allclose(
    result.wilson, wilson_interval(accuracies.sum() * N * Q, E * N * Q)
  )
  np.testing.assert_allclose(
    result.t,
    t_interval(accuracies.mean(), accuracies.std(ddof=1), E),
    rtol=1e-5,
  )
  # In parts, with a padded episode.
  state = EpisodeAccuracy.empty()
  for part in (slice(0, 2), slice(1, 3)):
    where = jnp.array([1.0, 1.0]) if part.start == 0 else jnp.array([0.0, 1.0])
    state = state.merge(
      EpisodeAccuracy.of(
        jnp.asarray(accuracies[part]), queries_per_episode=N * Q, where=where
      )
    )
  values = state.compute()
  assert values["accuracy"] == pytest.approx(result.accuracy)
  assert values["wilson_low"] == pytest.approx(result.wilson.low)
  assert values["t_high"] == pytest.approx(result.t.high, rel=1e-5)
  assert np.isnan(list(EpisodeAccuracy.empty().compute().values())).all()


def test_errors():
  x = jnp.zeros((2, 1, 3))
  with pytest.raises(ValueError, match=r"rule must be .* got 'mean'"):
    episode_accuracy(x, x, rule="mean")
  with pytest.raises(ValueError, match=r"queries: .* N=2, .* got \(3, 1, 3\)"):
    episode_accuracy(x, jnp.zeros((3, 1, 3)))
