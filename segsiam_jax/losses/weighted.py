"""Losses whose mean is over what they find in the batch."""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class WeightedLoss(NamedTuple):
  """Values to be averaged with weights.

  Attributes:
    values: `(A,)` float32, finite; 0 where the weight is 0.
    weights: `(A,)` float32, how many terms of the mean the value stands for.
  """

  values: jax.Array
  weights: jax.Array

  def mean(self) -> jax.Array:
    """Weighted mean, () float32; 0, with gradient 0, if no weight is left.

    >>> float(WeightedLoss(jnp.array([1.0, 4.0]), jnp.array([2.0, 1.0])).mean())
    2.0
    """
    total = jnp.sum(self.weights * self.values)
    # Weights are counts: a sum below 1 is a sum of nothing.
    return total / jnp.maximum(jnp.sum(self.weights), 1.0)
