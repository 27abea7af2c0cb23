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

import dataclasses
import warnings
from collections.abc import Sequence
from typing import Literal, NamedTuple

import flax
import jax
import jax.numpy as jnp
import numpy as np

from segsiam_jax.metrics.base import MetricState
from segsiam_jax.metrics.checks import check_no_nan
from segsiam_jax.ops.shapes import check_integer, check_shapes

Criterion = Literal["accuracy", "balanced_accuracy"]


class Roc(NamedTuple):
  """Receiver operating characteristic, from (0, 0) to (1, 1).

  Attributes:
    far: `(T + 1,)` false accept rates, ascending.
    tar: `(T + 1,)` true accept rates, ascending.
    thresholds: `(T + 1,)` descending; the first is infinite (accepts none).
  """

  far: np.ndarray
  tar: np.ndarray
  thresholds: np.ndarray


class EqualError(NamedTuple):
  """Where both error rates are equal."""

  rate: float
  threshold: float


class OperatingPoint(NamedTuple):
  """Rates at a threshold."""

  tar: float
  far: float
  threshold: float


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
  return _curve(
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
  return _equal_error(roc(scores, same))


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
  return _operating_point(curve, far, interpolate)


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


@flax.struct.dataclass
class ScoreHistogram(MetricState):
  """Scores of both kinds of pairs, counted in bins: for streams of any length.

  A billion pairs fit, states add up over steps and devices, and the rates are
  those of scores rounded to bins: a score within a bin of a threshold may count
  on its other side. Scores outside [low, high) count in the outermost bins.

  Attributes:
    same: `(num_bins,)` int32, counts of same pairs.
    different: `(num_bins,)` int32, counts of different pairs.
    missing: () int32, count of NaN scores.
    low: lower end of the first bin.
    high: upper end of the last bin.
    far: false accept rate of the "tar" that is reported.
  """

  same: jax.Array
  different: jax.Array
  missing: jax.Array
  low: float = flax.struct.field(pytree_node=False)
  high: float = flax.struct.field(pytree_node=False)
  far: float = flax.struct.field(pytree_node=False)

  @classmethod
  def empty(
    cls,
    low: float = -1.0,
    high: float = 1.0,
    num_bins: int = 2000,
    far: float = 1e-3,
  ) -> "ScoreHistogram":
    """State without pairs; the default range is that of a cosine.

    Raises:
      ValueError: no bin, no range, or `far` outside [0, 1].
    """
    num_bins = check_integer("num_bins", num_bins, 1)
    if not low < high:
      raise ValueError(f"low: needs low < high; got {low} and {high}")
    _check_far(far)
    zeros = jnp.zeros((num_bins,), jnp.int32)
    return cls(
      same=zeros,
      different=zeros,
      missing=jnp.zeros((), jnp.int32),
      low=float(low),
      high=float(high),
      far=float(far),
    )

  def of(
    self,
    scores: jax.Array,
    same: jax.Array,
    where: jax.Array | None = None,
  ) -> "ScoreHistogram":
    """State of these pairs alone, with the bins of this one.

    Args:
      scores: `(...)`.
      same: `(...)`.
      where: `(...)` mask, nonzero = count.

    Returns:
      A state to be merged.

    Raises:
      ValueError: shapes that do not fit.

    >>> empty = ScoreHistogram.empty(num_bins=4)
    >>> state = empty.of(jnp.array([0.9, 0.1, -0.9]), jnp.array([1, 1, 0]))
    >>> state.same.tolist(), state.different.tolist()
    ([0, 0, 1, 1], [1, 0, 0, 0])
    >>> state.compute()["auc"]
    1.0
    """
    check_shapes(scores=(scores, "*S"), same=(same, "*S"), where=(where, "*S"))
    num_bins = self.same.shape[0]
    scores = jnp.asarray(scores, jnp.float32).ravel()
    same = (jnp.asarray(same) != 0).ravel()
    counted = jnp.ones_like(same) if where is None else jnp.ravel(where) != 0
    missing = counted & jnp.isnan(scores)
    counted &= ~missing
    scaled = (scores - self.low) * (num_bins / (self.high - self.low))
    bins = jnp.clip(jnp.floor(scaled), 0, num_bins - 1).astype(jnp.int32)
    zeros = jnp.zeros((num_bins,), jnp.int32)
    return dataclasses.replace(
      self,
      same=zeros.at[bins].add(same & counted),
      different=zeros.at[bins].add(~same & counted),
      missing=jnp.sum(missing, dtype=jnp.int32),
    )

  def compute(self) -> dict[str, float]:
    """`auc`, `eer`, `eer_threshold` and `tar`; NaN without both kinds.

    Raises:
      ValueError: scores were NaN.
    """
    if self.missing:
      raise ValueError(f"scores: {int(self.missing)} of them are NaN")
    same, different = np.asarray(self.same), np.asarray(self.different)
    names = ("auc", "eer", "eer_threshold", "tar")
    if not same.sum() or not different.sum():
      return dict.fromkeys(names, float("nan"))
    edges = np.linspace(self.low, self.high, len(same) + 1)
    curve = _curve(
      accepted_same=np.cumsum(same[::-1])[::-1],
      accepted_different=np.cumsum(different[::-1])[::-1],
      ascending=edges[:-1],
    )
    error = _equal_error(curve)
    values = (
      float(np.trapezoid(curve.tar, curve.far)),
      error.rate,
      error.threshold,
      _operating_point(curve, self.far, interpolate=False).tar,
    )
    return dict(zip(names, values, strict=True))


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


def _curve(
  accepted_same: np.ndarray,
  accepted_different: np.ndarray,
  ascending: np.ndarray,
) -> Roc:
  """ROC from the numbers accepted at ascending thresholds."""

  def rates(accepted):
    return np.concatenate([[0.0], accepted[::-1] / accepted[0]])

  return Roc(
    far=rates(accepted_different),
    tar=rates(accepted_same),
    thresholds=np.concatenate([[np.inf], ascending[::-1]]).astype(np.float64),
  )


def _equal_error(curve: Roc) -> EqualError:
  # Rises from 0 to 2 at every point; both error rates are equal where it is 1.
  accepted = curve.far + curve.tar
  rate = np.interp(1.0, accepted, curve.far)
  nearest = 1 + np.argmin(np.abs(accepted[1:] - 1.0))
  return EqualError(float(rate), float(curve.thresholds[nearest]))


def _check_far(far: float) -> None:
  if not 0 <= far <= 1:
    raise ValueError(f"far must be in [0, 1]; got {far}")


def _operating_point(
  curve: Roc, far: float, interpolate: bool
) -> OperatingPoint:
  _check_far(far)
  # The last of equal FARs has the highest TAR.
  last = int(np.searchsorted(curve.far, far, side="right")) - 1
  tar, threshold = curve.tar[last], curve.thresholds[last]
  measured = curve.far[last]
  if interpolate and measured < far:
    share = (far - measured) / (curve.far[last + 1] - measured)
    tar = tar + share * (curve.tar[last + 1] - tar)
    measured = far
  return OperatingPoint(float(tar), float(measured), float(threshold))
