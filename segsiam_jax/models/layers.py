"""Layers that several models share.

Two of them are written for speed on purpose: on a CPU the gradient of
`nn.max_pool` takes ten times as long as that of `max_pool_2x2`, and that of
`nn.ConvTranspose` ten times as long as that of `UpConv2x2`.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

Array = jax.Array


def he_normal(
  key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32
) -> Array:
  """Normal with variance 2 / fan-in (He et al. 2015, arXiv:1502.01852).

  Drawn flat and reshaped: the same numbers as with `shape`, but XLA takes six
  times as long to compile random bits of rank four on a CPU.

  Args:
    key: decides the values.
    shape: (..., in, out) of a kernel; fan-in is the product of all but out.
    dtype: of the values.
  """
  flat = jax.random.normal(key, (math.prod(shape),), dtype)
  return flat.reshape(shape) * math.sqrt(2.0 / math.prod(shape[:-1]))


class Logits(NamedTuple):
  """What a segmentation model returns.

  Attributes:
    main: (B, H, W, K) float32.
    auxiliary: of heads that only help training, of the same shape.
  """

  main: Array
  auxiliary: tuple[Array, ...] = ()


def max_pool_2x2(x: Array, ceil: bool = False) -> Array:
  """2x2 max-pooling with stride 2.

  Equal to `nn.max_pool(x, (2, 2), (2, 2), "VALID")`. Where values tie, the
  gradient is shared between them.

  Args:
    x: (B, H, W, C).
    ceil: whether an odd last row or column is pooled by itself, as Caffe does,
      or dropped.

  Returns:
    (B, H // 2, W // 2, C), rounded up if `ceil`.
  """
  if ceil:
    # A pixel repeated leaves the maximum as it is.
    x = pad_to_multiple(x, 2)
  height, width = x.shape[1] // 2 * 2, x.shape[2] // 2 * 2
  x = x[:, :height, :width]
  rows = jnp.maximum(x[:, ::2], x[:, 1::2])
  return jnp.maximum(rows[:, :, ::2], rows[:, :, 1::2])


def depth_to_space_2x2(x: Array) -> Array:
  """(B, H, W, 4 * C) -> (B, 2 * H, 2 * W, C); channels are (dy, dx, C)."""
  b, h, w, c = x.shape
  x = x.reshape(b, h, w, 2, 2, c // 4)
  return x.transpose(0, 1, 3, 2, 4, 5).reshape(b, 2 * h, 2 * w, c // 4)


class UpConv2x2(nn.Module):
  """2x2 transposed convolution with stride 2, as a dense layer.

  Kernel equals stride, so no two outputs overlap: every input pixel makes its
  own 2x2 block. Equal to `nn.ConvTranspose(features, (2, 2), (2, 2))` with
  kernel (2, 2, in, out) and `transpose_kernel=False`; the kernel here is
  (in, 4 * out), its last axis ordered (dy, dx, out).

  Attributes:
    features: output channels.
    dtype: compute dtype; parameters are float32.
  """

  features: int
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Array) -> Array:
    # Every output pixel sees the input channels of one pixel only.
    x = nn.Dense(
      4 * self.features,
      use_bias=False,
      dtype=self.dtype,
      kernel_init=he_normal,
      name="conv",
    )(x)
    bias = self.param("bias", nn.initializers.zeros, (self.features,))
    return depth_to_space_2x2(x) + bias.astype(x.dtype)


def upsample_2x(x: Array) -> Array:
  """Bilinear up-sampling by two, half-pixel centers: (B, 2H, 2W, C)."""
  b, h, w, c = x.shape
  return jax.image.resize(x, (b, 2 * h, 2 * w, c), "bilinear")


def make_norm(
  name: str, train: bool, *, dtype: Any, axis_name: str | None
) -> Callable[..., nn.Module]:
  """A constructor of normalisation layers.

  Args:
    name: 'batch' (momentum 0.9, epsilon 1e-5), 'group' (groups of at least
      one channel, at most 32 of them) or 'none' (the identity).
    train: whether batch statistics are those of the batch.
    dtype: output dtype; statistics are float32 whatever it is.
    axis_name: the pmap axis that batch statistics are averaged over, or None
      where the batch is global already.

  Returns:
    A function of keyword arguments (such as `name`) to a layer.
  """
  if name == "batch":
    return functools.partial(
      nn.BatchNorm,
      use_running_average=not train,
      momentum=0.9,
      epsilon=1e-5,
      dtype=dtype,
      axis_name=axis_name,
    )
  if name == "group":
    return functools.partial(_GroupNorm, dtype=dtype)
  if name == "none":
    return lambda **kwargs: lambda x: x
  raise ValueError(f"norm {name!r} is none of 'batch', 'group', 'none'")


class _GroupNorm(nn.Module):
  """GroupNorm with as many groups, up to 32, as divide the channels."""

  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Array) -> Array:
    channels = x.shape[-1]
    groups = next(g for g in range(32, 0, -1) if channels % g == 0)
    return nn.GroupNorm(num_groups=groups, dtype=self.dtype)(x)


def pad_to_multiple(x: Array, multiple: int) -> Array:
  """Repeats the bottom and right edge of (B, H, W, C) up to a multiple."""
  _, height, width, _ = x.shape
  pads = ((0, 0), (0, -height % multiple), (0, -width % multiple), (0, 0))
  return jnp.pad(x, pads, mode="edge")
