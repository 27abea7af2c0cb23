"""Parts of the tables in `fields`, which name them as 'module:name'."""

import importlib
from typing import Any


def load(reference: str) -> Any:
  """What a reference such as 'segsiam_jax.models.resnet:ResNet' names.

  The module is imported now, so that tables cost nothing to read.

  >>> load("math:sqrt")(9.0)
  3.0
  """
  module, _, name = reference.partition(":")
  return getattr(importlib.import_module(module), name)
