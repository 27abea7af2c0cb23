"""Verification of any number of pairs, from binned scores."""

import dataclasses

import flax
import jax
import jax.numpy as jnp
import numpy as np

from segsiam_jax.metrics.base import MetricState
from segsiam_jax.metrics.roc_curves import (
  check_far,
  curve_of,
  equal_error_of,
  operating_point,
)
from segsiam_jax.ops.shapes import check_integer, check_shapes


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
    check_far(far)
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
    curve = curve_of(
      accepted_same=np.cumsum(same[::-1])[::-1],
      accepted_different=np.cumsum(different[::-1])[::-1],
      ascending=edges[:-1],
    )
    error = equal_error_of(curve)
    values = (
      float(np.trapezoid(curve.tar, curve.far)),
      error.rate,
      error.threshold,
      operating_point(curve, self.far, interpolate=False).tar,
    )
    return dict(zip(names, values, strict=True))
