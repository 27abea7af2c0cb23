"""Convolutions of volumes in the form that XLA computes fast on a CPU."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax


def conv_general_dilated(
  lhs: jax.Array,
  rhs: jax.Array,
  window_strides: Sequence[int],
  padding: str | Sequence[tuple[int, int]],
  **options: Any,
) -> jax.Array:
  """`lax.conv_general_dilated`, for `nn.Conv(conv_general_dilated=...)`.

  On a CPU a convolution of volumes is one of images: a slice and its neighbours
  become the channels of one image. XLA takes four to five times as long for its
  own, forward and backward (3-D U-Net: 4.7 s a step against 1.0).

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
  if not volumes or dilated or grouped:
    return direct(lhs, rhs)
  stacked = functools.partial(
    _as_images, strides=tuple(window_strides), padding=padding, options=options
  )
  return lax.platform_dependent(lhs, rhs, cpu=stacked, default=direct)


def _as_images(lhs, rhs, *, strides, padding, options):
  """A convolution of volumes (B, D, H, W, C) as one of B * D' images."""
  dilation = tuple(options.get("rhs_dilation") or (1, 1, 1))
  window = [(k - 1) * d + 1 for k, d in zip(rhs.shape, dilation, strict=False)]
  if isinstance(padding, str):
    padding = lax.padtype_to_pads(lhs.shape[1:4], window, strides, padding)
  lhs = jnp.pad(lhs, ((0, 0), padding[0], (0, 0), (0, 0), (0, 0)))
  last = lhs.shape[1] - window[0] + 1
  slices = [
    lax.slice_in_dim(lhs, start, start + last, strides[0], axis=1)
    for start in range(0, window[0], dilation[0])
  ]
  images = jnp.concatenate(slices, axis=-1)
  batch, depth = images.shape[:2]
  kernel = jnp.concatenate(list(rhs), axis=-2)
  options = options | {
    "lhs_dilation": None,
    "rhs_dilation": dilation[1:],
    "dimension_numbers": ("NHWC", "HWIO", "NHWC"),
  }
  result = lax.conv_general_dilated(
    images.reshape(batch * depth, *images.shape[2:]),
    kernel,
    strides[1:],
    padding[1:],
    **options,
  )
  return result.reshape(batch, depth, *result.shape[1:])
