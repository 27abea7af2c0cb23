"""Confidence intervals of measured rates, on the host in float64."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import stats

from segsiam_jax.ops.shapes import check_integer, check_shapes


class Interval(NamedTuple):
  """Ends of a confidence interval."""

  low: float
  high: float


def wilson_interval(
  successes: float, trials: float, confidence: float = 0.95
) -> Interval:
  """Interval of a success rate over independent trials.

  Wilson 1927, "Probable Inference, the Law of Succession, and Statistical
  Inference". Unlike `p +- z sqrt(p (1 - p) / n)` it never leaves [0, 1] and
  is not empty at 0 % or 100 %.

  Args:
    successes: number of successes; fractions, as from ties, are allowed.
    trials: number of trials.
    confidence: probability to cover, in (0, 1).

  Returns:
    Both ends; (0, 1) without trials, NaN for a NaN.

  Raises:
    ValueError: confidence outside (0, 1), or successes outside [0, trials].

  >>> low, high = wilson_interval(368, 400)  # 92 % of 400 one-shot trials
  >>> round(low, 3), round(high, 3)
  (0.889, 0.943)
  """
  _check_confidence(confidence)
  check_shapes(successes=(successes, ""), trials=(trials, ""))
  successes, trials = float(successes), float(trials)
  if math.isnan(successes) or math.isnan(trials):
    return Interval(math.nan, math.nan)
  # A sum of shares may exceed their number by its rounding.
  if not -1e-6 * trials <= successes <= trials * (1 + 1e-6):
    raise ValueError(
      f"successes: needs 0 <= successes <= trials; got {successes} of {trials}"
    )
  if trials == 0:
    return Interval(0.0, 1.0)
  z = float(stats.norm.ppf(0.5 + confidence / 2))
  rate = min(max(successes / trials, 0.0), 1.0)
  shrink = 1 + z**2 / trials
  center = (rate + z**2 / (2 * trials)) / shrink
  variance = rate * (1 - rate) / trials + z**2 / (4 * trials**2)
  half = z / shrink * math.sqrt(max(variance, 0.0))
  return Interval(max(0.0, center - half), min(1.0, center + half))


def _check_confidence(confidence: float) -> None:
  if not 0 < confidence < 1:
    raise ValueError(f"confidence: needs to be in (0, 1); got {confidence}")


def t_interval(
  mean: float, std: float, count: float, confidence: float = 0.95
) -> Interval:
  """Student's interval of a mean, as over episodes, folds or random seeds.

  Args:
    mean: sample mean.
    std: sample standard deviation, with `count - 1` in its denominator.
    count: number of values.
    confidence: probability to cover, in (0, 1).

  Returns:
    `mean +- t std / sqrt(count)`; infinite for less than two values, NaN for
    a NaN.

  Raises:
    ValueError: confidence outside (0, 1).

  >>> low, high = t_interval(mean=0.5, std=0.1, count=4)
  >>> round(low, 4), round(high, 4)
  (0.3409, 0.6591)
  """
  _check_confidence(confidence)
  check_shapes(mean=(mean, ""), std=(std, ""), count=(count, ""))
  mean, std, count = float(mean), float(std), float(count)
  if math.isnan(mean + std + count):
    return Interval(math.nan, math.nan)
  if count < 2:
    return Interval(-math.inf, math.inf)
  t = stats.t.ppf(0.5 + confidence / 2, count - 1)
  half = float(t) * std / math.sqrt(count)
  return Interval(mean - half, mean + half)


def bootstrap_interval(
  statistic: Callable[..., float],
  *arrays: np.ndarray,
  groups: np.ndarray | None = None,
  num_resamples: int = 1000,
  confidence: float = 0.95,
  seed: int = 0,
) -> Interval:
  """Percentile interval of any statistic, from resampling with replacement.

  Efron 1979, "Bootstrap Methods: Another Look at the Jackknife".

  Pairs that share images or people are not independent, and resampling them
  one by one gives intervals that are too short. Pass `groups`, such as the
  identity of each pair's first image, to resample whole groups.

  Args:
    statistic: takes the resampled arrays, returns a number. A resample for
      which it is NaN (the AUC of one class only) is left out.
    *arrays: `(N, ...)` each, resampled together.
    groups: `(N,)` group of each row; None resamples rows.
    num_resamples: number of resamples.
    confidence: probability to cover, in (0, 1).
    seed: of the resampling.

  Returns:
    Both ends; NaN if the statistic is NaN for the arrays themselves, or for
    all resamples.

  Raises:
    ValueError: arrays of different lengths, or empty ones; confidence outside
      (0, 1), or no resample.

  >>> interval = bootstrap_interval(np.mean, np.array([1.0, 1.0, 1.0]))
  >>> float(interval.low), float(interval.high)
  (1.0, 1.0)
  """
  _check_confidence(confidence)
  num_resamples = check_integer("num_resamples", num_resamples, 1)
  arrays = tuple(np.asarray(array) for array in arrays)
  lengths = [len(array) if array.ndim else 0 for array in arrays]
  if len(set(lengths)) != 1 or 0 in lengths:
    raise ValueError(
      "arrays: expected shapes (N, ...) of one N above 0; got lengths "
      f"{lengths}"
    )
  check_shapes(arrays=(arrays[0], "N *S"), groups=(groups, "N"))
  # A resample may miss the row that makes it NaN.
  if math.isnan(statistic(*arrays)):
    return Interval(math.nan, math.nan)
  generator = np.random.default_rng(seed)
  if groups is None:
    members = None
    count = len(arrays[0])
  else:
    _, group = np.unique(np.asarray(groups), return_inverse=True)
    order = np.argsort(group, kind="stable")
    members = np.split(order, np.cumsum(np.bincount(group))[:-1])
    count = len(members)
  values = np.empty(num_resamples)
  for i in range(num_resamples):
    rows = generator.integers(count, size=count)
    if members is not None:
      rows = np.concatenate([members[j] for j in rows])
    values[i] = statistic(*(array[rows] for array in arrays))
  values = values[~np.isnan(values)]
  if not values.size:
    return Interval(math.nan, math.nan)
  tail = (1 - confidence) / 2
  low, high = np.quantile(values, [tail, 1 - tail])
  return Interval(float(low), float(high))
