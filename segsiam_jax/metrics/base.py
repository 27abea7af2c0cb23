"""The metric contract: states that are sums, merged anywhere.

A metric state is a pytree whose leaves are *sums* over examples. So merging
two states is a leafwise addition, reducing over devices is a psum, and the
host adds up fetched states in int64/float64 with the same code.
"""

import operator
from collections.abc import Mapping
from typing import Any, Self

import flax
import jax
import jax.numpy as jnp
import numpy as np

from segsiam_jax.ops.pixels import expand_trailing


@flax.struct.dataclass
class MetricState:
  """Base of all metric states: every array leaf is a sum over examples."""

  def merge(self, other: Self) -> Self:
    """Sum of both states; works on device arrays and on NumPy arrays.

    Raises:
      ValueError: states of other classes, or leaves of other shapes.
    """
    for left, right in zip(
      jax.tree.leaves(self), jax.tree.leaves(other), strict=True
    ):
      if np.shape(left) != np.shape(right):
        raise ValueError(
          f"other: expected a leaf of shape {np.shape(left)}, as this state's; "
          f"got {np.shape(right)}"
        )
    return jax.tree.map(operator.add, self, other)

  def compute(self) -> dict[str, float]:
    """Values by name, from a state on the host (see `widen`).

    The key `''` stands for the state's own name (see `compute_all`).
    """
    raise NotImplementedError


@flax.struct.dataclass
class Mean(MetricState):
  """Weighted mean.

  Attributes:
    total: () float32, sum of `weight * value`.
    count: () float32, sum of the weights.
  """

  total: jax.Array
  count: jax.Array

  @classmethod
  def empty(cls) -> "Mean":
    return cls(
      total=jnp.zeros((), jnp.float32), count=jnp.zeros((), jnp.float32)
    )

  @classmethod
  def of(cls, values: jax.Array, where: jax.Array | None = None) -> "Mean":
    """State of `values`, weighted by `where`.

    Rows with weight 0 do not count even if their value is NaN or infinite.

    Args:
      values: of any shape.
      where: weights of the leading axes of `values`; None for 1.

    Raises:
      ValueError: `where` lacks the leading axes of `values`.
    """
    values = jnp.asarray(values, jnp.float32)
    if where is None:
      weights = jnp.ones(values.shape, jnp.float32)
    else:
      where = expand_trailing("where", where, values.shape)
      weights = jnp.broadcast_to(where, values.shape).astype(jnp.float32)
    weighted = jnp.where(weights != 0, weights * values, 0.0)
    return cls(total=weighted.sum(), count=weights.sum())

  def compute(self) -> dict[str, float]:
    if self.count == 0:
      return {"": float("nan")}
    return {"": float(self.total / self.count)}


def widen(state: Any) -> Any:
  """Fetches a pytree of sums to the host as int64 and float64 NumPy arrays.

  Device sums are int32 or float32, so the loop fetches them before they can
  overflow or lose digits, and adds up the widened ones.
  """

  def to_numpy(leaf):
    leaf = np.asarray(leaf)
    wide = np.int64 if np.issubdtype(leaf.dtype, np.integer) else np.float64
    return leaf.astype(wide)

  return jax.tree.map(to_numpy, jax.device_get(state))


def merge_all(
  left: Mapping[str, MetricState], right: Mapping[str, MetricState]
) -> dict[str, MetricState]:
  """Merges two dictionaries of states with the same names.

  Raises:
    ValueError: the names differ.
  """
  if set(left) != set(right):
    raise ValueError(
      f"states of {sorted(left)} do not merge with those of {sorted(right)}"
    )
  return {name: left[name].merge(right[name]) for name in left}


def compute_all(states: Mapping[str, MetricState]) -> dict[str, float]:
  """Computes every state; keys are `name/key`, empty parts left out.

  >>> compute_all({"loss": Mean(total=np.float64(6.0), count=np.float64(4.0))})
  {'loss': 1.5}
  """
  values = {}
  for name, state in states.items():
    for key, value in state.compute().items():
      values["/".join(part for part in (name, key) if part)] = float(value)
  return values
