"""Distances between embeddings, with gradients that are finite everywhere.

All compute in float32, whatever the dtype of the embeddings: with unit vectors
of 128 bfloat16 numbers, `|x|^2 + |y|^2 - 2 x.y` is exactly zero for every pair
closer than 0.03. Products ask for full float32 precision, as matrix units
otherwise round their inputs to TF32 (GPU) or bfloat16 (TPU).
"""

from typing import Literal, get_args

import jax
import jax.numpy as jnp

from segsiam_jax.ops.shapes import check_pairs, check_shapes

Metric = Literal["euclidean", "sq_euclidean", "cosine", "l1"]


def l2_normalize(x: jax.Array, axis: int | tuple[int, ...] = -1) -> jax.Array:
  """Divides vectors by their Euclidean norm; zero vectors stay zero.

  The gradient at a zero vector, which has no direction, is zero rather than
  NaN (`x / norm(x)`) or `1 / eps` (`x / max(norm(x), eps)`). Of any other
  length, however large or small, the direction is exact: entries are scaled
  before they are squared. (Subnormal numbers are zero on most devices.)

  Args:
    x: `(..., D)` vectors of any float dtype.
    axis: the axis, or the axes, of the vectors.

  Returns:
    Same shape, float32, of norm 1 or 0; NaN where a vector is not finite.

  Raises:
    ValueError: an axis of length 0.

  >>> l2_normalize(jnp.array([[3.0, 4.0], [0.0, 0.0]])).tolist()
  [[0.6000000238418579, 0.800000011920929], [0.0, 0.0]]
  """
  x = jnp.asarray(x, jnp.float32)
  axes = (axis,) if isinstance(axis, int) else axis
  if 0 in (x.shape[i] for i in axes):
    raise ValueError(f"x: vectors of length 0; got shape {x.shape}")
  largest = jnp.max(jnp.abs(jax.lax.stop_gradient(x)), axis, keepdims=True)
  scale = _power_of_two(largest)
  zero = scale == 0
  x = x / jnp.where(zero, 1.0, scale)
  squared_norm = jnp.sum(x * x, axis, keepdims=True)
  unit = x * jax.lax.rsqrt(jnp.where(zero, 1.0, squared_norm))
  return jnp.where(zero, 0.0, unit)


def _power_of_two(x: jax.Array) -> jax.Array:
  """The largest power of two up to x >= 0; infinite for NaN."""
  bits = jax.lax.bitcast_convert_type(x, jnp.int32) & 0x7F800000
  return jax.lax.bitcast_convert_type(bits, jnp.float32)


def _sqrt(squared: jax.Array) -> jax.Array:
  """Square root with derivative 0 at 0, a subgradient of the norm there."""
  # Both branches of a `where` are differentiated: the inner one keeps the
  # infinite derivative away from the zeros, the outer one alone would give
  # 0 * inf = NaN.
  zero = squared == 0
  return jnp.where(zero, 0.0, jnp.sqrt(jnp.where(zero, 1.0, squared)))


def _abs(x: jax.Array) -> jax.Array:
  """Absolute value with derivative 0 at 0; that of `jnp.abs` is 1 there."""
  return x * jax.lax.stop_gradient(jnp.sign(x))


def check_metric(metric: str) -> None:
  """Raises a `ValueError` unless `metric` is a `Metric`."""
  if metric not in get_args(Metric):
    raise ValueError(
      f"metric must be one of {', '.join(get_args(Metric))}; got {metric!r}"
    )


def pairwise_distances(
  x: jax.Array, y: jax.Array | None = None, metric: Metric = "euclidean"
) -> jax.Array:
  """Distances between all rows of `x` and all rows of `y`.

  * `sq_euclidean`: `sum_d (x_d - y_d)^2`.
  * `euclidean`: its square root; the gradient at distance 0 is 0.
  * `cosine`: `1 - x.y / (|x| |y|)`, in [0, 2]; 1 if a vector is zero.
  * `l1`: `sum_d |x_d - y_d|`.

  The Euclidean ones are one matrix product, taken after the mean of `y` is
  subtracted from both sides. That changes no distance, but it keeps
  the digits that would cancel when all embeddings are close to each other and
  far from the origin, as those of a collapsing network are. What is left is an
  absolute error of about 1e-7 of the squared spread: for the distance of two
  given vectors use `paired_distances`, which has none.

  Args:
    x: `(M, D)` vectors of any float dtype.
    y: `(N, D)` vectors; None for `x` itself, with a diagonal of exact zeros.
    metric: one of the above.

  Returns:
    `(M, N)` float32, never negative.

  Raises:
    ValueError: unknown metric, or shapes that do not fit.

  >>> x = jnp.array([[0.0, 0.0], [3.0, 4.0]])
  >>> pairwise_distances(x).tolist()
  [[0.0, 5.0], [5.0, 0.0]]
  >>> pairwise_distances(x, jnp.array([[0.0, 4.0]]), "l1").tolist()
  [[4.0], [3.0]]
  """
  check_metric(metric)
  check_shapes(x=(x, "M D+"), y=(y, "N D"))
  x = jnp.asarray(x, jnp.float32)
  to_itself = y is None
  y = x if to_itself else jnp.asarray(y, jnp.float32)
  if metric == "l1":
    distances = _pairwise_l1(x, y)
  elif metric == "cosine":
    similarities = _products(l2_normalize(x), l2_normalize(y))
    distances = jnp.maximum(1.0 - similarities, 0.0)
  else:
    center = _center(jax.lax.stop_gradient(y))
    x, y = x - center, y - center
    squared = (
      jnp.sum(x * x, -1)[:, None] + jnp.sum(y * y, -1) - 2 * _products(x, y)
    )
    distances = jnp.maximum(squared, 0.0)
  if to_itself:
    # The products above leave rounding errors of either sign there.
    own = jnp.eye(x.shape[0], dtype=bool) & ~jnp.isnan(distances)
    distances = jnp.where(own, 0.0, distances)
  return _sqrt(distances) if metric == "euclidean" else distances


def paired_distances(
  x: jax.Array, y: jax.Array, metric: Metric = "euclidean"
) -> jax.Array:
  """Distance of each row of `x` to the same row of `y`.

  The metrics of `pairwise_distances`, from the differences themselves: exact
  to float32 rounding however close two vectors are.

  Args:
    x: `(..., D)` vectors of any float dtype.
    y: vectors of a shape that broadcasts with it.
    metric: see `pairwise_distances`.

  Returns:
    `(...)` float32, never negative.

  Raises:
    ValueError: unknown metric, or shapes that do not fit.

  >>> x, y = jnp.array([[0.0, 0.0]]), jnp.array([[3.0, 4.0]])
  >>> paired_distances(x, y).tolist(), paired_distances(x, x).tolist()
  ([5.0], [0.0])
  """
  check_metric(metric)
  check_pairs(x=x, y=y)
  x, y = jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32)
  if metric == "cosine":
    similarity = jnp.sum(l2_normalize(x) * l2_normalize(y), -1)
    return jnp.maximum(1.0 - similarity, 0.0)
  if metric == "l1":
    return jnp.sum(_abs(x - y), -1)
  squared = jnp.sum(jnp.square(x - y), -1)
  return _sqrt(squared) if metric == "euclidean" else squared


def pairwise_cosine_similarities(x: jax.Array, y: jax.Array) -> jax.Array:
  """Cosines between all rows of `x` `(M, D)` and of `y` `(N, D)`.

  Returns:
    `(M, N)` float32 in [-1, 1] up to rounding; 0 where a vector is zero.

  Raises:
    ValueError: shapes that do not fit.

  >>> x = jnp.array([[0.0, 2.0]])
  >>> pairwise_cosine_similarities(x, jnp.array([[0.0, 1.0], [3.0, 0.0]]))
  Array([[1., 0.]], dtype=float32)
  """
  check_shapes(x=(x, "M D+"), y=(y, "N D"))
  return _products(l2_normalize(x), l2_normalize(y))


def _products(x: jax.Array, y: jax.Array) -> jax.Array:
  return jnp.matmul(x, y.T, precision=jax.lax.Precision.HIGHEST)


def _center(y: jax.Array) -> jax.Array:
  """Mean of the rows that are finite, so that one NaN stays in its column."""
  finite = jnp.isfinite(y).all(axis=1, keepdims=True)
  total = jnp.sum(jnp.where(finite, y, 0.0), axis=0)
  return total / jnp.maximum(jnp.sum(finite, dtype=jnp.float32), 1.0)


# Checkpointed, so that the backward pass keeps no (M, N, D) array of signs.
@jax.checkpoint
def _pairwise_l1(x: jax.Array, y: jax.Array) -> jax.Array:
  return jnp.sum(_abs(x[:, None] - y), -1)
