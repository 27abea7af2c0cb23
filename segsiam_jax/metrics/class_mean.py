"""Means by class of any score that may be undefined for some images."""

from collections.abc import Sequence
from typing import Any, Self

import flax
import jax
import jax.numpy as jnp
import numpy as np

from segsiam_jax.metrics.base import MetricState
from segsiam_jax.ops.shapes import check_shapes


def as_class_names(classes: int | Sequence[str]) -> tuple[str, ...]:
  """Names of the classes; their numbers if only their count is given.

  >>> as_class_names(2)
  ('0', '1')
  """
  if isinstance(classes, int):
    return tuple(str(index) for index in range(classes))
  return tuple(classes)


def ratio(numerator: Any, denominator: Any, xp: Any) -> Any:
  """Quotient, NaN where the denominator is 0, in NumPy or jax.numpy (`xp`)."""
  quotient = numerator / xp.where(denominator == 0, 1, denominator)
  return xp.where(denominator == 0, xp.nan, quotient)


def mean_of_defined(scores: np.ndarray, defined: np.ndarray) -> float:
  """Mean of the defined scores, NaN if one of them is or if there are none.

  >>> mean_of_defined(np.array([0.5, np.nan]), np.array([True, False]))
  0.5
  """
  scores = scores[defined]
  return float(scores.mean()) if scores.size else float("nan")


@flax.struct.dataclass
class ClassMean(MetricState):
  """Mean over images of a score per class, then mean over classes.

  Any per-image metric becomes a streaming one through it. Images where the
  score of a class is NaN (undefined) do not count for that class.

  Attributes:
    total: `(K,)` float32, sum of the defined scores.
    count: `(K,)` int32, number of images where the score is defined.
    class_names: K names for the table.
  """

  total: jax.Array
  count: jax.Array
  class_names: tuple[str, ...] = flax.struct.field(pytree_node=False)

  @classmethod
  def empty(cls, classes: int | Sequence[str]) -> Self:
    """State without images; `classes` is a number or names."""
    names = as_class_names(classes)
    return cls(
      total=jnp.zeros(len(names), jnp.float32),
      count=jnp.zeros(len(names), jnp.int32),
      class_names=names,
    )

  @classmethod
  def of(
    cls,
    scores: jax.Array,
    *,
    classes: int | Sequence[str] | None = None,
    where: jax.Array | None = None,
  ) -> Self:
    """State of a batch.

    Args:
      scores: `(B, K)`; NaN where undefined.
      classes: number of classes or their names; None numbers them.
      where: `(B,)` example mask, nonzero = count.

    Returns:
      The state; merge it with others.

    >>> state = ClassMean.of(jnp.array([[1.0, jnp.nan], [0.5, 0.25]]))
    >>> state.compute()
    {'': 0.5, '0': 0.75, '1': 0.25}
    """
    check_shapes(scores=(scores, "B K"), where=(where, "B"))
    scores = jnp.asarray(scores)
    names = as_class_names(scores.shape[1] if classes is None else classes)
    if len(names) != scores.shape[1]:
      raise ValueError(f"{len(names)} classes for scores {scores.shape}")
    defined = ~jnp.isnan(scores)
    if where is not None:
      defined &= (jnp.asarray(where) != 0)[:, None]
    total = jnp.where(defined, scores.astype(jnp.float32), 0.0).sum(0)
    count = defined.sum(0, dtype=jnp.int32)
    return cls(total=total, count=count, class_names=names)

  def compute(self) -> dict[str, float]:
    """`''` is the mean over classes, `<class>` the mean over images."""
    count = np.asarray(self.count)
    means = ratio(np.asarray(self.total), count, np)
    values = {"": mean_of_defined(means, count > 0)}
    for name, mean in zip(self.class_names, means, strict=True):
      values[name] = float(mean)
    return values
