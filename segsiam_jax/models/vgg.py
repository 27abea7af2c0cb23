"""VGG16 encoder (Simonyan and Zisserman 2014, arXiv:1409.1556)."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from segsiam_jax.models import layers

# Convolutions of each of the five stages.
STAGES = (2, 2, 3, 3, 3)
WIDTHS = (64, 128, 256, 512, 512)


class VGG16(nn.Module):
  """VGG16 without its classifier: six feature maps.

  Attributes:
    first_padding: of the first convolution; 1 keeps the size. FCN pads 100, so
      that its 7x7 convolution fits any image.
    ceil_pool: whether pooling rounds odd sizes up, as Caffe and so FCN do, or
      down.
    dtype: compute dtype; parameters are float32.
  """

  first_padding: int = 1
  ceil_pool: bool = False
  dtype: Any = jnp.float32

  @property
  def channels(self) -> tuple[int, ...]:
    """Channels of the feature maps, finest first."""
    return (*WIDTHS, WIDTHS[-1])

  @property
  def strides(self) -> tuple[int, ...]:
    """Strides of the feature maps, finest first."""
    return (1, 2, 4, 8, 16, 32)

  @nn.compact
  def __call__(
    self, images: jax.Array, train: bool = False
  ) -> tuple[jax.Array, ...]:
    """Feature maps: before each of the five poolings, and after the last.

    Args:
      images: (B, H, W, C) float, normalised.
      train: has no effect; all encoders take it.

    Returns:
      Six arrays.
    """
    x, features = images.astype(self.dtype), []
    for stage, (count, width) in enumerate(zip(STAGES, WIDTHS, strict=True), 1):
      for index in range(1, count + 1):
        first = stage == 1 and index == 1
        pad = self.first_padding if first else 1
        x = nn.Conv(
          width,
          (3, 3),
          padding=((pad, pad), (pad, pad)),
          dtype=self.dtype,
          kernel_init=layers.he_normal,
          name=f"conv{stage}_{index}",
        )(x)
        x = nn.relu(x)
      features.append(x)
      x = layers.max_pool_2x2(x, ceil=self.ceil_pool)
    return (*features, x)
