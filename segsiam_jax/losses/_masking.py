"""Masks that also hold for gradients, for the metric-learning losses."""

import jax
import jax.numpy as jnp
import numpy as np

from segsiam_jax.ops.shapes import check_shapes


def zero_padding(x: jax.Array, where: jax.Array | None) -> jax.Array:
  """Zeros where the mask is 0, in float32.

  Masking a loss alone is not enough: a NaN in a padding row would reach the
  gradient as 0 * NaN. So losses mask their inputs with this as well.

  Args:
    x: `(*W, ...)` of any float dtype.
    where: `(*W)` mask of the leading axes, nonzero = keep; None keeps all.

  Returns:
    Same shape as `x`, float32.

  Raises:
    ValueError: `where` does not have the leading axes of `x`.

  >>> zero_padding(jnp.array([[1.0, 2.0], [jnp.nan, 3.0]]), jnp.array([1, 0]))
  Array([[1., 2.],
         [0., 0.]], dtype=float32)
  """
  x = jnp.asarray(x, jnp.float32)
  if where is None:
    return x
  leading = x.shape[: np.ndim(where)]
  if np.shape(where) != leading:
    raise ValueError(
      f"where: expected shape {leading}, the leading axes of {x.shape}; got "
      f"{np.shape(where)}"
    )
  keep = jnp.asarray(where) != 0
  return jnp.where(keep.reshape(keep.shape + (1,) * (x.ndim - keep.ndim)), x, 0)


def masked_logsumexp(x: jax.Array, mask: jax.Array, axis: int) -> jax.Array:
  """Log of the sum of exponentials of the entries that `mask` selects.

  With nothing selected it is about -1e38, not -inf, so that its `softplus` and
  gradients are 0 rather than NaN.

  Args:
    x: `(..., N)` of any float dtype.
    mask: bool of the same shape.
    axis: the axis to sum over.

  Returns:
    `x` without that axis, float32.

  Raises:
    ValueError: shapes that do not fit.

  >>> x = jnp.zeros((1, 3))
  >>> jnp.exp(masked_logsumexp(x, jnp.array([[True, True, False]]), axis=1))
  Array([2.], dtype=float32)
  """
  check_shapes(x=(x, "*S"), mask=(mask, "*S"))
  x = jnp.asarray(x, jnp.float32)
  floor = 0.25 * jnp.finfo(jnp.float32).min
  if x.shape[axis] == 0:
    return jnp.full(np.delete(x.shape, axis), floor, jnp.float32)
  return jax.nn.logsumexp(jnp.where(mask, x, floor), axis=axis)
