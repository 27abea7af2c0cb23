"""Predictions averaged over mirrored images."""

import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from segsiam_jax.tasks.base import Batch, PyTree


def averaged(
  probabilities_of: Callable[[PyTree, PyTree, Batch], jax.Array],
  flips: np.ndarray,
) -> Callable[[PyTree, PyTree, Batch], jax.Array]:
  """Probabilities averaged over mirrored images.

  Args:
    probabilities_of: (params, model_state, batch) -> (B, *S, K).
    flips: (F, number of axes S) bool: which axes each of F images is mirrored
      along.

  Returns:
    Such a function. The model is compiled once, whatever F is, and the
    activations of one flip are held at a time.
  """

  if len(flips) == 1:
    return probabilities_of

  def mirror(array: jax.Array, flip: jax.Array) -> jax.Array:
    for axis in range(flips.shape[1]):
      array = jnp.where(flip[axis], jnp.flip(array, 1 + axis), array)
    return array

  def mean_of_flips(params, model_state, batch):
    def add(total, flip):
      mirrored = {**batch, "image": mirror(batch["image"], flip)}
      out = probabilities_of(params, model_state, mirrored)
      return total + mirror(out, flip), None

    shape = jax.eval_shape(probabilities_of, params, model_state, batch)
    total, _ = jax.lax.scan(
      add, jnp.zeros(shape.shape, shape.dtype), jnp.asarray(flips)
    )
    return total / len(flips)

  return mean_of_flips


def flip_masks(name: str, rank: int) -> np.ndarray:
  """Along which axes images are mirrored: (F, rank) bool, the first none.

  Args:
    name: '' for no mirroring, 'horizontal' for the last axis, 'all' for every
      axis and all their combinations.
    rank: number of axes.
  """
  axes = {"": 0, "horizontal": 1, "all": rank}[name]
  masks = np.zeros((2**axes, rank), bool)
  masks[:, rank - axes :] = list(itertools.product((False, True), repeat=axes))
  return masks
