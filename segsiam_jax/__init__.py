"""Image segmentation and Siamese networks in JAX.

`load(WORKDIR)` gives a trained network; `losses`, `metrics`, `models` and `ops`
hold what other programs can use. Each is imported when it is first used.
"""

import importlib
from typing import Any

__all__ = ["load", "losses", "metrics", "models", "ops"]


def __getattr__(name: str) -> Any:
  if name == "load":
    return importlib.import_module("segsiam_jax.prediction.model").load
  if name in __all__:
    return importlib.import_module(f"segsiam_jax.{name}")
  raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
  return sorted({*globals(), *__all__})
