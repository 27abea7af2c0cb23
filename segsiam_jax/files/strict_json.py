"""JSON as its standard has it: without NaN and infinities."""

import json
import math
from collections.abc import Mapping
from typing import Any


def dumps(value: Any, **options: Any) -> str:
  """Like `json.dumps`; numbers that are not finite become null.

  >>> dumps({"score": float("nan"), "threshold": (1.5, float("inf"))})
  '{"score": null, "threshold": [1.5, null]}'
  """
  return json.dumps(finite_or_none(value), allow_nan=False, **options)


def finite_or_none(value: Any) -> Any:
  """The same lists and mappings, None for floats that are not finite."""
  if isinstance(value, float):
    return value if math.isfinite(value) else None
  if isinstance(value, Mapping):
    return {name: finite_or_none(item) for name, item in value.items()}
  if isinstance(value, list | tuple):
    return [finite_or_none(item) for item in value]
  return value
