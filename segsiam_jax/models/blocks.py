"""Blocks of U-Nets, for images (B, H, W, C) and volumes (B, D, H, W, C)."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from segsiam_jax.models import layers

Array = jax.Array


class ConvBlock(nn.Module):
  """Two convolutions of width 3, each followed by norm and ReLU.

  A residual block adds its input, projected to that width by a convolution
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
      return layers.Conv(
        self.features,
        (width,) * (x.ndim - 2),
        padding="SAME",
        use_bias=self.norm == "none",
        dtype=self.dtype,
        name=name,
      )(x)

    y = nn.relu(norm(name="norm1")(conv(x, 3, "conv1")))
    y = norm(name="norm2")(conv(y, 3, "conv2"))
    if self.residual:
      if x.shape[-1] != self.features:
        x = norm(name="shortcut_norm")(conv(x, 1, "shortcut"))
      y = y + x
    return nn.relu(y)


class AttentionGate(nn.Module):
  """Additive attention on a skip connection (Oktay 2018, arXiv:1804.03999).

  Half of the skip's channels are compared at the gating signal's resolution:
  sigmoid(psi(relu(W_x x + W_g g))), resized linearly, scales the skip.

  Attributes:
    dtype: compute dtype; parameters are float32.
  """

  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, skip: Array, gating: Array) -> Array:
    """The skip (B, *S, C), scaled; gating (B, *S / factors, any)."""
    factors = _factors(gating, skip.shape[1:-1])
    inner = max(1, skip.shape[-1] // 2)

    def conv(x, features, window, bias, name):
      return layers.Conv(
        features,
        window,
        strides=window,
        padding="VALID",
        use_bias=bias,
        dtype=self.dtype,
        name=name,
      )(x)

    ones = (1,) * len(factors)
    compared = conv(skip, inner, factors, False, "skip")
    compared = nn.relu(compared + conv(gating, inner, ones, True, "gating"))
    scale = nn.sigmoid(conv(compared, 1, ones, True, "psi"))
    return skip * _resize(scale, skip.shape[1:-1])


class DecoderBlock(nn.Module):
  """Up-sampling, concatenation with skips, and a `ConvBlock`.

  Attributes:
    features: output channels.
    residual: see `ConvBlock`.
    norm: see `ConvBlock`.
    upsample: 'transpose' (a convolution to `features` channels whose kernel
      equals its stride), 'resize' (a 1x1 convolution to as many, then linear)
      or 'nearest' (repeats pixels, without parameters).
    attention: whether an `AttentionGate` scales each skip.
    dtype: compute dtype.
    axis_name: see `layers.make_norm`.
  """

  features: int
  residual: bool = False
  norm: str = "batch"
  upsample: str = "transpose"
  attention: bool = False
  dtype: Any = jnp.float32
  axis_name: str | None = None

  @nn.compact
  def __call__(
    self,
    x: Array,
    skips: Sequence[Array],
    size: tuple[int, ...],
    train: bool,
  ) -> Array:
    """(B, *S, C), skips (B, *size, any) -> (B, *size, features)."""
    parts = [self._up(x, size)]
    for index, skip in enumerate(skips):
      if self.attention:
        skip = AttentionGate(self.dtype, name=f"gate{index}")(skip, x)
      parts.append(skip)
    convs = ConvBlock(
      self.features,
      self.residual,
      self.norm,
      self.dtype,
      self.axis_name,
      name="convs",
    )
    return convs(jnp.concatenate(parts, axis=-1), train)

  def _up(self, x: Array, size: tuple[int, ...]) -> Array:
    factors = _factors(x, size)
    if self.upsample == "transpose":
      return layers.UpConv(
        self.features, factors, dtype=self.dtype, name="upconv"
      )(x)
    if self.upsample == "resize":
      # The 1x1 convolution commutes with the resize, and is cheaper before.
      conv = layers.Conv(
        self.features,
        (1,) * len(size),
        dtype=self.dtype,
        name="upconv",
      )
      return _resize(conv(x), size)
    if self.upsample == "nearest":
      for axis, factor in enumerate(factors, 1):
        x = jnp.repeat(x, factor, axis)
      return x
    raise ValueError(
      f"upsample {self.upsample!r} is not one of "
      "'transpose', 'resize', 'nearest'"
    )


def _factors(x: Array, size: tuple[int, ...]) -> tuple[int, ...]:
  """What x is up-sampled by to come to a size."""
  return tuple(b // a for a, b in zip(x.shape[1:-1], size, strict=True))


def _resize(x: Array, size: tuple[int, ...]) -> Array:
  """Linear along every axis, half-pixel centers."""
  return jax.image.resize(x, (x.shape[0], *size, x.shape[-1]), "linear")
