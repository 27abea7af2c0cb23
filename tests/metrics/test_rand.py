"""The foreground-restricted Rand score against all pairs of pixels."""

import itertools

import numpy as np
import pytest

from segsiam_jax.metrics import RandScores, foreground_rand_score


def by_pairs(segments, truth):
  """Ordered pairs of pixels with themselves, as sums of squares count."""
  inside = truth != 0
  pairs = list(
    itertools.product(
      zip(segments[inside], truth[inside], strict=True), repeat=2
    )
  )
  same_segment = [a[0] == b[0] for a, b in pairs]
  same_truth = [a[1] == b[1] for a, b in pairs]
  both = sum(x and y for x, y in zip(same_segment, same_truth, strict=True))
  split, merge = both / sum(same_truth), both / sum(same_segment)
  return 2 * split * merge / (split + merge), split, merge


def test_equals_counting_pairs(rng):
  for _ in range(5):
    truth = rng.integers(0, 4, (5, 6))
    segments = rng.integers(1, 5, (5, 6))
    assert foreground_rand_score(segments, truth) == pytest.approx(
      by_pairs(segments, truth)
    )


def test_the_width_of_borders_is_no_error_but_their_absence_is():
  truth = np.zeros((8, 21), int)
  truth[:, :10], truth[:, 11:] = 1, 2
  wide = truth.copy()
  wide[:, 8:13] = 0
  assert foreground_rand_score(wide, truth).score == 1.0
  merged = foreground_rand_score(np.ones_like(truth), truth)
  assert (merged.split, merged.merge) == (1.0, 0.5)
  halves = np.where(np.arange(8)[:, None] < 4, wide, wide + 2 * (wide > 0))
  assert foreground_rand_score(halves, truth)[1:] == (0.5, 1.0)


def test_edges():
  assert np.isnan(foreground_rand_score(np.ones((2, 2)), np.zeros((2, 2)))[0])
  nothing = foreground_rand_score(np.zeros((2, 2)), np.ones((2, 2)))
  assert nothing.score == 1.0
  with pytest.raises(ValueError, match="shape"):
    foreground_rand_score(np.zeros((2, 2)), np.zeros((2, 3)))


def test_state_takes_rows_and_finds_the_threshold():
  label = np.zeros((3, 6, 9), np.uint8)
  label[:2, :, :4] = label[:2, :, 5:] = 1
  interior = np.where(label == 1, 0.9, 0.55)
  batch = {"label": label, "mask": np.array([1.0, 1.0, 0.0])}
  state = RandScores(1)
  assert state.compute() == {}
  state.add(batch, {"probabilities": np.stack([1 - interior, interior], -1)})
  metrics = state.gather().compute()
  # At one half the border is missed; above 0.55 it is found.
  assert metrics["rand"] == pytest.approx(2 / 3)
  assert metrics["rand_best"] == 1.0
  assert metrics["rand_best_threshold"] == 0.6
