"""What a field of a configuration is, and the checks of its value."""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from segsiam_jax.errors import nearest

Check = Callable[[Any], str]
# (field, complaint) -> raises UserError.
Fail = Callable[[str, str], None]


_LARGEST_INT = 2**32 - 1
_LARGEST_FLOAT = 3.4e38


class Field(NamedTuple):
  """One field.

  Attributes:
    default: its type is the field's type; a tuple's items give theirs.
    meaning: one line of documentation.
    check: value -> complaint, '' if there is none.
    empty: whether a config starts with (), and `default` is only an example
      that gives the type of the items.
  """

  default: Any
  meaning: str
  check: Check = lambda value: ""
  empty: bool = False


class Model(NamedTuple):
  """A model that a task offers.

  Attributes:
    make: a reference to its Linen module (see `parts.load`).
    fields: of its own, as `model.NAME`.
  """

  make: str
  fields: Mapping[str, Field]


def representable(value: Any) -> str:
  """A complaint about numbers that arrays cannot hold, or ''."""
  for item in value if isinstance(value, tuple | list) else (value,):
    if isinstance(item, int) and abs(item) > _LARGEST_INT:
      return f"expected at most {_LARGEST_INT} in size"
    if isinstance(item, float) and not abs(item) <= _LARGEST_FLOAT:
      return "expected a finite number that float32 can hold"
  return ""


def one_of(*choices: Any) -> Check:
  def check(value: Any) -> str:
    if value in choices:
      return ""
    close = nearest(str(value), map(str, choices))
    hint = f"; did you mean {close!r}?" if close else ""
    return f"expected one of {', '.join(map(repr, choices))}{hint}"

  return check


def within(low: float = -math.inf, high: float = math.inf) -> Check:
  """Both ends included; of a tuple, every item."""

  def check(value: Any) -> str:
    values = value if isinstance(value, tuple | list) else (value,)
    if all(low <= item <= high for item in values):
      return ""
    if high == math.inf:
      return f"expected at least {low}"
    return f"expected {low} to {high}"

  return check


def some(check: Check) -> Check:
  """Of a tuple that cannot be empty."""
  return lambda value: check(value) if value else "expected at least one"


def pair(
  meaning: str,
  low: float = -math.inf,
  ordered: bool = False,
  high: float = math.inf,
) -> Check:
  """Two numbers from `low` to `high`; the first not above if `ordered`."""

  def check(value: Any) -> str:
    if len(value) != 2:
      return f"expected {meaning}, such as '(1, 2)'"
    if min(value) < low:
      return f"expected {meaning}, each at least {low}"
    if max(value) > high:
      return f"expected {meaning}, each at most {high}"
    if ordered and value[0] > value[1]:
      return f"expected {meaning}, the smaller one first"
    return ""

  return check


def size(low: int) -> Check:
  """Of images (height, width) or of volumes (depth, height, width)."""

  def check(value: Any) -> str:
    if len(value) not in (2, 3):
      return "expected (height, width), or (depth, height, width) for volumes"
    return "" if min(value) >= low else f"expected at least {low} each"

  return check
