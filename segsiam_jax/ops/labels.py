"""Labels and ids of any size, made to fit the 32 bits of a device.

JAX keeps 32 bits of an integer unless x64 is on, and drops the others without
a word. Arrays on the host are seen to here; what is an argument of a compiled
function has lost them before the function is called.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from segsiam_jax.ops.shapes import check_shapes

_INT32 = np.iinfo(np.int32)


def renumber(*arrays: np.ndarray) -> list[np.ndarray]:
  """Numbers the values of all arrays from 0, in their order.

  Args:
    *arrays: of one axis each, on the host: integers of any size and sign, or
      strings.

  Returns:
    int32 arrays of the same shapes, equal where the values are equal.

  Raises:
    ValueError: an array of more axes, or of none.

  >>> renumber(np.array([2**40, 7]), np.array([2**63, 7], np.uint64))
  [array([1, 0], dtype=int32), array([2, 0], dtype=int32)]
  """
  for array in arrays:
    check_shapes(arrays=(array, "N"))
  arrays = tuple(np.asarray(array) for array in arrays)
  integers = any(array.dtype.kind in "iu" for array in arrays)
  if integers and np.result_type(*arrays).kind == "f":
    # That of int64 and uint64, and with floats: where many integers are equal.
    arrays = tuple(array.astype(object) for array in arrays)
  codes = np.unique(np.concatenate(arrays), return_inverse=True)[1]
  ends = np.cumsum([len(array) for array in arrays])[:-1]
  return np.split(codes.astype(np.int32), ends)


def to_ids(values: Any) -> Any:
  """Ids that are only compared, in numbers that stay distinct on a device.

  Args:
    values: integers of any shape.

  Returns:
    The same shape: an array of the host in int32, numbered anew from 0 if its
    numbers do not fit; else as it is.

  >>> to_ids(np.array([2**32 + 7, 7]))
  array([1, 0], dtype=int32)
  """
  if isinstance(values, jax.Array):
    return values
  values = np.asarray(values)
  if values.dtype.kind not in "iu" or np.can_cast(values.dtype, np.int32):
    return values
  low, high = values.min(initial=0), values.max(initial=0)
  if _INT32.min <= low and high <= _INT32.max:
    return values.astype(np.int32)
  return renumber(values.ravel())[0].reshape(values.shape)


def to_classes(values: Any) -> Any:
  """Class indices; what 32 bits cannot hold stays out of range.

  Args:
    values: integers of any shape.

  Returns:
    The same shape: in int32, the largest or least of its numbers where it
    does not fit, if the type is wider; else as it is.

  >>> to_classes(np.array([2**32 + 1, 1, -(2**40)]))
  array([ 2147483647,           1, -2147483648], dtype=int32)
  """
  xp = jnp if isinstance(values, jax.Array) else np
  values = xp.asarray(values)
  kind = values.dtype.kind
  if kind not in "iu" or np.can_cast(values.dtype, np.int32):
    return values
  if kind == "i":
    values = xp.maximum(values, _INT32.min)
  return xp.minimum(values, _INT32.max).astype(np.int32)
