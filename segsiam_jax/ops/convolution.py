"""Convolutions in the forms that XLA computes fast on a CPU.

The numbers are those of `lax.conv_general_dilated`; other devices run it as it
is.
"""

import contextlib
import contextvars
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

_IMAGES = ("NHWC", "HWIO", "NHWC")
_Pads = Sequence[tuple[int, int]]
_in_loop = contextvars.ContextVar("in_loop", default=False)


@contextlib.contextmanager
def in_loop() -> Iterator[None]:
  """Context in which to trace the body of a `lax` loop or conditional.

  There XLA on a CPU computes gradients of convolutions as they are written,
  without the fast routines for them: a kernel's takes 280 times as long. Within
  this context, gradients included, they are written as convolutions that take
  the usual time. They then have no forward-mode derivatives.
  """
  token = _in_loop.set(True)
  try:
    yield
  finally:
    _in_loop.reset(token)


def conv_general_dilated(
  lhs: jax.Array,
  rhs: jax.Array,
  window_strides: Sequence[int],
  padding: str | _Pads,
  **options: Any,
) -> jax.Array:
  """`lax.conv_general_dilated`, for `nn.Conv(conv_general_dilated=...)`.

  On a CPU a convolution of volumes is one of images: a slice and its neighbours
  become the channels of one image. XLA takes four to five times as long for its
  own, forward and backward (3-D U-Net: 4.7 s per step against 1.0).

  Args:
    lhs: (B, *S, C).
    rhs: (*K, C, F) kernel.
    window_strides: one for each axis S.
    padding: as in `lax`.
    **options: further arguments of `lax.conv_general_dilated`.

  Returns:
    (B, *S', F).
  """
  direct = functools.partial(
    lax.conv_general_dilated,
    window_strides=window_strides,
    padding=padding,
    **options,
  )
  volumes = rhs.ndim == 5
  dilated = any(one != 1 for one in options.get("lhs_dilation") or ())
  grouped = options.get("feature_group_count", 1) != 1
  if dilated or grouped or not (volumes or (rhs.ndim == 4 and _in_loop.get())):
    return direct(lhs, rhs)  # type: ignore[call-arg]
  strides = tuple(window_strides)
  dilation = tuple(options.get("rhs_dilation") or (1,) * len(strides))
  if isinstance(padding, str):
    window = [
      (k - 1) * d + 1 for k, d in zip(rhs.shape[:-2], dilation, strict=True)
    ]
    padding = lax.padtype_to_pads(lhs.shape[1:-1], window, strides, padding)
  on_cpu = functools.partial(
    _as_images if volumes else _convolve,
    strides=strides,
    padding=tuple(padding),
    dilation=dilation,
    precision=options.get("precision"),
  )
  return lax.platform_dependent(lhs, rhs, cpu=on_cpu, default=direct)


def _as_images(lhs, rhs, *, strides, padding, dilation, precision):
  """A convolution of volumes (B, D, H, W, C) as one of B * D' images."""
  lhs = jnp.pad(lhs, ((0, 0), padding[0], (0, 0), (0, 0), (0, 0)))
  reach = (rhs.shape[0] - 1) * dilation[0]
  slices = [
    lax.slice_in_dim(lhs, at, lhs.shape[1] - reach + at, strides[0], axis=1)
    for at in range(0, reach + 1, dilation[0])
  ]
  images = jnp.concatenate(slices, axis=-1)
  batch, depth = images.shape[:2]
  result = _convolve(
    images.reshape(batch * depth, *images.shape[2:]),
    jnp.concatenate(list(rhs), axis=-2),
    strides=strides[1:],
    padding=padding[1:],
    dilation=dilation[1:],
    precision=precision,
  )
  return result.reshape(batch, depth, *result.shape[1:])


def _convolve(lhs, rhs, *, strides, padding, dilation, precision):
  """A convolution of images; in a loop with gradients of its own."""
  convolve = _with_gradients if _in_loop.get() else _of_images
  return convolve(lhs, rhs, strides, padding, dilation, precision)


def _of_images(lhs, rhs, strides, padding, dilation, precision):
  return lax.conv_general_dilated(
    lhs,
    rhs,
    strides,
    padding,
    rhs_dilation=dilation,
    dimension_numbers=_IMAGES,
    precision=precision,
  )


_with_gradients = jax.custom_vjp(_of_images, nondiff_argnums=(2, 3, 4, 5))


def _forward(lhs, rhs, *static):
  return _of_images(lhs, rhs, *static), (lhs, rhs)


def _backward(strides, padding, dilation, precision, kept, gradient):
  """Both gradients as convolutions of (B, H, W, C) with (H, W, I, O)."""
  lhs, rhs = kept
  convolve = functools.partial(
    lax.conv_general_dilated, dimension_numbers=_IMAGES, precision=precision
  )
  pads_of_lhs, pads_of_rhs = [], []
  for axis, (low, _) in enumerate(padding):
    reach = (rhs.shape[axis] - 1) * dilation[axis]
    # Of the gradient with zeros between its values.
    size = (gradient.shape[axis + 1] - 1) * strides[axis] + 1
    high = reach + size - lhs.shape[axis + 1] - low
    pads_of_lhs.append((reach - low, reach - high))
    pads_of_rhs.append((low, high))
  of_lhs = convolve(
    gradient,
    jnp.flip(rhs, (0, 1)).swapaxes(2, 3),
    (1, 1),
    pads_of_lhs,
    lhs_dilation=strides,
    rhs_dilation=dilation,
  )
  of_rhs = convolve(
    lhs.transpose(3, 1, 2, 0),
    gradient.transpose(1, 2, 0, 3),
    dilation,
    pads_of_rhs,
    rhs_dilation=strides,
  )
  return of_lhs, of_rhs.transpose(1, 2, 0, 3)


_with_gradients.defvjp(_forward, _backward)
