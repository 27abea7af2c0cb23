"""Encoders: one interface to all networks that make a pyramid of features.

An encoder has `channels` and `strides`, tuples with the finest first, and
`encoder(images, train)` gives as many feature maps. Images may have any size;
a feature map of stride s has H / s rows where s divides H.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from segsiam_jax import parts
from segsiam_jax.fields.encoders import ENCODERS


def make_encoder(
  encoder: str,
  *,
  base_width: int = 0,
  norm: str = "batch",
  remat: bool = False,
  dtype: Any = jnp.float32,
  axis_name: str | None = None,
  name: str | None = None,
  **options: Any,
) -> nn.Module:
  """An encoder by name.

  Args:
    encoder: a key of `ENCODERS`.
    base_width: channels of its first level; 0 for its own default.
    norm: see `layers.make_norm`; of those that take one.
    remat: compute activations anew in the backward pass.
    dtype: compute dtype; parameters are float32.
    axis_name: see `layers.make_norm`.
    name: of the module.
    **options: see `fields.encoders.Encoder.takes`.

  Raises:
    ValueError: there is no such encoder, or it does not take an option.
  """
  if encoder not in ENCODERS:
    raise ValueError(f"encoder {encoder!r} is not one of {', '.join(ENCODERS)}")
  part = ENCODERS[encoder]
  if base_width:
    options["base_width"] = base_width
  if unknown := [option for option in options if option not in part.takes]:
    raise ValueError(f"{encoder!r} does not take {', '.join(unknown)}")
  if "norm" in part.takes:
    options |= {"norm": norm, "axis_name": axis_name}
  return parts.load(part.make)(
    **part.options, **options, remat=remat, dtype=dtype, name=name
  )
