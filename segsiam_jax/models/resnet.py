"""ResNet encoders (He et al. 2015, arXiv:1512.03385), torchvision's variant.

In a bottleneck the 3x3 convolution has the stride (v1.5). All paddings are
explicit, so that torchvision's weights give torchvision's features.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from segsiam_jax.models import layers

# Blocks of the four stages, and whether they are bottlenecks.
DEPTHS = {
  10: ((1, 1, 1, 1), False),
  18: ((2, 2, 2, 2), False),
  34: ((3, 4, 6, 3), False),
  50: ((3, 4, 6, 3), True),
  101: ((3, 4, 23, 3), True),
}
_EXPANSION = 4


class ResidualBlock(nn.Module):
  """A basic block (two 3x3 convolutions) or a bottleneck (1x1, 3x3, 1x1).

  Attributes:
    features: channels inside; a bottleneck's output has four times as many.
    bottleneck: which of both.
    stride: of the block.
    dilation: of its 3x3 convolutions.
    norm: see `layers.make_norm`.
    epsilon: see `layers.make_norm`.
    dtype: compute dtype.
    axis_name: see `layers.make_norm`.
  """

  features: int
  bottleneck: bool
  stride: int = 1
  dilation: int = 1
  norm: str = "batch"
  epsilon: float = 1e-5
  dtype: Any = jnp.float32
  axis_name: str | None = None

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    norm = layers.make_norm(
      self.norm,
      train,
      dtype=self.dtype,
      axis_name=self.axis_name,
      epsilon=self.epsilon,
    )

    def conv(x, features, size, name, stride=1, dilation=1):
      pad = dilation * (size - 1) // 2
      return layers.Conv(
        features,
        (size, size),
        strides=(stride, stride),
        padding=((pad, pad), (pad, pad)),
        kernel_dilation=(dilation, dilation),
        use_bias=False,
        dtype=self.dtype,
        name=name,
      )(x)

    if self.bottleneck:
      out = self.features * _EXPANSION
      plan = (
        (self.features, 1, 1, 1),
        (self.features, 3, self.stride, self.dilation),
        (out, 1, 1, 1),
      )
    else:
      out = self.features
      plan = (
        (out, 3, self.stride, self.dilation),
        (out, 3, 1, self.dilation),
      )
    y = x
    for index, (features, size, stride, dilation) in enumerate(plan, 1):
      y = conv(y, features, size, f"conv{index}", stride, dilation)
      y = norm(name=f"bn{index}")(y)
      if index < len(plan):
        y = nn.relu(y)
    if self.stride != 1 or x.shape[-1] != out:
      x = conv(x, out, 1, "downsample_conv", self.stride)
      x = norm(name="downsample_bn")(x)
    return nn.relu(x + y)


class ResNet(nn.Module):
  """ResNet without its classifier: five feature maps.

  Attributes:
    depth: 10 (not in the paper), 18, 34, 50 or 101.
    base_width: channels of the stem and of the first stage's 3x3
      convolutions; 64 in the paper.
    norm: see `layers.make_norm`.
    epsilon: see `layers.make_norm`.
    dilate: whether the last two stages keep stride 8 and dilate instead
      (torchvision's `replace_stride_with_dilation=[False, True, True]`).
    remat: compute the blocks' activations anew in the backward pass.
    dtype: compute dtype; parameters are float32.
    axis_name: see `layers.make_norm`.
  """

  depth: int = 50
  base_width: int = 64
  norm: str = "batch"
  epsilon: float = 1e-5
  dilate: bool = False
  remat: bool = False
  dtype: Any = jnp.float32
  axis_name: str | None = None

  @property
  def channels(self) -> tuple[int, ...]:
    """Channels of the feature maps, finest first."""
    factor = _EXPANSION if DEPTHS[self.depth][1] else 1
    widths = (factor * self.base_width * 2**stage for stage in range(4))
    return (self.base_width, *widths)

  @property
  def strides(self) -> tuple[int, ...]:
    """Strides of the feature maps, finest first."""
    return (2, 4, 8, 8, 8) if self.dilate else (2, 4, 8, 16, 32)

  @nn.compact
  def __call__(
    self, images: jax.Array, train: bool = False
  ) -> tuple[jax.Array, ...]:
    """Feature maps: after the stem, and after each of the four stages.

    Args:
      images: (B, H, W, C) float, normalised.
      train: use batch statistics.

    Returns:
      Five arrays (B, ceil(H / stride), ceil(W / stride), channels).
    """
    norm = layers.make_norm(
      self.norm,
      train,
      dtype=self.dtype,
      axis_name=self.axis_name,
      epsilon=self.epsilon,
    )
    x = layers.Conv(
      self.base_width,
      (7, 7),
      strides=(2, 2),
      padding=((3, 3), (3, 3)),
      use_bias=False,
      dtype=self.dtype,
      name="conv1",
    )(images.astype(self.dtype))
    x = nn.relu(norm(name="bn1")(x))
    features = [x]
    x = layers.max_pool_3x3(x)
    block = ResidualBlock
    if self.remat:
      block = nn.remat(ResidualBlock, static_argnums=(2,))
    stages, bottleneck = DEPTHS[self.depth]
    dilation = 1
    for stage, count in enumerate(stages):
      stride = 1 if stage == 0 else 2
      # The first block of a dilated stage still dilates as the stage before.
      before = dilation
      if self.dilate and stage >= 2:
        dilation, stride = 2 * dilation, 1
      for index in range(count):
        x = block(
          self.base_width * 2**stage,
          bottleneck,
          stride=stride if index == 0 else 1,
          dilation=before if index == 0 else dilation,
          norm=self.norm,
          epsilon=self.epsilon,
          dtype=self.dtype,
          axis_name=self.axis_name,
          name=f"layer{stage + 1}_{index}",
        )(x, train)
      features.append(x)
    return tuple(features)
