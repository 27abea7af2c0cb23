"""Verification measures against loops over all thresholds and scikit-learn."""

import itertools

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from segsiam_jax.metrics import (
  ScoreHistogram,
  best_threshold,
  equal_error_rate,
  roc,
  roc_auc,
  tar_at_far,
)

quick = settings(max_examples=60, deadline=None, derandomize=True)
# Few distinct scores: most have ties between both kinds.
pairs = st.lists(
  st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=30
).filter(lambda rows: 0 < sum(same for _, same in rows) < len(rows))


def unpack(rows):
  scores, same = zip(*rows, strict=True)
  return np.array(scores) / 4, np.array(same)


def rates(scores, same, threshold):
  accepted = scores >= threshold
  return accepted[~same].mean(), accepted[same].mean()


@quick
@given(pairs)
def test_roc_and_auc(rows):
  scores, same = unpack(rows)
  curve = roc(scores, same)
  for far, tar, threshold in zip(*curve, strict=True):
    assert (far, tar) == rates(scores, same, threshold)
  far, tar, thresholds = sklearn_metrics.roc_curve(
    same, scores, drop_intermediate=False
  )
  np.testing.assert_allclose(curve.far, far)
  np.testing.assert_allclose(curve.tar, tar)
  np.testing.assert_array_equal(curve.thresholds, thresholds)

  wins = [(a > b) + 0.5 * (a == b) for a in scores[same] for b in scores[~same]]
  assert roc_auc(scores, same) == pytest.approx(np.mean(wins))
  assert roc_auc(scores, same) == pytest.approx(
    sklearn_metrics.roc_auc_score(same, scores)
  )


@quick
@given(pairs)
def test_equal_error_rate(rows):
  """Where the segments between loops' points cross far = 1 - tar."""
  scores, same = unpack(rows)
  error = equal_error_rate(scores, same)
  thresholds = sorted(set(scores), reverse=True)
  points = [(0.0, 0.0), *(rates(scores, same, t) for t in thresholds)]
  crossings = []
  for (far, tar), (next_far, next_tar) in itertools.pairwise(points):
    if far + tar <= 1 <= next_far + next_tar:
      share = (1 - far - tar) / (next_far + next_tar - far - tar)
      crossings.append(far + share * (next_far - far))
  assert error.rate == pytest.approx(crossings[0], abs=1e-9)
  imbalance = {t: abs(sum(rates(scores, same, t)) - 1) for t in thresholds}
  assert imbalance[error.threshold] == pytest.approx(min(imbalance.values()))


@quick
@given(pairs, st.sampled_from([0.0, 0.2, 0.5, 1.0]))
def test_tar_at_far(rows, far):
  scores, same = unpack(rows)
  if far and far < 1 / (~same).sum():
    far = 1.0
  point = tar_at_far(scores, same, far)
  candidates = [np.inf, *scores]
  kept = [t for t in candidates if rates(scores, same, t)[0] <= far]
  assert (point.far, point.tar) == rates(scores, same, min(kept))
  assert rates(scores, same, point.threshold) == (point.far, point.tar)

  interpolated = tar_at_far(scores, same, far, interpolate=True)
  curve = roc(scores, same)
  # Above the vertical steps of the curve.
  last = {f: t for f, t in zip(curve.far, curve.tar, strict=True)}
  first = {f: t for f, t in zip(curve.far[::-1], curve.tar[::-1], strict=True)}
  below = max(f for f in last if f <= far)
  if below == far:
    assert interpolated.tar == last[far]
  else:
    above = min(f for f in first if f > far)
    share = (far - below) / (above - below)
    assert interpolated.tar == pytest.approx(
      last[below] + share * (first[above] - last[below])
    )


def test_far_below_resolution():
  scores, same = np.arange(20.0), np.arange(20) >= 10
  with pytest.warns(UserWarning, match="below 1/10"):
    point = tar_at_far(scores, same, far=0.01)
  assert point == (1.0, 0.0, 10.0)
  with pytest.raises(ValueError, match=r"far must be in \[0, 1\]; got 2"):
    tar_at_far(scores, same, far=2)


@quick
@given(pairs)
def test_best_threshold(rows):
  scores, same = unpack(rows)
  distinct = np.unique(scores)
  candidates = [-np.inf, *((distinct[1:] + distinct[:-1]) / 2), np.inf]

  def accuracy(threshold, balanced):
    right = (scores >= threshold) == same
    if balanced:
      return (right[same].mean() + right[~same].mean()) / 2
    return right.mean()

  for criterion in ("accuracy", "balanced_accuracy"):
    balanced = criterion == "balanced_accuracy"
    best = best_threshold(scores, same, criterion=criterion)
    expected = max(accuracy(t, balanced) for t in candidates)
    assert best.accuracy == pytest.approx(expected)
    assert accuracy(best.threshold, balanced) == pytest.approx(expected)


def test_best_threshold_ties_and_candidates():
  # Between 0 and 1 or between 5 and 9: the wider gap.
  scores, same = np.array([0.0, 1.0, 5.0, 9.0]), np.array([0, 1, 0, 1])
  assert best_threshold(scores, same) == (7.0, 0.75)
  assert best_threshold(scores, same, candidates=[9.5, 0.5, 7.0]) == (0.5, 0.75)
  with pytest.raises(ValueError, match="got 'f1'"):
    best_threshold(scores, same, criterion="f1")


def test_constant_scores():
  """An untrained or collapsed network: chance, whatever the order."""
  scores, same = np.full(10, 0.3), np.arange(10) < 5
  assert roc_auc(scores, same) == 0.5
  assert equal_error_rate(scores, same) == (0.5, 0.3)
  assert best_threshold(scores, same).accuracy == 0.5
  assert tar_at_far(scores, same, far=0.5).tar == 0.0
  assert tar_at_far(scores, same, far=0.5, interpolate=True).tar == 0.5


def test_perfect_scores():
  scores, same = np.array([3.0, 2.0, 1.0]), np.array([1, 1, 0])
  assert roc_auc(scores, same) == 1.0
  assert equal_error_rate(scores, same).rate == 0.0
  assert roc_auc(-scores, same) == 0.0
  assert equal_error_rate(-scores, same).rate == 1.0


@pytest.mark.parametrize("function", [roc, roc_auc, equal_error_rate])
def test_errors(function):
  with pytest.raises(
    ValueError, match=r"1 of 3 scores are NaN \(first: pair 1"
  ):
    function(np.array([0.0, np.nan, 1.0]), np.array([0, 0, 1]))
  with pytest.raises(ValueError, match="got 0 same and 2 different"):
    function(np.zeros(2), np.zeros(2))
  with pytest.raises(ValueError, match="one length"):
    function(np.zeros(2), np.zeros(3))


def test_histogram(rng):
  """Streamed, padded and merged, the rates of scores rounded to bins."""
  num_bins, size = 20, 64
  empty = ScoreHistogram.empty(num_bins=num_bins, far=0.2)
  update = jax.jit(
    lambda state, *pair: state.merge(
      state.empty(num_bins=num_bins, far=0.2).of(*pair)
    )
  )
  state, all_scores, all_same = empty, [], []
  for count in (64, 64, 10):
    same = rng.integers(0, 2, size)
    scores = np.clip(rng.normal(0.5 * same, 0.5), -1.2, 1.2).astype(np.float32)
    where = np.arange(size) < count
    all_scores.append(scores[where])
    all_same.append(same[where])
    state = update(state, np.where(where, scores, np.nan), same, where)
  scores, same = np.concatenate(all_scores), np.concatenate(all_same)
  bins = np.clip(np.floor((scores + 1) * 10), 0, 19)
  values = state.compute()
  assert values["auc"] == pytest.approx(roc_auc(bins, same))
  error = equal_error_rate(bins, same)
  assert values["eer"] == pytest.approx(error.rate)
  assert values["eer_threshold"] == pytest.approx(error.threshold / 10 - 1)
  assert values["tar"] == pytest.approx(tar_at_far(bins, same, far=0.2).tar)
  assert abs(values["auc"] - roc_auc(scores, same)) < 0.02
  assert np.isnan(list(empty.compute().values())).all()
