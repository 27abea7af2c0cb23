"""Exact Euclidean distance transform inside jit."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp


def distance_transform(
  seeds: jax.Array, *, spacing: Sequence[float] | None = None
) -> jax.Array:
  """Distance of every pixel to the nearest seed, for each image.

  Squared distances are separable: along the last axis two running maxima find
  the nearest seed, and every further axis takes the minimum over its n lines
  of the previous result plus the squared offset, O(n) per pixel but one fused
  reduction (Saito and Toriwaki, Pattern Recognition 27, 1994).

  Args:
    seeds: `(B, *S)` bool.
    spacing: size of a pixel along each spatial axis; None for 1.

  Returns:
    `(B, *S)` float32, 0 on seeds, infinite in images without seeds.

  >>> distance_transform(jnp.array([[False, True, False, False]])).tolist()
  [[1.0, 0.0, 1.0, 2.0]]
  """
  rank = seeds.ndim - 1
  spacing = (1.0,) * rank if spacing is None else tuple(spacing)
  if len(spacing) != rank:
    raise ValueError(
      f"spacing {spacing} has {len(spacing)} numbers for {rank} spatial axes"
    )
  length = seeds.shape[-1]
  position = jnp.arange(length)
  before = jax.lax.cummax(jnp.where(seeds, position, -length), axis=rank)
  after = jax.lax.cummin(
    jnp.where(seeds, position, 2 * length), axis=rank, reverse=True
  )
  nearest = jnp.minimum(position - before, after - position)
  squared = jnp.where(
    nearest < length, jnp.square(spacing[-1] * nearest), jnp.inf
  )
  for axis in range(1, rank):
    lines = jnp.arange(seeds.shape[axis])
    offsets = spacing[axis - 1] * (lines[:, None] - lines)
    offsets = jnp.square(offsets).astype(jnp.float32)
    offsets = jnp.expand_dims(offsets, range(2, 2 + rank - axis))
    squared = (jnp.expand_dims(squared, axis) + offsets).min(axis + 1)
  return jnp.sqrt(squared)
