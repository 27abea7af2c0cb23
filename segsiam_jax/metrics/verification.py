"""Is this pair the same identity? Rates and thresholds from pair scores.

On the host, in float64. `scores (P,)` are larger for more similar pairs (pass
negated distances), `same (P,)` is 1 for the same identity. A pair is accepted
if `score >= threshold`; the false accept rate (FAR) is the share of accepted
pairs among the different ones, the true accept rate (TAR) among the same ones,
the false reject rate 1 - TAR.

NaN is refused by name, among scores and elsewhere: sorted and compared, it
would count as the best score, or as a rejection.

Equal scores are one step of the ROC curve, never an order that happens to
favour the right answer: a constant score has AUC 0.5 and equal error rate 0.5.
"""

import warnings
from collections.abc import Sequence
from typing import Literal, NamedTuple

import jax.numpy as jnp
import numpy as np

from segsiam_jax.metrics.checks import check_no_nan
from segsiam_jax.metrics.roc_curves import (
  EqualError,
  OperatingPoint,
  Roc,
  curve_of,
  equal_error_of,
  operating_point,
)
from segsiam_jax.ops.shapes import check_shapes

Criterion = Literal["accuracy", "balanced_accuracy"]


class BestThreshold(NamedTuple):
  """Threshold with the highest accuracy, and that accuracy."""

  threshold: float
  accuracy: float


def roc(scores: np.ndarray, same: np.ndarray) -> Roc:
  """The ROC curve, one point for each distinct score.

  Args:
    scores: `(P,)`.
    same: `(P,)`.

  Returns:
    All points; those on a straight line are kept (scikit-learn's `roc_curve`
    with `drop_intermediate=False`).

  Raises:
    ValueError: NaN scores, no pair of one of the kinds, or a score of plus
      infinity, which no threshold rejects.

  >>> curve = roc(np.array([0.9, 0.4, 0.4]), np.array([1, 1, 0]))
  >>> curve.far.tolist(), curve.tar.tolist()
  ([0.0, 0.0, 1.0], [0.0, 0.5, 1.0])
  """
  same_scores, other_scores = _sorted_by_kind(scores, same)
  if max(same_scores[-1], other_scores[-1]) == np.inf:
    raise ValueError("scores: an infinite score is accepted at any threshold")
  ascending = np.unique(np.concatenate([same_scores, other_scores]))
  return curve_of(
    accepted_same=len(same_scores) - np.searchsorted(same_scores, ascending),
    accepted_different=len(other_scores)
    - np.searchsorted(other_scores, ascending),
    ascending=ascending,
  )


def roc_auc(scores: np.ndarray, same: np.ndarray) -> float:
  """Area under the ROC curve.

  The probability that a same pair has a larger score than a different one,
  ties counting half (Hanley & McNeil 1982).

  Args:
    scores: `(P,)`.
    same: `(P,)`.

  Returns:
    In [0, 1].

  Raises:
    ValueError: NaN scores, or no pair of one of the kinds.

  >>> roc_auc(np.array([0.9, 0.4, 0.4]), np.array([1, 1, 0]))
  0.75
  """
  same_scores, other_scores = _sorted_by_kind(scores, same)
  below = np.searchsorted(other_scores, same_scores, side="left").sum()
  not_above = np.searchsorted(other_scores, same_scores, side="right").sum()
  return float((below + not_above) / (2 * len(same_scores) * len(other_scores)))


def equal_error_rate(scores: np.ndarray, same: np.ndarray) -> EqualError:
  """Error rate at which as many are falsely accepted as falsely rejected.

  The crossing of the ROC curve, interpolated linearly, with `TAR = 1 - FAR`
  (facenet's `brentq` finds the same point).

  Args:
    scores: `(P,)`.
    same: `(P,)`.

  Returns:
    The rate, and the score whose two error rates are closest to it.

  Raises:
    ValueError: NaN scores, or no pair of one of the kinds.

  >>> error = equal_error_rate(np.array([3, 2, 1, 0]), np.array([1, 0, 1, 0]))
  >>> error.rate, error.threshold
  (0.5, 2.0)
  """
  return equal_error_of(roc(scores, same))


def tar_at_far(
  scores: np.ndarray,
  same: np.ndarray,
  far: float,
  *,
  interpolate: bool = False,
) -> OperatingPoint:
  """True accept rate at a false accept rate that is not exceeded.

  Args:
    scores: `(P,)`.
    same: `(P,)`.
    far: the largest false accept rate allowed, such as 1e-3. Below one in the
      number of different pairs it cannot be told from 0, and a warning says so.
    interpolate: False takes the loosest threshold that keeps to `far`, as
      a deployed system must. True interpolates the TAR to exactly `far`
      between that threshold and the next one, as papers on faces do.

  Returns:
    The rates measured at the threshold; with `interpolate` the TAR and FAR
    are the interpolated ones. The threshold is infinite if even the
    best score is of a different pair and `far` allows none.

  Raises:
    ValueError: NaN scores, no pair of one of the kinds, `far` outside [0, 1].

  >>> scores, same = np.array([4, 3, 2, 1]), np.array([1, 0, 1, 0])
  >>> tar_at_far(scores, same, far=0.5)
  OperatingPoint(tar=1.0, far=0.5, threshold=2.0)
  """
  curve = roc(scores, same)
  num_different = np.size(same) - np.count_nonzero(same)
  if 0 < far < 1 / num_different:
    warnings.warn(
      f"far={far:g} is below 1/{num_different}, the smallest rate that "
      f"{num_different} different pairs can show: it is measured as 0",
      stacklevel=2,
    )
  return operating_point(curve, far, interpolate)


def best_threshold(
  scores: np.ndarray,
  same: np.ndarray,
  *,
  criterion: Criterion = "accuracy",
  candidates: Sequence[float] | np.ndarray | None = None,
) -> BestThreshold:
  """The threshold that classifies most pairs right.

  To be chosen on other pairs than those an accuracy is reported on: see
  `k_fold_verification`.

  Args:
    scores: `(P,)`.
    same: `(P,)`.
    criterion: "accuracy", or "balanced_accuracy" for `(TAR + 1 - FAR) / 2`
      (Dey et al. 2017, SigNet), which unequal numbers of both kinds of pairs
      leave unchanged.
    candidates: `(T,)` thresholds to choose from, the first of equals, such
      as `-np.arange(0, 4, 0.01)` on negated squared distances for the grid of
      facenet and insightface (which accept if *below* the distance, not at
      it). None chooses among all: the middle of the gap between two scores,
      or the upper one if no number of their dtype lies between; of equals,
      that of the widest gap.

  Returns:
    Threshold and accuracy.

  Raises:
    ValueError: NaN scores or candidates, no candidates, no pair of one of the
      kinds, unknown criterion.

  >>> best_threshold(np.array([4, 3, 1, 0]), np.array([1, 1, 0, 0]))
  BestThreshold(threshold=2.0, accuracy=1.0)
  """
  same_scores, other_scores = _sorted_by_kind(scores, same)
  if candidates is None:
    distinct = np.unique(np.concatenate([same_scores, other_scores]))
    # Accepting all is a threshold at the lowest score; accepting none, at
    # infinity. They have no gap and so lose against equals that have one.
    thresholds = np.concatenate(
      [distinct[:1], _between(distinct, np.asarray(scores).dtype), [np.inf]]
    ).astype(np.float64)
    with np.errstate(over="ignore"):
      gaps = np.diff(distinct.astype(np.float64), prepend=distinct[0])
    gaps = np.append(gaps, 0.0)
  else:
    check_shapes(candidates=(candidates, "T+"))
    check_no_nan("threshold", candidates=candidates)
    thresholds = np.asarray(candidates, np.float64)
    gaps = np.zeros(len(thresholds))
  right_same = len(same_scores) - np.searchsorted(same_scores, thresholds)
  right_different = np.searchsorted(other_scores, thresholds)
  if criterion == "accuracy":
    accuracies = (right_same + right_different) / (
      len(same_scores) + len(other_scores)
    )
  elif criterion == "balanced_accuracy":
    accuracies = (
      right_same / len(same_scores) + right_different / len(other_scores)
    ) / 2
  else:
    raise ValueError(
      f"criterion must be accuracy or balanced_accuracy; got {criterion!r}"
    )
  best = accuracies.max()
  winner = np.argmax(np.where(accuracies == best, gaps, -1.0))
  return BestThreshold(float(thresholds[winner]), float(best))


def _sorted_by_kind(
  scores: np.ndarray, same: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Sorted scores of the same and of the different pairs."""
  # Kept in their own precision for sorting: float32 sorts twice as fast.
  scores, same = np.asarray(scores), np.asarray(same)
  if scores.shape != same.shape or scores.ndim != 1:
    raise ValueError(
      "scores and same must be (P,) arrays of one length; got shapes "
      f"{scores.shape} and {same.shape}"
    )
  check_no_nan("pair", scores=scores, same=same)
  if not np.issubdtype(scores.dtype, np.floating):
    scores = scores.astype(np.float64)
  same = same != 0
  same_scores, other_scores = np.sort(scores[same]), np.sort(scores[~same])
  if not len(same_scores) or not len(other_scores):
    raise ValueError(
      "verification needs both kinds of pairs; got "
      f"{len(same_scores)} same and {len(other_scores)} different"
    )
  return same_scores, other_scores


def _between(distinct: np.ndarray, dtype: np.dtype) -> np.ndarray:
  """A threshold in each gap: above the lower score, at most the upper.

  Args:
    distinct: `(n,)` ascending scores.
    dtype: the scores' own, in which they will be compared with a threshold.

  Returns:
    `(n - 1,)` float64.
  """
  lower, upper = distinct[:-1].astype(np.float64), distinct[1:]
  with np.errstate(over="ignore", invalid="ignore"):
    middle = lower / 2 + upper / 2
    compared = middle
    if jnp.issubdtype(dtype, jnp.floating):
      compared = middle.astype(dtype).astype(np.float64)
  # Of neighbouring numbers, and next to infinity, it may be the lower one.
  return np.where(compared > lower, middle, upper)
