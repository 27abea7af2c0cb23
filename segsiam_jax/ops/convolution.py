"""Convolutions whose kernels get their gradients fast on a CPU.

XLA on a CPU takes two to four times as long for the gradient of a wide kernel
as for the convolution itself. As a sum over the kernel's cells of products of
matrices it takes about as long, with the same numbers.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_derivatives import SymbolicZero

# Kernels with fewer channels on either side are left to XLA, whose gradients of
# these are as fast.
_WIDE = 64
# Whatever else is asked for is left to XLA.
_PLAIN = {
  "feature_group_count": 1,
  "batch_group_count": 1,
  "preferred_element_type": None,
  "out_sharding": None,
}
# Copies of the inputs of more bytes are made one after the other.
_MOST_AT_ONCE = 2**26


def conv_general_dilated(
  lhs: jax.Array,
  rhs: jax.Array,
  window_strides: Sequence[int],
  padding: str | Sequence[tuple[int, int]],
  **options: Any,
) -> jax.Array:
  """`lax.conv_general_dilated`, for `nn.Conv(conv_general_dilated=...)`.

  The results are those of `lax`, derivatives of any order and mode among them;
  how the gradient of a wide float32 kernel is computed differs, and on CPUs
  only.

  Args:
    lhs: (B, *S, C).
    rhs: (*K, C, F) kernel.
    window_strides: one for each axis S.
    padding: as in `lax`.
    **options: further arguments of `lax.conv_general_dilated`.

  Returns:
    (B, *S', F) of the dtype of `lhs`.
  """
  dilation = options.pop("rhs_dilation", None) or (1,) * (rhs.ndim - 2)
  conv = functools.partial(
    lax.conv_general_dilated,
    window_strides=window_strides,
    padding=padding,
    rhs_dilation=dilation,
    **options,
  )
  numbers = lax.conv_dimension_numbers(
    lhs.shape, rhs.shape, options.get("dimension_numbers")
  )
  last = lhs.ndim - 1
  plain = (
    all(options.get(name, value) == value for name, value in _PLAIN.items())
    and max(options.get("lhs_dilation") or (1,)) == 1
    and numbers.lhs_spec == numbers.out_spec == (0, last, *range(1, last))
    and numbers.rhs_spec == (last, last - 1, *range(last - 1))
  )
  wide = min(rhs.shape[-2:]) >= _WIDE
  if not (plain and wide and lhs.dtype == rhs.dtype == jnp.float32):
    return conv(lhs, rhs)
  sizes = [(k - 1) * d + 1 for k, d in zip(rhs.shape, dilation, strict=False)]
  if isinstance(padding, str):
    padding = lax.padtype_to_pads(
      lhs.shape[1:-1], sizes, window_strides, padding
    )
  by_cells = functools.partial(
    _by_cells,
    strides=tuple(window_strides),
    padding=tuple(padding),
    dilation=tuple(dilation),
  )
  return _with_fast_gradient(conv, by_cells)(lhs, rhs)


def _with_fast_gradient(conv, by_cells):
  """`conv`, differentiated by its kernel as `by_cells` on a CPU.

  By a rule for tangents, so that every mode of differentiation is left: the
  gradient is the transpose of `by_cells`, which is linear in the kernel.
  """
  function = jax.custom_jvp(conv)

  # Without a checkpoint the gradient would keep a copy of the inputs for every
  # cell of the kernel.
  @functools.partial(jax.checkpoint, prevent_cse=False)
  def by_kernel(lhs, rhs):
    return lax.platform_dependent(lhs, rhs, cpu=by_cells, default=conv)

  def tangent(primals, tangents):
    lhs, rhs = primals
    out = conv(lhs, rhs)
    parts = [
      part(a, b)
      for part, a, b in (
        (conv, tangents[0], rhs),
        (by_kernel, lhs, tangents[1]),
      )
      if not isinstance(a, SymbolicZero) and not isinstance(b, SymbolicZero)
    ]
    return out, sum(parts) if parts else jnp.zeros_like(out)

  function.defjvp(tangent, symbolic_zeros=True)
  return function


def _by_cells(lhs, rhs, *, strides, padding, dilation):
  """The convolution as a sum over the cells of its kernel.

  Args:
    lhs: (B, *S, C).
    rhs: (*K, C, F).
    strides: of each axis S.
    padding: likewise.
    dilation: likewise.
  """
  padded = jnp.pad(lhs, ((0, 0), *padding, (0, 0)))
  window, channels = rhs.shape[:-2], rhs.shape[-2:]
  out = [
    (size - (k - 1) * d - 1) // s + 1
    for size, k, d, s in zip(
      padded.shape[1:-1], window, dilation, strides, strict=True
    )
  ]
  spans = [(n - 1) * s + 1 for n, s in zip(out, strides, strict=True)]
  steps = tuple(slice(None, None, s) for s in strides)
  offsets = np.array(list(np.ndindex(window)), np.int32) * dilation

  @functools.partial(jax.checkpoint, prevent_cse=False)
  def add(total, cell):
    offset, kernel = cell
    seen = lax.dynamic_slice(
      padded, (0, *offset, 0), (len(lhs), *spans, channels[0])
    )
    return total + jnp.tensordot(seen[:, *steps], kernel, 1), None

  total = jnp.zeros((len(lhs), *out, channels[1]), lhs.dtype)
  copies = 4 * len(offsets) * len(lhs) * math.prod(out) * channels[0]
  unroll = len(offsets) if copies <= _MOST_AT_ONCE else 1
  cells = (offsets, rhs.reshape(-1, *channels))
  return lax.scan(add, total, cells, unroll=unroll)[0]
