"""Convolutions whose kernels get their gradients fast on a CPU.

XLA on a CPU takes two to four times as long for the gradient of a wide kernel
as for the convolution itself. As a sum over the kernel's cells of products of
matrices it takes about as long, with the same numbers.
"""

import functools
import math
from collections.abc import Callable, Sequence
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
# Copies of the inputs of more bytes, without those of a vmap, are made one
# after the other.
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
    (B, *S', F).
  """
  dilation = tuple(options.get("rhs_dilation") or (1,) * (rhs.ndim - 2))
  strides = tuple(window_strides)
  window = tuple(
    (k - 1) * d + 1 for k, d in zip(rhs.shape[:-2], dilation, strict=True)
  )
  if _is_wide(lhs, rhs, options):
    if isinstance(padding, str):
      pads = lax.padtype_to_pads(lhs.shape[1:-1], window, strides, padding)
    else:
      pads = padding
    pads = tuple((int(low), int(high)) for low, high in pads)
    room = [
      size + low + high - k
      for size, (low, high), k in zip(
        lhs.shape[1:-1], pads, window, strict=True
      )
    ]
    if min(room) >= 0:
      conv = _with_fast_gradient(
        strides,
        pads,
        dilation,
        options.get("dimension_numbers"),
        options.get("precision"),
      )
      return conv(lhs, rhs)
  return lax.conv_general_dilated(lhs, rhs, strides, padding, **options)


def _is_wide(lhs: jax.Array, rhs: jax.Array, options: dict[str, Any]) -> bool:
  """Whether a convolution is a plain one of float32 with a wide kernel."""
  numbers = lax.conv_dimension_numbers(
    lhs.shape, rhs.shape, options.get("dimension_numbers")
  )
  last = lhs.ndim - 1
  return (
    min(rhs.shape[-2:]) >= _WIDE
    and lhs.dtype == rhs.dtype == jnp.float32
    # Of an exported function, sizes may be symbols.
    and all(isinstance(size, int) for size in lhs.shape)
    and all(options.get(name, value) == value for name, value in _PLAIN.items())
    and max(options.get("lhs_dilation") or (1,)) == 1
    and numbers.lhs_spec == numbers.out_spec == (0, last, *range(1, last))
    and numbers.rhs_spec == (last, last - 1, *range(last - 1))
  )


# Without a cache every call outside of jit would compile anew.
@functools.cache
def _with_fast_gradient(
  strides: tuple[int, ...],
  padding: tuple[tuple[int, int], ...],
  dilation: tuple[int, ...],
  dimension_numbers: Any,
  precision: Any,
) -> Callable[[jax.Array, jax.Array], jax.Array]:
  """A convolution, differentiated by its kernel as `_by_cells` on a CPU.

  By a rule for tangents, so that every mode of differentiation is left: the
  gradient is the transpose of `_by_cells`, which is linear in the kernel.
  """
  conv = functools.partial(
    lax.conv_general_dilated,
    window_strides=strides,
    padding=padding,
    rhs_dilation=dilation,
    dimension_numbers=dimension_numbers,
    precision=precision,
  )
  by_cells = functools.partial(
    _by_cells,
    strides=strides,
    padding=padding,
    dilation=dilation,
    precision=precision,
  )

  # Without a checkpoint the gradient would keep a copy of the inputs for every
  # cell of the kernel.
  @jax.jit
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

  function = jax.custom_jvp(conv)
  function.defjvp(tangent, symbolic_zeros=True)
  return function


def _by_cells(lhs, rhs, *, strides, padding, dilation, precision):
  """The convolution as a sum over the cells of its kernel.

  Args:
    lhs: (B, *S, C).
    rhs: (*K, C, F).
    strides: of each axis S.
    padding: likewise.
    dilation: likewise.
    precision: of the products.
  """
  edges = ((0, 0, 0), *((low, high, 0) for low, high in padding), (0, 0, 0))
  padded = lax.pad(lhs, np.zeros((), lhs.dtype), edges)
  batch, *sizes, _ = padded.shape
  window, channels = rhs.shape[:-2], rhs.shape[-2:]
  out = [
    (size - (k - 1) * d - 1) // s + 1
    for size, k, d, s in zip(sizes, window, dilation, strides, strict=True)
  ]
  spans = [(n - 1) * s + 1 for n, s in zip(out, strides, strict=True)]
  steps = tuple(slice(None, None, s) for s in strides)

  def product(offset, kernel):
    seen = lax.dynamic_slice(
      padded, (0, *offset, 0), (batch, *spans, channels[0])
    )
    return jnp.tensordot(seen[:, *steps], kernel, 1, precision=precision)

  @functools.partial(jax.checkpoint, prevent_cse=False)
  def add(total, cell):
    return total + product(*cell), None

  offsets = np.array(list(np.ndindex(window)), np.int32) * dilation
  kernels = rhs.reshape(-1, *channels)
  copies = 4 * len(offsets) * batch * math.prod(out) * channels[0]
  unroll = len(offsets) if copies <= _MOST_AT_ONCE else 1
  # Not from zeros, which would be of another sharding.
  total = product(offsets[0], kernels[0])
  rest = (offsets[1:], kernels[1:])
  return lax.scan(add, total, rest, unroll=max(1, unroll - 1))[0]
