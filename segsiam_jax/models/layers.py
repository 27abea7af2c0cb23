"""Layers that several models share.

Two of them are written for speed on purpose: on a CPU the gradient of
`nn.max_pool` takes ten times as long as that of `max_pool_2x2`, and that of
`nn.ConvTranspose` ten times as long as that of `UpConv`.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

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
  return max_pool_axes(x, (1, 2))


def max_pool_axes(x: Array, axes: Sequence[int]) -> Array:
  """Max-pooling by two along some axes; an odd last item is dropped."""
  for axis in axes:
    even = x.shape[axis] // 2 * 2
    first, second = (
      jax.lax.slice_in_dim(x, start, even, 2, axis) for start in (0, 1)
    )
    x = jnp.maximum(first, second)
  return x


def depth_to_space(x: Array, factors: Sequence[int]) -> Array:
  """Channels to blocks of pixels.

  Args:
    x: (B, *S, F * C), F the product of `factors`; channels are ordered as
      (*factors, C).
    factors: one for each of the axes S.

  Returns:
    (B, *(S * factors), C).
  """
  batch, *sizes, channels = x.shape
  n = len(sizes)
  x = x.reshape(batch, *sizes, *factors, channels // math.prod(factors))
  interleaved = [axis for i in range(1, n + 1) for axis in (i, n + i)]
  x = x.transpose(0, *interleaved, 2 * n + 1)
  grown = [size * f for size, f in zip(sizes, factors, strict=True)]
  return x.reshape(batch, *grown, x.shape[-1])


class UpConv(nn.Module):
  """Transposed convolution whose kernel equals its stride, as a dense layer.

  No two outputs overlap: every input pixel makes its own block. Equal to
  `nn.ConvTranspose(features, factors, factors)` with kernel (*factors, in, out)
  and `transpose_kernel=False`; the kernel here is (in, prod(factors) * out),
  its last axis ordered (*factors, out).

  Attributes:
    features: output channels.
    factors: of up-sampling, one for each axis between batch and channels.
    dtype: compute dtype; parameters are float32.
  """

  features: int
  factors: tuple[int, ...] = (2, 2)
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Array) -> Array:
    # Every output pixel sees the input channels of one pixel only.
    x = nn.Dense(
      math.prod(self.factors) * self.features,
      use_bias=False,
      dtype=self.dtype,
      kernel_init=he_normal,
      name="conv",
    )(x)
    bias = self.param("bias", nn.initializers.zeros, (self.features,))
    return depth_to_space(x, self.factors) + bias.astype(x.dtype)


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


def pad_to_multiple(x: Array, multiple: int | Sequence[int]) -> Array:
  """Repeats the last items of the axes between batch and channels.

  Args:
    x: (B, *S, C).
    multiple: of every axis S, or one for each: what their sizes grow to.
  """
  sizes = x.shape[1:-1]
  multiples = np.broadcast_to(multiple, len(sizes))
  pads = [
    (0, int(-size % each)) for size, each in zip(sizes, multiples, strict=True)
  ]
  return jnp.pad(x, ((0, 0), *pads, (0, 0)), mode="edge")
