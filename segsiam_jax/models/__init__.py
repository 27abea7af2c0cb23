"""Linen modules; each is imported when it is first used."""

import importlib
from typing import Any

_MODULES = {
  "FCN": "fcn",
  "FCNResNet": "fcn",
  "MaskRCNN": "mask_rcnn",
  "UNet": "unet",
  "UNetPaper": "unet_paper",
  "UNetPlusPlus": "unet",
  "Siamese": "siamese",
  "Conv4": "towers",
  "EncoderTower": "towers",
  "Koch": "towers",
  "SigNet": "towers",
  "Strokes": "strokes",
  "make_encoder": "encoders",
}
__all__ = sorted(_MODULES)


def __getattr__(name: str) -> Any:
  if name in _MODULES:
    module = importlib.import_module(f"segsiam_jax.models.{_MODULES[name]}")
    return getattr(module, name)
  raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
  return sorted({*globals(), *__all__})
