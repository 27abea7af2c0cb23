"""ROC curves from counts, and points of them."""

from typing import NamedTuple

import numpy as np


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


def curve_of(
  accepted_same: np.ndarray,
  accepted_different: np.ndarray,
  ascending: np.ndarray,
) -> Roc:
  """The ROC curve of numbers of accepted pairs.

  Args:
    accepted_same: `(T,)` same pairs that each threshold accepts; the first one
      accepts all.
    accepted_different: `(T,)` different pairs.
    ascending: `(T,)` the thresholds.
  """

  def rates(accepted: np.ndarray) -> np.ndarray:
    return np.concatenate([[0.0], accepted[::-1] / accepted[0]])

  return Roc(
    far=rates(accepted_different),
    tar=rates(accepted_same),
    thresholds=np.concatenate([[np.inf], ascending[::-1]]).astype(np.float64),
  )


def equal_error_of(curve: Roc) -> EqualError:
  """The point of a curve at which both error rates are equal."""
  # Rises from 0 to 2 at every point; both error rates are equal where it is 1.
  accepted = curve.far + curve.tar
  rate = np.interp(1.0, accepted, curve.far)
  nearest = 1 + np.argmin(np.abs(accepted[1:] - 1.0))
  return EqualError(float(rate), float(curve.thresholds[nearest]))


def check_far(far: float) -> None:
  """Raises `ValueError` for what is no false accept rate."""
  if not 0 <= far <= 1:
    raise ValueError(f"far must be in [0, 1]; got {far}")


def operating_point(
  curve: Roc, far: float, interpolate: bool
) -> OperatingPoint:
  """The point of a curve with at most a false accept rate.

  Args:
    curve: to read.
    far: the highest false accept rate.
    interpolate: whether a point between two of the curve counts.

  Raises:
    ValueError: `far` is outside [0, 1].
  """
  check_far(far)
  # The last of equal FARs has the highest TAR.
  last = int(np.searchsorted(curve.far, far, side="right")) - 1
  tar, threshold = curve.tar[last], curve.thresholds[last]
  measured = curve.far[last]
  if interpolate and measured < far:
    share = (far - measured) / (curve.far[last + 1] - measured)
    tar = tar + share * (curve.tar[last + 1] - tar)
    measured = far
  return OperatingPoint(float(tar), float(measured), float(threshold))
