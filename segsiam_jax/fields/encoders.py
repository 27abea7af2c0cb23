"""The table of encoders: all that others must know to use one."""

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import ml_collections

from segsiam_jax.fields.base import Fail


class Encoder(NamedTuple):
  """An encoder, as a config names it.

  Attributes:
    make: 'module:class' of a Linen module with `channels` and `strides`, see
      `models.encoders`. Each takes `remat`, `dtype` and `name`.
    options: arguments that make it this encoder and no other.
    takes: what else it takes: 'norm' (with `axis_name`) and 'epsilon', see
      `layers.make_norm`; 'base_width', channels of its first level; 'dilate',
      whether its last two stages keep stride 8; 'depth', 'residual' and
      'pool_depth' of the plain one, which alone takes volumes.
    strides: of its feature maps, finest first, each twice the one before; ()
      where 'depth' decides.
  """

  make: str
  options: Mapping[str, Any] = {}
  takes: Collection[str] = ()
  strides: tuple[int, ...] = ()


def _resnet(depth: int) -> Encoder:
  return Encoder(
    "segsiam_jax.models.resnet:ResNet",
    {"depth": depth},
    ("norm", "epsilon", "base_width", "dilate"),
    (2, 4, 8, 16, 32),
  )


_VGG = "segsiam_jax.models.vgg:VGG16"
_VGG_STRIDES = (1, 2, 4, 8, 16, 32)

ENCODERS: dict[str, Encoder] = {
  "plain": Encoder(
    "segsiam_jax.models.plain:PlainEncoder",
    takes=("norm", "depth", "base_width", "residual", "pool_depth"),
  ),
  **{f"resnet{depth}": _resnet(depth) for depth in (10, 18, 34, 50, 101)},
  **{
    f"convnext_{size}": Encoder(
      "segsiam_jax.models.convnext:ConvNeXt",
      {"size": size},
      strides=(4, 8, 16, 32),
    )
    for size in ("tiny", "small", "base", "large")
  },
  "vgg16": Encoder(_VGG, {}, ("base_width",), _VGG_STRIDES),
  "vgg16_bn": Encoder(_VGG, {}, ("norm", "base_width"), _VGG_STRIDES),
}

# Of a feature pyramid's levels, which detectors read boxes from.
PYRAMID_STRIDES = (4, 8, 16, 32)
# Whose strides are their own, and those that a feature pyramid can be made of.
FIXED = tuple(name for name, each in ENCODERS.items() if each.strides)
WITH_PYRAMID = tuple(
  name for name in FIXED if ENCODERS[name].strides[-4:] == PYRAMID_STRIDES
)


def halvings(encoder: str, depth: int) -> int:
  """How often an encoder halves an image.

  Args:
    encoder: a key of `ENCODERS`.
    depth: of those that take one.

  >>> halvings("resnet34", depth=4), halvings("plain", depth=4)
  (5, 4)
  """
  strides = ENCODERS[encoder].strides
  return strides[-1].bit_length() - 1 if strides else depth


def takers(option: str) -> str:
  """The encoders that take an option, for a message."""
  return ", ".join(
    repr(name) for name, each in ENCODERS.items() if option in each.takes
  )


def check_option(
  config: ml_collections.ConfigDict, field: str, option: str, fail: Fail
) -> None:
  """Complains of `model.FIELD` where `model.encoder` does not take it."""
  value = config.model[field]
  if value and option not in ENCODERS[config.model.encoder].takes:
    fail(f"model.{field}", f"only {takers(option)} take it; set 0")
