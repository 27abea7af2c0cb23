"""Which pixels count: the one place that reads ignore labels and masks."""

import jax
import jax.numpy as jnp


def valid_pixels(
  labels: jax.Array,
  *,
  ignore_label: int | None = 255,
  where: jax.Array | None = None,
) -> jax.Array:
  """Mask of the pixels that take part in a loss or a metric.

  Args:
    labels: integer labels of any shape, batch first, such as `(B, H, W)`.
    ignore_label: label of pixels to leave out; None leaves none out.
    where: examples or pixels to keep (nonzero = keep), aligned with the
      *leading* axes of `labels`: `(B,)` is an example mask, `(B, H, W)` a
      pixel mask. Axes of size 1 broadcast.

  Returns:
    Boolean array of the shape of `labels`.

  >>> labels = jnp.array([[0, 1, 255], [1, 1, 0]])
  >>> valid_pixels(labels, where=jnp.array([1.0, 0.0])).tolist()
  [[True, True, False], [False, False, False]]
  """
  if ignore_label is None:
    valid = jnp.ones(labels.shape, bool)
  else:
    # int32 first: -1 must not wrap to 255 in a uint8 comparison.
    valid = labels.astype(jnp.int32) != ignore_label
  if where is None:
    return valid
  return valid & (expand_trailing(where, labels.ndim) != 0)


def expand_trailing(array: jax.Array, ndim: int) -> jax.Array:
  """Appends axes of size 1, so that leading axes align when broadcasting.

  >>> expand_trailing(jnp.ones(4), 3).shape
  (4, 1, 1)
  """
  array = jnp.asarray(array)
  if array.ndim > ndim:
    raise ValueError(
      f"an array of shape {array.shape} has more axes than the {ndim} of the "
      "labels it belongs to"
    )
  return array.reshape(array.shape + (1,) * (ndim - array.ndim))
