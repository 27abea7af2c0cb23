"""What metrics on the host refuse."""

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
    array = np.asarray(array)
    if array.ndim == 0 or not jnp.issubdtype(array.dtype, jnp.inexact):
      continue
    bad = np.isnan(array).any(axis=tuple(range(1, array.ndim)))
    if bad.any():
      raise ValueError(
        f"{bad.sum()} of {len(bad)} {name} are NaN (first: {row} "
        f"{bad.argmax()})"
      )
