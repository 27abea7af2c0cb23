"""Parts of the tables in `fields`, which name them as 'module:name'."""

import importlib
from typing import Any


def load(reference: str) -> Any:
  """What a reference such as 'segsiam_jax.models.resnet:ResNet' names.

  One without a colon names a module. It is imported now, so that tables cost
  nothing to read.

  >>> load("math:sqrt")(9.0)
  3.0
  """
  module, colon, name = reference.partition(":")
  found = importlib.import_module(module)
  return getattr(found, name) if colon else found
