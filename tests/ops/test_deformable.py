import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segsiam_jax.ops.deformable import (
  Deformation,
  Maps,
  deformable_distances,
  deformable_similarity,
)
from segsiam_jax.ops.distances import l2_normalize
from segsiam_jax.ops.similarity import similarity

SHAPE = (6, 5, 3)


def make(window=2, stride=2, views=1, penalty=0.3):
  return Deformation(jnp.float32(penalty), Maps(SHAPE, window, stride, views))


def draw(count, views=1, seed=0):
  rng = np.random.default_rng(seed)
  x = rng.standard_normal((count, views, np.prod(SHAPE))).astype(np.float32)
  return np.asarray(l2_normalize(x)).reshape(count, -1)


def slow_one_way(query, other, window, stride, penalty):
  height, width, _ = SHAPE
  costs = []
  for y in range(stride // 2, height, stride):
    for x in range(stride // 2, width, stride):
      best = np.inf
      for down in range(-window, window + 1):
        for right in range(-window, window + 1):
          length = down**2 + right**2
          if length > window**2 + 1:
            continue
          found = np.zeros(SHAPE[2])
          if 0 <= y + down < height and 0 <= x + right < width:
            found = other[y + down, x + right]
          cost = np.sum((query[y, x] - found) ** 2)
          best = min(best, cost + penalty * length / (height * width))
      costs.append(best)
  return np.mean(costs) * height * width


def slow(query, other, *settings):
  query, other = query.reshape(SHAPE), other.reshape(SHAPE)
  there = slow_one_way(query, other, *settings)
  return (there + slow_one_way(other, query, *settings)) / 2


@pytest.mark.parametrize(
  ("window", "stride", "penalty"), [(2, 2, 0.3), (1, 1, 0.0), (0, 3, 1.0)]
)
def test_distances_are_those_of_a_slow_loop(window, stride, penalty):
  queries, others = draw(3), draw(4, seed=1)
  got = deformable_distances(queries, others, make(window, stride, 1, penalty))
  expected = [
    [slow(x, y, window, stride, penalty) for y in others] for x in queries
  ]
  np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_without_a_window_it_is_the_squared_distance():
  x, y = draw(3), draw(4, seed=1)
  got = deformable_distances(x, y, make(window=0, stride=1))
  expected = np.square(x[:, None] - y).sum(-1)
  np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_what_has_moved_is_found():
  x = np.zeros((1, *SHAPE), np.float32)
  x[0, 2, 2, 0] = 1
  y = np.roll(x, 1, axis=2)
  flat = [z.reshape(1, -1) for z in (x, y)]
  assert deformable_distances(*flat, make(0, 1)) == pytest.approx(2)
  # Ink is found a place away, for the price of moving, and so is paper.
  bent = deformable_distances(*flat, make(1, 1, penalty=0.3))
  assert bent == pytest.approx(2 * 0.3 / 30)
  assert deformable_distances(flat[0], flat[0], make(1, 1)) == pytest.approx(0)


def test_parts_are_bent_apart():
  # Two parts, each of half the square of the norm.
  queries, others = (draw(3, 2, seed) / 2**0.5 for seed in (3, 4))
  maps = Maps(SHAPE, 2, 2, parts=2)
  got = deformable_distances(queries, others, Deformation(0.3, maps))
  x, y = (np.split(z, 2, axis=1) for z in (queries, others))
  expected = [
    [
      sum(slow(x[part][i], y[part][j], 2, 2, 0.15) for part in range(2))
      for j in range(3)
    ]
    for i in range(3)
  ]
  np.testing.assert_allclose(got, expected, rtol=1e-5)


@pytest.mark.slow
def test_the_best_view_counts():
  first, second = draw(5, views=3), draw(5, views=3, seed=1)
  deformation = make(views=3)
  x, y = (z.reshape(5, 3, -1) for z in (first, second))
  expected = [
    (
      min(slow(x[i, 0], y[i, view], 2, 2, 0.3) for view in range(3))
      + min(slow(y[i, 0], x[i, view], 2, 2, 0.3) for view in range(3))
    )
    / 2
    for i in range(5)
  ]
  got = similarity(first, second, "deformable", deformation)
  np.testing.assert_allclose(got, -np.array(expected), rtol=1e-5)
  all_pairs = deformable_similarity(first[:, None], second, deformation)
  assert all_pairs.shape == (5, 5)
  np.testing.assert_allclose(jnp.diagonal(all_pairs), got, rtol=1e-5)


def test_gradient_is_finite_and_right():
  queries, others = draw(2), draw(2, seed=1)

  def total(x, penalty):
    return deformable_distances(x, others, make(penalty=penalty)).sum()

  slopes = jax.grad(total, (0, 1))(jnp.asarray(queries), 0.3)
  step = 1e-3 * np.random.default_rng(2).standard_normal(queries.shape)
  for x, penalty in ((queries + step, 0.3), (queries, 0.303)):
    change = total(x, penalty) - total(2 * queries - x, 0.6 - penalty)
    expected = 2 * (
      jnp.vdot(slopes[0], x - queries) + slopes[1] * (penalty - 0.3)
    )
    assert change == pytest.approx(float(expected), rel=0.05)
  zeros = jnp.zeros_like(queries)
  assert jnp.isfinite(jax.grad(total)(zeros, 0.3)).all()
