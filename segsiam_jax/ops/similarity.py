"""How alike two embeddings are: one number, larger for more alike."""

from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp

from segsiam_jax.ops.deformable import Deformation, deformable_similarity
from segsiam_jax.ops.distances import paired_distances
from segsiam_jax.ops.shapes import check_pairs, check_shapes

Head = Literal["euclidean", "sq_euclidean", "cosine", "learned", "deformable"]


class LearnedWeights(NamedTuple):
  """Of the learned similarity.

  Attributes:
    weights: (D,) float32, one for each coordinate.
    bias: () float32.
  """

  weights: jax.Array
  bias: jax.Array


Learned = LearnedWeights | Deformation


def similarity(
  first: jax.Array,
  second: jax.Array,
  head: Head,
  learned: Learned | None = None,
) -> jax.Array:
  """Score of each pair of vectors.

  * `euclidean`, `sq_euclidean`: the distance, negated.
  * `cosine`: the cosine of the angle.
  * `learned`: `bias + sum_d weights_d |x_d - y_d|`, of which the sigmoid is the
    probability to be the same (Koch et al. 2015).
  * `deformable`: vectors are feature maps, and one is bent to fit the other;
    the distance, negated, see `ops.deformable`.

  Args:
    first: `(..., D)` embeddings of any float dtype.
    second: of a shape that broadcasts with it.
    head: see above.
    learned: for `learned` and `deformable` only.

  Returns:
    `(...)` float32.

  Raises:
    ValueError: unknown head, no weights where they are needed, or shapes that
      do not fit.

  >>> x, y = jnp.array([[3.0, 4.0]]), jnp.array([[3.0, 0.0]])
  >>> [round(float(similarity(x, y, head)[0]), 2)
  ...  for head in ("euclidean", "sq_euclidean", "cosine")]
  [-4.0, -16.0, 0.6]
  >>> float(similarity(
  ...   x, y, "learned", LearnedWeights(jnp.array([9.0, -1.0]), 0.5))[0])
  -3.5
  """
  if head not in get_args(Head):
    raise ValueError(
      f"head must be one of {', '.join(get_args(Head))}; got {head!r}"
    )
  check_pairs(first=first, second=second)
  if head == "cosine":
    return 1.0 - paired_distances(first, second, "cosine")
  if head == "learned":
    if not isinstance(learned, LearnedWeights):
      raise ValueError('head="learned" needs its weights, LearnedWeights')
    return _learned_similarity(first, second, learned)
  if head == "deformable":
    if not isinstance(learned, Deformation):
      raise ValueError('head="deformable" needs its weights, a Deformation')
    return deformable_similarity(first, second, learned)
  return -paired_distances(first, second, head)


def _learned_similarity(
  first: jax.Array, second: jax.Array, learned: LearnedWeights
) -> jax.Array:
  check_shapes(
    first=(first, "*S D"),
    weights=(learned.weights, "D"),
    bias=(learned.bias, ""),
  )
  first, second, weights, bias = (
    jnp.asarray(x, jnp.float32) for x in (first, second, *learned)
  )
  # No matrix product: its inputs would be rounded on an accelerator.
  return bias + jnp.sum(weights * jnp.abs(first - second), axis=-1)
