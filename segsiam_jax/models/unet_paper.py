"""U-Net as it was published (Ronneberger, Fischer, Brox 2015,
arXiv:1505.04597, figure 1): convolutions without padding, 572 -> 388."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from segsiam_jax.models import layers

DEPTH = 4


def output_size(size: int) -> int:
  """Rows (or columns) of the logits of so many rows.

  >>> output_size(572)
  388

  Raises:
    ValueError: a pooling would meet an odd number, or nothing would be left.
  """
  inside = size
  for _ in range(DEPTH):
    inside -= 4
    if inside % 2 or inside < 2:
      raise ValueError(
        f"the network cannot take {size} pixels; next is "
        f"{input_size_for(max(1, size - 184))}"
      )
    inside //= 2
  inside -= 4
  for _ in range(DEPTH):
    inside = 2 * inside - 4
  if inside < 1:
    raise ValueError(f"the network cannot take {size} pixels; the least is 188")
  return inside


def input_size_for(size: int) -> int:
  """The smallest input whose logits have at least so many rows.

  >>> input_size_for(388), input_size_for(1)
  (572, 188)
  """
  # Of the rows that the last pooling leaves, the output has 16 n - 124.
  bottom = -(-(size + 124) // 16)
  return 16 * bottom + 60


class UNetPaper(nn.Module):
  """The paper's U-Net: 31,030,658 parameters for one channel and two classes.

  Attributes:
    num_classes: output channels K.
    base_width: channels of the first level, 64 in the paper; they double at
      each of the four poolings.
    dropout: rate at the end of the contracting path; the paper gives none.
    pad: 'mirror' reflection-pads an image of any size, as the
      overlap-tile strategy does at borders, so that it gets logits everywhere;
      'none' takes what `output_size` allows, and returns that many.
    remat: compute the blocks' activations anew in the backward pass.
    dtype: compute dtype; parameters and logits are float32.
    axis_name: unused, there are no batch statistics; all models take it.
  """

  num_classes: int
  base_width: int = 64
  dropout: float = 0.5
  pad: str = "mirror"
  remat: bool = False
  dtype: Any = jnp.float32
  axis_name: str | None = None

  @nn.compact
  def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
    """Logits (B, H, W, K) float32, or of the valid part alone.

    Args:
      images: (B, H, W, C) float.
      train: whether to drop out.
    """
    height, width = images.shape[1:3]
    if self.pad == "mirror":
      images = _mirror(images)
    elif self.pad == "none":
      height, width = output_size(height), output_size(width)
    else:
      raise ValueError(f"pad {self.pad!r} is not one of 'mirror', 'none'")
    block = nn.remat(_ValidConvs) if self.remat else _ValidConvs

    def convs(x, level, name):
      return block(self.base_width * 2**level, self.dtype, name=name)(x)

    x, skips = images.astype(self.dtype), []
    for level in range(DEPTH):
      x = convs(x, level, f"down{level}")
      skips.append(x)
      x = layers.max_pool_2x2(x)
    x = convs(x, DEPTH, "bottom")
    x = nn.Dropout(self.dropout, deterministic=not train)(x)
    for level in reversed(range(DEPTH)):
      x = layers.UpConv(
        self.base_width * 2**level, dtype=self.dtype, name=f"upconv{level}"
      )(x)
      skip = _center(skips[level], x.shape[1:3])
      x = convs(jnp.concatenate([skip, x], axis=-1), level, f"up{level}")
    logits = layers.Conv(
      self.num_classes,
      (1, 1),
      dtype=self.dtype,
      name="logits",
    )(x)
    return logits[:, :height, :width].astype(jnp.float32)


class _ValidConvs(nn.Module):
  """Two 3x3 convolutions without padding, each followed by ReLU.

  Attributes:
    features: output channels of both.
    dtype: compute dtype.
  """

  features: int
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    for index in (1, 2):
      x = layers.Conv(
        self.features,
        (3, 3),
        padding="VALID",
        dtype=self.dtype,
        name=f"conv{index}",
      )(x)
      x = nn.relu(x)
    return x


def _mirror(images: jax.Array) -> jax.Array:
  """Continued on all sides, so that the logits begin at the first pixel."""
  pads = []
  for size in images.shape[1:3]:
    full = input_size_for(size)
    before = (full - output_size(full)) // 2
    pads.append((before, full - size - before))
  # An image that is smaller than its border is mirrored again and again.
  return jnp.pad(images, ((0, 0), *pads, (0, 0)), mode="reflect")


def _center(x: jax.Array, size: tuple[int, int]) -> jax.Array:
  """The middle of (B, H, W, C)."""
  (height, width), (rows, columns) = x.shape[1:3], size
  top, left = (height - rows) // 2, (width - columns) // 2
  return x[:, top : top + rows, left : left + columns]
