"""U-Net (Ronneberger, Fischer, Brox 2015, arXiv:1505.04597).

A contracting path halves the resolution and doubles the channels; an expanding
path doubles it again and, through skip connections, sees the features that the
contracting path had at the same resolution.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from segsiam_jax.models import layers
from segsiam_jax.models.blocks import ConvBlock


class UNet(nn.Module):
  """U-Net with `same` padding: logits have the size of the image.

  Attributes:
    num_classes: output channels K.
    depth: number of times the resolution is halved.
    base_width: channels of the first level; they double at every level.
    norm: 'batch', 'group' or 'none'.
    upsample: 'transpose' (2x2 transposed convolution) or 'resize' (bilinear,
      then a 1x1 convolution).
    dropout: rate at the end of the contracting path.
    remat: compute the blocks' activations anew in the backward pass, which
      saves memory and costs time.
    dtype: compute dtype; parameters and logits are float32.
    axis_name: see `layers.make_norm`.
  """

  num_classes: int
  depth: int = 4
  base_width: int = 64
  norm: str = "batch"
  upsample: str = "transpose"
  dropout: float = 0.0
  remat: bool = False
  dtype: Any = jnp.float32
  axis_name: str | None = None

  @nn.compact
  def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
    """Logits of a batch of images of any size and channel count.

    Args:
      images: (B, H, W, C) float. A height or width that `2 ** depth` does not
        divide is extended by its edge, and the logits are cropped.
      train: use batch statistics and dropout.

    Returns:
      (B, H, W, K) float32 logits.
    """
    height, width = images.shape[1:3]
    block = ConvBlock
    if self.remat:
      block = nn.remat(ConvBlock, static_argnums=(2,))

    def convs(x, level, name):
      features = self.base_width * 2**level
      return block(
        features, False, self.norm, self.dtype, self.axis_name, name=name
      )(x, train)

    x = layers.pad_to_multiple(images, 2**self.depth).astype(self.dtype)
    skips = []
    for level in range(self.depth):
      x = convs(x, level, f"down{level}")
      skips.append(x)
      x = layers.max_pool_2x2(x)
    x = convs(x, self.depth, "bottom")
    x = nn.Dropout(self.dropout, deterministic=not train)(x)
    for level in reversed(range(self.depth)):
      x = self._up(x, self.base_width * 2**level, f"upconv{level}")
      x = convs(jnp.concatenate([skips[level], x], -1), level, f"up{level}")
    logits = nn.Conv(
      self.num_classes,
      (1, 1),
      dtype=self.dtype,
      kernel_init=layers.he_normal,
      name="logits",
    )(x)
    return logits[:, :height, :width].astype(jnp.float32)

  def _up(self, x: jax.Array, features: int, name: str) -> jax.Array:
    if self.upsample == "transpose":
      return layers.UpConv(features, dtype=self.dtype, name=name)(x)
    if self.upsample == "resize":
      # The 1x1 convolution commutes with the resize, and is cheaper before.
      conv = nn.Conv(
        features,
        (1, 1),
        dtype=self.dtype,
        kernel_init=layers.he_normal,
        name=name,
      )
      x = conv(x)
      b, h, w, c = x.shape
      return jax.image.resize(x, (b, 2 * h, 2 * w, c), "bilinear")
    raise ValueError(
      f"upsample {self.upsample!r} is none of 'transpose', 'resize'"
    )
