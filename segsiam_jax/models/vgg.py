"""VGG16 encoder (Simonyan and Zisserman 2014, arXiv:1409.1556), and
torchvision's variant with batch norm."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from segsiam_jax.models import layers

# Convolutions of each of the five stages, and their channels over the first's.
STAGES = (2, 2, 3, 3, 3)
_FACTORS = (1, 2, 4, 8, 8)


class VGG16(nn.Module):
  """VGG16 without its classifier: six feature maps.

  Attributes:
    first_padding: of the first convolution; 1 keeps the size. FCN pads 100, so
      that its 7x7 convolution fits any image.
    ceil_pool: whether pooling rounds odd sizes up, as Caffe and so FCN do, or
      down.
    base_width: channels of the first stage; 64 in the paper.
    norm: after each convolution; see `layers.make_norm`.
    remat: compute the stages' activations anew in the backward pass.
    dtype: compute dtype; parameters are float32.
    axis_name: see `layers.make_norm`.
  """

  first_padding: int = 1
  ceil_pool: bool = False
  base_width: int = 64
  norm: str = "none"
  remat: bool = False
  dtype: Any = jnp.float32
  axis_name: str | None = None

  @property
  def channels(self) -> tuple[int, ...]:
    """Channels of the feature maps, finest first."""
    widths = [factor * self.base_width for factor in _FACTORS]
    return (*widths, widths[-1])

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
      train: use batch statistics.

    Returns:
      Six arrays.
    """
    norm = layers.make_norm(
      self.norm, train, dtype=self.dtype, axis_name=self.axis_name
    )

    def convs(module, x, stage):
      for index in range(1, STAGES[stage - 1] + 1):
        first = stage == 1 and index == 1
        pad = module.first_padding if first else 1
        x = layers.Conv(
          module.base_width * _FACTORS[stage - 1],
          (3, 3),
          padding=((pad, pad), (pad, pad)),
          dtype=module.dtype,
          name=f"conv{stage}_{index}",
        )(x)
        x = nn.relu(norm(name=f"bn{stage}_{index}")(x))
      return x

    if self.remat:
      convs = nn.remat(convs, static_argnums=(2,))
    x, features = images.astype(self.dtype), []
    for stage in range(1, len(STAGES) + 1):
      x = convs(self, x, stage)
      features.append(x)
      x = layers.max_pool_2x2(x, ceil=self.ceil_pool)
    return (*features, x)
