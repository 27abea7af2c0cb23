"""Layers that several models share.

Some are written for speed on purpose: on a CPU the gradient of `nn.max_pool`
takes ten times as long as that of `max_pool_2x2`, and that of
`nn.ConvTranspose` ten times as long as that of `UpConv`.
"""

import contextlib
import functools
import math
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from segsiam_jax.ops.convolution import conv_general_dilated

Array = jax.Array

# For `nn.Dense` that computes in half precision: sums that become scores keep
# the digits by which they are ranked.
dot_to_float32 = functools.partial(
  jax.lax.dot_general, preferred_element_type=jnp.float32
)


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


def normal(std: float) -> Callable[..., Array]:
  """Initializer: normal with a standard deviation, drawn as `he_normal` is."""

  def init(key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32):
    flat = jax.random.normal(key, (math.prod(shape),), dtype)
    return flat.reshape(shape) * std

  return init


# Of images (B, H, W, C) and volumes (B, D, H, W, C).
Conv = functools.partial(
  nn.Conv, kernel_init=he_normal, conv_general_dilated=conv_general_dilated
)


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


def max_pool_3x3(x: Array) -> Array:
  """3x3 max-pooling with stride 2 and padding 1.

  Equal to `nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))`. Where values
  tie, the gradient is shared between them.

  Args:
    x: (B, H, W, C).

  Returns:
    (B, ceil(H / 2), ceil(W / 2), C).
  """
  for axis in (1, 2):
    size = x.shape[axis]
    pads = [(0, 0)] * 4
    # Zeros would do after a ReLU only.
    pads[axis] = (1, 1 + size % 2)
    x = jnp.pad(x, pads, constant_values=-jnp.inf)
    last = size + size % 2
    parts = [
      jax.lax.slice_in_dim(x, start, start + last - 1, 2, axis)
      for start in range(3)
    ]
    x = functools.reduce(jnp.maximum, parts)
  return x


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
  name: str,
  train: bool,
  *,
  dtype: Any,
  axis_name: str | None,
  epsilon: float = 1e-5,
  where: Array | None = None,
) -> Callable[..., nn.Module]:
  """A constructor of normalisation layers.

  Args:
    name: 'batch' (momentum 0.9), 'frozen' (statistics, scale and bias as they
      are stored, none of them a parameter), 'group' (groups of at least one
      channel, at most 32 of them) or 'none' (the identity).
    train: whether batch statistics are those of the batch.
    dtype: output dtype; statistics are float32 whatever it is.
    axis_name: the pmap axis that batch statistics are averaged over, or None
      where the batch is global already.
    epsilon: of 'batch' and 'frozen'.
    where: (B,), nonzero for the rows that batch statistics are of; None is all.

  Returns:
    A function of keyword arguments (such as `name`) to a layer.
  """
  if name == "batch" and where is not None and train:
    return lambda **kwargs: functools.partial(
      _PartialBatchNorm(epsilon, dtype, axis_name, **kwargs), where=where
    )
  if name == "batch":
    return functools.partial(
      BatchNorm,
      train=train,
      momentum=0.9,
      epsilon=epsilon,
      dtype=dtype,
      axis_name=axis_name,
    )
  if name == "frozen":
    return functools.partial(_FrozenBatchNorm, epsilon, dtype)
  if name == "group":
    return functools.partial(_GroupNorm, dtype=dtype)
  if name == "none":
    return lambda **kwargs: lambda x: x
  raise ValueError(
    f"norm {name!r} is not one of 'batch', 'frozen', 'group', 'none'"
  )


class BatchNorm(nn.BatchNorm):
  """`nn.BatchNorm` that `frozen_norms` can tell to use its running statistics.

  Attributes:
    train: whether it otherwise uses those of the batch.
  """

  train: bool = False

  def __call__(
    self, x: Array, use_running_average: bool | None = None
  ) -> Array:
    if use_running_average is None:
      use_running_average = not self.train
    return super().__call__(x, use_running_average=use_running_average)


def frozen_norms(pattern: str) -> contextlib.AbstractContextManager[None]:
  """Within it, batch norms that do not learn keep their running statistics.

  A batch norm whose scale and bias are both frozen normalises with its running
  statistics and leaves them as they are, whatever `train` says, as frozen
  layers do in Keras and detectron2.

  Args:
    pattern: `optimizer.frozen`, see `state.frozen_parameters`; '' for none.

  Returns:
    A context to trace a model's `apply` in.
  """

  def keep_statistics(method, args, kwargs, context):
    module = context.module
    if (
      context.method_name == "__call__"
      and isinstance(module, BatchNorm | _PartialBatchNorm)
      and all(
        re.search(pattern, "/".join((*module.path, name)))
        for name in ("scale", "bias")
      )
    ):
      kwargs = {**kwargs, "use_running_average": True}
    return method(*args, **kwargs)

  if not pattern:
    return contextlib.nullcontext()
  return nn.intercept_methods(keep_statistics)


class _FrozenBatchNorm(nn.Module):
  """An affine map of channels that training leaves as it is.

  All four of its arrays are state: no optimizer sees them, and no weight decay.
  """

  epsilon: float
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Array) -> Array:
    shape = (x.shape[-1],)
    scale, bias, mean, var = (
      self.variable("batch_stats", name, init, shape, jnp.float32).value
      for name, init in (
        ("scale", jnp.ones),
        ("bias", jnp.zeros),
        ("mean", jnp.zeros),
        ("var", jnp.ones),
      )
    )
    scale = scale * jax.lax.rsqrt(var + self.epsilon)
    bias = bias - mean * scale
    return x * scale.astype(self.dtype) + bias.astype(self.dtype)


class _PartialBatchNorm(nn.Module):
  """`nn.BatchNorm` in training, of some rows only; without any, of none.

  Statistics of devices are summed rather than averaged, as they may have
  different numbers of rows.
  """

  epsilon: float
  dtype: Any = jnp.float32
  axis_name: str | None = None

  @nn.compact
  def __call__(
    self, x: Array, where: Array, use_running_average: bool = False
  ) -> Array:
    shape = (x.shape[-1],)
    scale = self.param("scale", nn.initializers.ones, shape)
    bias = self.param("bias", nn.initializers.zeros, shape)
    state = [
      self.variable("batch_stats", name, init, shape, jnp.float32)
      for name, init in (("mean", jnp.zeros), ("var", jnp.ones))
    ]
    if use_running_average:
      mean, var = (old.value for old in state)
    else:
      mean, var = self._update(x, where, state)
    scale = scale * jax.lax.rsqrt(var + self.epsilon)
    y = (x.astype(jnp.float32) - mean) * scale + bias
    return y.astype(self.dtype)

  def _update(
    self, x: Array, where: Array, state: Sequence[nn.Variable]
  ) -> tuple[Array, Array]:
    """Mean and variance of the rows, which the running ones move towards."""
    kept = jnp.reshape(where != 0, (-1,) + (1,) * (x.ndim - 1))
    axes = tuple(range(x.ndim - 1))
    value = jnp.where(kept, x.astype(jnp.float32), 0.0)
    sums = (
      kept.sum(dtype=jnp.float32) * math.prod(x.shape[1:-1]),
      value.sum(axes),
      jnp.square(value).sum(axes),
    )
    if self.axis_name is not None:
      sums = jax.lax.psum(sums, self.axis_name)
    count, total, squares = sums
    mean = total / jnp.maximum(count, 1.0)
    var = jnp.maximum(squares / jnp.maximum(count, 1.0) - mean**2, 0.0)
    mean, var = (
      jnp.where(count > 0, new, old.value)
      for new, old in zip((mean, var), state, strict=True)
    )
    if not self.is_initializing():
      for old, new in zip(state, (mean, var), strict=True):
        old.value = 0.9 * old.value + 0.1 * new
    return mean, var


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
