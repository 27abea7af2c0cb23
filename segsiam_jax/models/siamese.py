"""Siamese networks: one tower for all branches, and how vectors compare.

There is one parameter tree. Branches run concatenated, as one batch: weights
are shared because there is one set of them, and batch statistics are those of
all branches together, whatever their order.
"""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from segsiam_jax.models.towers import KOCH_BIAS, KOCH_DENSE_KERNEL
from segsiam_jax.ops.deformable import Deformation, Maps
from segsiam_jax.ops.distances import l2_normalize
from segsiam_jax.ops.similarity import Head, Learned, LearnedWeights

PyTree = Any

# Of a match one place away, at first.
PENALTY = 0.01


class Siamese(nn.Module):
  """A tower with what it takes to compare its outputs.

  Attributes:
    tower: images to vectors.
    head: how two embeddings are compared, see `ops.similarity`.
    normalize: whether embeddings have norm 1.
  """

  tower: nn.Module
  head: Head = "euclidean"
  normalize: bool = False

  @nn.compact
  def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
    """Embeddings.

    Args:
      images: (B, H, W, C) float, normalised; of all branches one after the
        other.
      train: use batch statistics, and drop.

    Returns:
      (B, D) float32.
    """
    embeddings = jnp.asarray(self.tower(images, train), jnp.float32)
    if self.normalize:
      embeddings = l2_normalize(embeddings)
    if self.head == "learned":
      self.param("weights", KOCH_DENSE_KERNEL, embeddings.shape[-1:])
      self.param("bias", KOCH_BIAS, ())
    if self.head == "deformable":
      # Logarithms: both are positive.
      self.param("penalty", nn.initializers.constant(math.log(PENALTY)), ())
      self.param("temperature", nn.initializers.zeros, ())
    return embeddings


def learned_head(params: PyTree, maps: Maps | None = None) -> Learned | None:
  """What the head of a `Siamese` has learned, or None.

  Args:
    params: of the network.
    maps: of a deformable head.
  """
  if "penalty" in params:
    return Deformation(jnp.exp(params["penalty"]), maps)
  if "weights" in params:
    return LearnedWeights(params["weights"], params["bias"])
  return None
