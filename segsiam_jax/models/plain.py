"""The contracting path of a U-Net as an encoder, for images and volumes."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from segsiam_jax.models import layers
from segsiam_jax.models.blocks import ConvBlock


class PlainEncoder(nn.Module):
  """The contracting path of a U-Net (Ronneberger 2015, arXiv:1505.04597).

  Attributes:
    depth: number of times the resolution is halved.
    base_width: channels of the first level; they double at every level.
    residual: see `blocks.ConvBlock`.
    norm: see `layers.make_norm`.
    pool_depth: of volumes: the first pooling that halves their depth, too.
      Volumes of thick slices start with 1 or 2.
    remat: compute the blocks' activations anew in the backward pass.
    dtype: compute dtype; parameters are float32.
    axis_name: see `layers.make_norm`.
  """

  depth: int = 4
  base_width: int = 64
  residual: bool = False
  norm: str = "batch"
  pool_depth: int = 0
  remat: bool = False
  dtype: Any = jnp.float32
  axis_name: str | None = None

  @property
  def channels(self) -> tuple[int, ...]:
    """Channels of the feature maps, finest first."""
    return tuple(self.base_width * 2**n for n in range(self.depth + 1))

  @property
  def strides(self) -> tuple[int, ...]:
    """Strides of their rows and columns, finest first."""
    return tuple(2**n for n in range(self.depth + 1))

  @nn.compact
  def __call__(
    self, images: jax.Array, train: bool = False
  ) -> tuple[jax.Array, ...]:
    """Feature maps: before each pooling, and after the last.

    Args:
      images: (B, H, W, C) or (B, D, H, W, C) float, normalised.
      train: use batch statistics.

    Returns:
      depth + 1 arrays.
    """
    block = ConvBlock
    if self.remat:
      block = nn.remat(ConvBlock, static_argnums=(2,))
    x, features = images.astype(self.dtype), []
    for level, width in enumerate(self.channels):
      if level:
        # A volume's axis 1 is its depth.
        flat = images.ndim == 5 and level <= self.pool_depth
        x = layers.max_pool_axes(x, range(1 + flat, images.ndim - 1))
      x = block(
        width,
        self.residual,
        self.norm,
        self.dtype,
        self.axis_name,
        name=f"level{level}",
      )(x, train)
      features.append(x)
    return tuple(features)
