"""Checks of argument shapes; shapes are static, so compiled code pays nothing.

Without them an argument of a wrong shape broadcasts into a wrong number.
"""

import operator
from typing import Any

import numpy as np


def check_shapes(**arguments: tuple[Any, str]) -> None:
  """Raises unless every array has the shape that its pattern describes.

  A pattern is a list of axes: a name is an axis whose size is the same in
  all patterns, a number is that size, `_` is any size, and `*S` at most once
  stands for any number of axes, the same sizes in all patterns. A `+` behind a
  name (`D+`, `*S+`) forbids a length of 0.

  Args:
    **arguments: the function's arguments by name, each with its pattern; None
      is skipped, so that optional arguments need no `if`.

  Raises:
    ValueError: names the argument, the shape expected and the one given.

  >>> x = np.zeros((4, 8))
  >>> check_shapes(embeddings=(x, "B D"), labels=(np.zeros(4), "B"))
  >>> check_shapes(embeddings=(x, "B D"), labels=(np.zeros((4, 1)), "B"))
  Traceback (most recent call last):
    ...
  ValueError: labels: expected shape (B,) with B=4; got (4, 1)
  """
  sizes: dict[str, tuple[int, ...]] = {}
  for name, (array, pattern) in arguments.items():
    if array is None:
      continue
    shape = tuple(np.shape(array))
    if not _fits(pattern.split(), shape, sizes):
      raise ValueError(
        f"{name}: expected shape {_describe(pattern.split(), sizes)}; "
        f"got {shape}"
      )


def check_pairs(**vectors: Any) -> None:
  """Raises unless vectors `(..., D)` can be taken in pairs.

  Args:
    **vectors: two arrays by name, of one D above 0; the axes before it must
      broadcast.

  Raises:
    ValueError: names the argument, the shape expected and the one given.

  >>> check_pairs(x=np.zeros((4, 1, 3)), y=np.zeros((5, 3)))
  >>> check_pairs(x=np.zeros((4, 3)), y=np.zeros((4, 1)))
  Traceback (most recent call last):
    ...
  ValueError: y: expected shape (..., 3) that broadcasts with (4, 3); got (4, 1)
  """
  (name, x), (other, y) = vectors.items()
  check_shapes(**{name: (x, "*S D+")})
  shape, given = tuple(np.shape(x)), tuple(np.shape(y))
  if given[-1:] != shape[-1:] or not broadcasts(shape, given):
    raise ValueError(
      f"{other}: expected shape (..., {shape[-1]}) that broadcasts with "
      f"{shape}; got {given}"
    )


def broadcasts(one: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
  """Whether shapes broadcast; sizes may be symbols, which NumPy knows none of.

  >>> broadcasts((4, 1, 3), (5, 3)), broadcasts((4,), (3,))
  (True, False)
  """
  return all(
    a == b or 1 in (a, b) for a, b in zip(one[::-1], other[::-1], strict=False)
  )


def check_integer(
  name: str, value: Any, low: int, high: int | None = None
) -> int:
  """The integer that an argument is, if it is one in a range.

  Args:
    name: of the argument.
    value: of any type.
    low: the least that will do.
    high: the largest; None for no limit.

  Returns:
    A Python integer.

  Raises:
    ValueError: names the argument and the range.

  >>> check_integer("k", np.int64(2), 1, 3)
  2
  >>> check_integer("k", 1.5, 1, 3)
  Traceback (most recent call last):
    ...
  ValueError: k: needs 1 <= k <= 3, an integer; got 1.5
  """
  try:
    number = operator.index(value)
  except TypeError:
    number = low - 1
  if number < low or (high is not None and number > high):
    at_most = "" if high is None else f" <= {high}"
    raise ValueError(
      f"{name}: needs {low} <= {name}{at_most}, an integer; got {value!r}"
    )
  return number


def _fits(
  axes: list[str], shape: tuple[int, ...], sizes: dict[str, tuple[int, ...]]
) -> bool:
  """Whether a shape fits; adds the sizes that its names now stand for."""
  starred = [i for i, axis in enumerate(axes) if axis.startswith("*")]
  if starred:
    width = len(shape) - (len(axes) - 1)
    if width < 0:
      return False
    start = starred[0]
    parts = [(i, i + 1) for i in range(start)]
    parts += [(start, start + width)]
    parts += [(i, i + 1) for i in range(start + width, len(shape))]
  elif len(axes) == len(shape):
    parts = [(i, i + 1) for i in range(len(shape))]
  else:
    return False
  found = dict(sizes)
  for axis, (low, high) in zip(axes, parts, strict=True):
    part = shape[low:high]
    if axis.endswith("+"):
      axis = axis[:-1]
      if 0 in part:
        return False
    if axis == "_":
      continue
    if axis.isdigit():
      if part != (int(axis),):
        return False
    elif found.setdefault(axis, part) != part:
      return False
  sizes.update(found)
  return True


def _describe(axes: list[str], sizes: dict[str, tuple[int, ...]]) -> str:
  """'(B, D) with B=4, D>0' for the axes 'B D+' where B is known."""
  comma = "," if len(axes) == 1 and not axes[0].startswith("*") else ""
  filled = [axis[:-1] for axis in axes if axis.endswith("+")]
  axes = [axis.removesuffix("+") for axis in axes]
  text = f"({', '.join(axes)}{comma})"
  known = []
  for axis in dict.fromkeys(axes):
    if axis in sizes:
      size = sizes[axis]
      known.append(f"{axis}={size if axis.startswith('*') else size[0]}")
    elif axis in filled:
      known.append(f"{axis}>0")
  return f"{text} with {', '.join(known)}" if known else text
