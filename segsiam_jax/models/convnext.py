"""ConvNeXt encoders (Liu et al. 2022, arXiv:2201.03545), torchvision's."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from segsiam_jax.models import layers
from segsiam_jax.ops.depthwise import depthwise_conv

# Blocks and channels of the four stages, and the rate of the last block's
# stochastic depth.
SIZES = {
  "tiny": ((3, 3, 9, 3), (96, 192, 384, 768), 0.1),
  "small": ((3, 3, 27, 3), (96, 192, 384, 768), 0.4),
  "base": ((3, 3, 27, 3), (128, 256, 512, 1024), 0.5),
  "large": ((3, 3, 27, 3), (192, 384, 768, 1536), 0.5),
}
_EPSILON = 1e-6
_init = layers.normal(0.02)


class DepthwiseConv(nn.Module):
  """A 7x7 convolution of every channel by itself.

  Attributes:
    dtype: compute dtype.
  """

  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    channels = x.shape[-1]
    kernel = self.param("kernel", _init, (7, 7, 1, channels))
    bias = self.param("bias", nn.initializers.zeros, (channels,))
    x = depthwise_conv(x.astype(self.dtype), kernel.astype(self.dtype))
    return x + bias.astype(self.dtype)


class LayerScale(nn.Module):
  """A learned factor of each channel, small at first.

  Attributes:
    dtype: compute dtype.
  """

  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    small = nn.initializers.constant(1e-6)
    scale = self.param("scale", small, x.shape[-1:])
    return x * scale.astype(self.dtype)


class Block(nn.Module):
  """Depthwise convolution, norm, and two dense layers, beside the input.

  Attributes:
    drop: probability that an example skips the block in training.
    dtype: compute dtype.
  """

  drop: float = 0.0
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    channels = x.shape[-1]

    def dense(y, features, name):
      return nn.Dense(features, dtype=self.dtype, kernel_init=_init, name=name)(
        y
      )

    y = DepthwiseConv(self.dtype, name="depthwise")(x)
    y = nn.LayerNorm(epsilon=_EPSILON, dtype=self.dtype, name="norm")(y)
    y = nn.gelu(dense(y, 4 * channels, "expand"), approximate=False)
    y = LayerScale(self.dtype, name="layer_scale")(dense(y, channels, "reduce"))
    dropout = nn.Dropout(self.drop, broadcast_dims=(1, 2, 3))
    return x + dropout(y, deterministic=not train)


class ConvNeXt(nn.Module):
  """ConvNeXt without its classifier: four feature maps.

  Attributes:
    size: a key of `SIZES`.
    remat: compute the blocks' activations anew in the backward pass.
    dtype: compute dtype; parameters are float32.
  """

  size: str = "tiny"
  remat: bool = False
  dtype: Any = jnp.float32

  @property
  def channels(self) -> tuple[int, ...]:
    """Channels of the feature maps, finest first."""
    return SIZES[self.size][1]

  @property
  def strides(self) -> tuple[int, ...]:
    """Strides of the feature maps, finest first."""
    return (4, 8, 16, 32)

  @nn.compact
  def __call__(
    self, images: jax.Array, train: bool = False
  ) -> tuple[jax.Array, ...]:
    """Feature maps: after each of the four stages.

    Args:
      images: (B, H, W, C) float, normalised; H and W at least 32.
      train: skip blocks at random (stochastic depth).

    Returns:
      Four arrays (B, H // stride, W // stride, channels).
    """
    counts, widths, last_drop = SIZES[self.size]
    block = nn.remat(Block, static_argnums=(2,)) if self.remat else Block

    def norm(x, name):
      return nn.LayerNorm(epsilon=_EPSILON, dtype=self.dtype, name=name)(x)

    def shrink(x, width, factor, name):
      return layers.Conv(
        width,
        (factor, factor),
        strides=(factor, factor),
        padding="VALID",
        dtype=self.dtype,
        kernel_init=_init,
        name=name,
      )(x)

    x, features, number = images.astype(self.dtype), [], 0
    for stage, (count, width) in enumerate(zip(counts, widths, strict=True)):
      if stage == 0:
        x = norm(shrink(x, width, 4, "stem"), "stem_norm")
      else:
        x = norm(x, f"down{stage}_norm")
        x = shrink(x, width, 2, f"down{stage}")
      for index in range(count):
        drop = last_drop * number / (sum(counts) - 1)
        x = block(drop, self.dtype, name=f"stage{stage}_{index}")(x, train)
        number += 1
      features.append(x)
    return tuple(features)
