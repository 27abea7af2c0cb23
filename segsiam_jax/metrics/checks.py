"""What metrics on the host refuse."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np


def check_no_nan(row: str = "row", **arrays: Any) -> None:
  """Raises if an array holds a NaN, which sorting and counting would hide.

  Args:
    row: what a row of the arrays is.
    **arrays: `(N, ...)` by name; None is skipped.

  Raises:
    ValueError: names the array, how many of its rows, and the first.

  >>> check_no_nan("pair", scores=np.array([0.5, np.nan, 1.0]))
  Traceback (most recent call last):
    ...
  ValueError: 1 of 3 scores are NaN (first: pair 1)
  """
  for name, array in arrays.items():
    _check(name, array, np.isnan, "NaN", row)


def check_finite(row: str = "row", **arrays: Any) -> None:
  """Raises if an array holds a NaN or an infinite number.

  Args:
    row: what a row of the arrays is.
    **arrays: `(N, ...)` by name; None is skipped.

  Raises:
    ValueError: names the array, how many of its rows, and the first.

  >>> check_finite(queries=np.array([[0.5], [np.inf]]))
  Traceback (most recent call last):
    ...
  ValueError: 1 of 2 queries are NaN or infinite (first: row 1)
  """
  for name, array in arrays.items():
    _check(name, array, lambda x: ~np.isfinite(x), "NaN or infinite", row)


def _check(
  name: str,
  array: Any,
  is_bad: Callable[[np.ndarray], np.ndarray],
  what: str,
  row: str,
) -> None:
  array = np.asarray(array)
  if array.ndim == 0 or not jnp.issubdtype(array.dtype, jnp.inexact):
    return
  bad = np.asarray(is_bad(array).any(axis=tuple(range(1, array.ndim))))
  if bad.any():
    raise ValueError(
      f"{bad.sum()} of {len(bad)} {name} are {what} (first: {row} "
      f"{bad.argmax()})"
    )
