"""Distances against float64 loops, and at the points that break gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segsiam_jax.ops import (
  l2_normalize,
  paired_distances,
  pairwise_cosine_similarities,
  pairwise_distances,
)

METRICS = ("euclidean", "sq_euclidean", "cosine", "l1")
M, N, D = 12, 5, 6

pairwise = {
  metric: jax.jit(lambda x, y, metric=metric: pairwise_distances(x, y, metric))
  for metric in METRICS
}


def reference(x, y, metric):
  """Distance of two vectors in float64."""
  x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
  if metric == "cosine":
    norms = np.linalg.norm(x) * np.linalg.norm(y)
    return 1.0 - (x @ y / norms if norms else 0.0)
  if metric == "l1":
    return np.abs(x - y).sum()
  squared = ((x - y) ** 2).sum()
  return squared if metric == "sq_euclidean" else np.sqrt(squared)


def matrix(x, y, metric):
  return np.array([[reference(a, b, metric) for b in y] for a in x])


@pytest.mark.parametrize("metric", METRICS)
@settings(max_examples=20, deadline=None, derandomize=True)
@given(
  seed=st.integers(0, 999),
  offset=st.sampled_from([0.0, 100.0]),
  scale=st.sampled_from([1e-3, 1.0, 50.0]),
)
def test_pairwise_distances(metric, seed, offset, scale):
  random = np.random.default_rng(seed)
  x, y = (
    (offset + scale * random.normal(size=(rows, D))).astype(np.float32)
    for rows in (M, N)
  )
  x[0] = y[0]
  np.testing.assert_allclose(
    pairwise[metric](x, y),
    matrix(x, y, metric),
    rtol=1e-4,
    # The offset cancels before anything is multiplied; a cosine keeps it.
    atol=1e-6 if metric == "cosine" else 2e-3 * scale,
  )


@pytest.mark.parametrize("metric", METRICS)
def test_pairs_equal_the_matrix(metric, rng):
  x = rng.normal(size=(M, D)).astype(np.float32)
  y = rng.normal(size=(M, D)).astype(np.float32)
  paired = paired_distances(x, y, metric)
  np.testing.assert_allclose(
    paired, np.diag(matrix(x, y, metric)), rtol=1e-5, atol=1e-6
  )
  np.testing.assert_allclose(
    np.diag(pairwise_distances(x, y, metric)), paired, rtol=1e-5, atol=1e-6
  )


@pytest.mark.parametrize("metric", METRICS)
def test_distances_to_itself(metric, rng):
  x = rng.normal(size=(M, D)).astype(np.float32)
  distances = np.asarray(pairwise_distances(x, metric=metric))
  assert (np.diag(distances) == 0).all()
  np.testing.assert_allclose(
    distances, matrix(x, x, metric), rtol=1e-5, atol=1e-6
  )


def test_close_vectors_far_from_the_origin(rng):
  """The plain expansion of the square returns 0 or noise here."""
  x = (1000.0 + 1e-2 * rng.normal(size=(M, D))).astype(np.float32)
  np.testing.assert_allclose(
    pairwise_distances(x), matrix(x, x, "euclidean"), rtol=1e-4
  )


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("value", [0.0, 0.5])
def test_gradients_of_equal_vectors(metric, value):
  x = jnp.full((M, D), value)
  for distances in (
    lambda x: pairwise_distances(x, metric=metric),
    lambda x: pairwise_distances(x, 1.0 * x, metric),
    lambda x: paired_distances(x, jnp.full_like(x, value), metric),
  ):
    gradient = jax.grad(lambda x, d=distances: d(x).sum())(x)
    assert np.isfinite(gradient).all()
    # Cosines are defined up to the direction of rounding errors.
    np.testing.assert_allclose(gradient, 0.0, atol=1e-5)


@pytest.mark.parametrize("metric", METRICS)
def test_gradient(metric, rng):
  x, y = rng.normal(size=(2, M, D))
  weights = rng.normal(size=(M, M))
  gradient = jax.grad(
    lambda x: (weights * pairwise_distances(x, y, metric)).sum()
  )(jnp.float32(x))
  step = 1e-6
  expected = np.zeros_like(x)
  for index in np.ndindex(*x.shape):
    shift = np.zeros_like(x)
    shift[index] = step
    difference = matrix(x + shift, y, metric) - matrix(x - shift, y, metric)
    expected[index] = (weights * difference).sum() / (2 * step)
  np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("metric", METRICS)
def test_bfloat16_input(metric, rng):
  x = jnp.asarray(rng.normal(size=(M, D)), jnp.bfloat16)
  for distances in (
    pairwise_distances(x, metric=metric),
    paired_distances(x, x[::-1], metric),
  ):
    assert distances.dtype == jnp.float32
  np.testing.assert_allclose(
    pairwise_distances(x, metric=metric),
    matrix(x, x, metric),
    rtol=1e-3,
    atol=1e-5,
  )


def test_jit_equals_eager(rng):
  x, y = rng.normal(size=(2, M, D)).astype(np.float32)
  for metric in METRICS:
    np.testing.assert_allclose(
      jax.jit(pairwise_distances, static_argnames="metric")(x, y, metric),
      pairwise_distances(x, y, metric),
      rtol=1e-6,
      atol=1e-6,
    )


def test_l2_normalize(rng):
  x = rng.normal(size=(M, D)).astype(np.float32)
  x[0] = 0.0
  x[1] = 1e-10
  expected = x.astype(np.float64)
  expected[1:] /= np.linalg.norm(expected[1:], axis=1, keepdims=True)
  np.testing.assert_allclose(l2_normalize(x), expected, rtol=1e-6)
  gradient = jax.grad(lambda x: l2_normalize(x)[:, 0].sum())(jnp.asarray(x))
  assert np.isfinite(gradient).all()
  assert (np.asarray(gradient[0]) == 0).all()


def test_cosine_similarities(rng):
  x = rng.normal(size=(M, D)).astype(np.float32)
  np.testing.assert_allclose(
    pairwise_cosine_similarities(x, x), 1 - matrix(x, x, "cosine"), atol=1e-6
  )


def test_unknown_metric():
  x = jnp.zeros((2, 2))
  for function in (pairwise_distances, paired_distances):
    with pytest.raises(ValueError, match=r"sq_euclidean.*got 'l3'"):
      function(x, x, "l3")
