"""Losses whose mean is over what they find in the batch."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from segsiam_jax.ops.shapes import check_shapes

__all__ = ["WeightedLoss"]


class WeightedLoss(NamedTuple):
  """Values to be averaged with weights.

  Attributes:
    values: `(A,)` float32, finite unless an input is not; 0 where the weight
      is 0.
    weights: `(A,)` float32, how many terms of the mean the value stands for.
  """

  values: jax.Array
  weights: jax.Array

  def mean(self) -> jax.Array:
    """Weighted mean, () float32; 0, with gradient 0, if no weight is left.

    Raises:
      ValueError: values and weights of different shapes.

    >>> float(WeightedLoss(jnp.array([1.0, 4.0]), jnp.array([2.0, 1.0])).mean())
    2.0
    """
    check_shapes(values=(self.values, "*S"), weights=(self.weights, "*S"))
    values = jnp.asarray(self.values, jnp.float32)
    weights = jnp.asarray(self.weights, jnp.float32)
    # Weights are counts: a sum below 1 is a sum of nothing.
    return jnp.sum(weights * values) / jnp.maximum(jnp.sum(weights), 1.0)
