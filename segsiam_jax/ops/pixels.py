"""Which pixels count: the one place that reads ignore labels and masks."""

import jax
import jax.numpy as jnp

from segsiam_jax.ops.labels import to_classes


def valid_pixels(
  labels: jax.Array,
  *,
  ignore_label: int | None = 255,
  where: jax.Array | None = None,
) -> jax.Array:
  """Mask of the pixels that take part in a loss or a metric.

  Args:
    labels: integer labels of any shape, batch first, such as `(B, H, W)`.
      One that 32 bits cannot hold is not an ignore label.
    ignore_label: label of pixels to leave out; None leaves none out.
    where: examples or pixels to keep (nonzero = keep), aligned with the
      *leading* axes of `labels`: `(B,)` is an example mask, `(B, H, W)` a
      pixel mask.

  Returns:
    Boolean array of the shape of `labels`.

  Raises:
    ValueError: `where` lacks the leading axes of `labels`.

  >>> labels = jnp.array([[0, 1, 255], [1, 1, 0]])
  >>> valid_pixels(labels, where=jnp.array([1.0, 0.0])).tolist()
  [[True, True, False], [False, False, False]]
  """
  labels = jnp.asarray(to_classes(labels))
  if ignore_label is None:
    valid = jnp.ones(labels.shape, bool)
  else:
    # int32 first: -1 must not wrap to 255 in a uint8 comparison.
    valid = labels.astype(jnp.int32) != ignore_label
  if where is None:
    return valid
  return valid & (expand_trailing("where", where, labels.shape) != 0)


def expand_trailing(
  name: str, array: jax.Array, shape: tuple[int, ...]
) -> jax.Array:
  """Appends axes of size 1 to what belongs to the leading axes of a shape.

  Args:
    name: of the argument that the array is.
    array: `shape[:n]`, with n of at least 1.
    shape: that it is to broadcast with.

  Returns:
    `shape[:n] + (1, ...)`.

  Raises:
    ValueError: names the argument, the shapes expected and the one given.

  >>> expand_trailing("where", jnp.ones(4), (4, 2, 3)).shape
  (4, 1, 1)
  """
  array = jnp.asarray(array)
  if array.ndim > len(shape):
    raise ValueError(
      f"{name}: shape {array.shape} has more axes than the {len(shape)} of "
      f"what it belongs to, {shape}"
    )
  if not array.ndim or array.shape != shape[: array.ndim]:
    raise ValueError(
      f"{name}: expected shape {shape[: max(1, array.ndim)]}, the leading axes "
      f"of {shape}; got {array.shape}"
    )
  return array.reshape(array.shape + (1,) * (len(shape) - array.ndim))
