"""Blocks of U-Nets, for images (B, H, W, C) and volumes (B, D, H, W, C)."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from segsiam_jax.models import layers

Array = jax.Array


class ConvBlock(nn.Module):
  """Two convolutions of width 3, each followed by norm and ReLU.

  A residual block adds its input, brought to as many channels by a convolution
  of width 1, before the second ReLU (He et al. 2015, arXiv:1512.03385).

  Attributes:
    features: output channels of both.
    residual: whether the input is added.
    norm: 'batch', 'group' or 'none'; without a norm the convolutions have a
      bias.
    dtype: compute dtype.
    axis_name: see `layers.make_norm`.
  """

  features: int
  residual: bool = False
  norm: str = "batch"
  dtype: Any = jnp.float32
  axis_name: str | None = None

  @nn.compact
  def __call__(self, x: Array, train: bool) -> Array:
    """(B, *S, C) -> (B, *S, features)."""
    norm = layers.make_norm(
      self.norm, train, dtype=self.dtype, axis_name=self.axis_name
    )

    def conv(x, width, name):
      return nn.Conv(
        self.features,
        (width,) * (x.ndim - 2),
        padding="SAME",
        use_bias=self.norm == "none",
        dtype=self.dtype,
        kernel_init=layers.he_normal,
        name=name,
      )(x)

    y = nn.relu(norm(name="norm1")(conv(x, 3, "conv1")))
    y = norm(name="norm2")(conv(y, 3, "conv2"))
    if self.residual:
      if x.shape[-1] != self.features:
        x = norm(name="shortcut_norm")(conv(x, 1, "shortcut"))
      y = y + x
    return nn.relu(y)
