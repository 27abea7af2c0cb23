"""Confidence intervals against published formulas and their coverage."""

import numpy as np
import pytest
from scipy import stats

from segsiam_jax.metrics import (
  bootstrap_interval,
  roc_auc,
  t_interval,
  wilson_interval,
)


@pytest.mark.parametrize("trials", [1, 20, 400])
@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_wilson(trials, confidence):
  for successes in {0, trials // 3, trials}:
    expected = stats.binomtest(successes, trials).proportion_ci(
      confidence, method="wilson"
    )
    interval = wilson_interval(successes, trials, confidence)
    np.testing.assert_allclose(interval, expected, atol=1e-12)
  assert wilson_interval(0, 0) == (0.0, 1.0)


def test_t(rng):
  values = rng.normal(size=7)
  expected = stats.ttest_1samp(values, 0).confidence_interval(0.9)
  interval = t_interval(values.mean(), values.std(ddof=1), 7, 0.9)
  np.testing.assert_allclose(interval, expected)
  assert t_interval(0.5, 0.0, 1) == (-np.inf, np.inf)


def test_bootstrap_matches_the_standard_error(rng):
  values = rng.normal(size=400)
  low, high = bootstrap_interval(np.mean, values, num_resamples=2000)
  half = 1.96 * values.std() / 20
  assert low == pytest.approx(values.mean() - half, abs=0.02)
  assert high == pytest.approx(values.mean() + half, abs=0.02)
  again = bootstrap_interval(np.mean, values, num_resamples=2000)
  assert (low, high) == again


def test_bootstrap_of_groups_is_wider(rng):
  """Ten copies of each value are no more evidence than one."""
  values = rng.normal(size=40)
  copies, groups = np.repeat(values, 10), np.repeat(np.arange(40), 10)
  alone = bootstrap_interval(np.mean, values)
  grouped = bootstrap_interval(np.mean, copies, groups=groups)
  ignored = bootstrap_interval(np.mean, copies)
  width = np.diff([alone, grouped, ignored], axis=1).ravel()
  assert width[1] == pytest.approx(width[0], rel=0.2)
  assert width[2] < 0.5 * width[1]


def test_bootstrap_of_pairs(rng):
  same = np.arange(60) % 2
  scores = rng.normal(same, 1.0)
  low, high = bootstrap_interval(roc_auc, scores, same, num_resamples=200)
  assert low < roc_auc(scores, same) < high
  with pytest.raises(ValueError, match=r"lengths \[60, 59\]"):
    bootstrap_interval(roc_auc, scores, same[1:])
  undefined = bootstrap_interval(lambda _: np.nan, scores, num_resamples=5)
  assert np.isnan(undefined).all()
