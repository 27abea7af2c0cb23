"""Loss of N-way K-shot episodes."""

import jax
import jax.numpy as jnp

from segsiam_jax.ops.distances import Metric, pairwise_distances
from segsiam_jax.ops.shapes import check_shapes

__all__ = ["prototypical_loss"]


def prototypical_loss(
  support: jax.Array,
  queries: jax.Array,
  *,
  distance: Metric = "sq_euclidean",
  temperature: float = 1.0,
) -> jax.Array:
  """Cross-entropy of each query against the means of the classes.

  `-log softmax_n(-d(query, prototype_n) / temperature)` at the query's own
  class (Snell et al., "Prototypical Networks", arXiv:1703.05175, eq. 2, with
  the defaults). With K = 1 and `distance="cosine"` it is the loss of Matching
  Networks without its context embeddings (Vinyals et al., arXiv:1606.04080).

  Args:
    support: `(..., N, K, D)` embeddings of K examples of N classes.
    queries: `(..., N, Q, D)` embeddings; those at index n belong to class n.
    distance: a metric of `pairwise_distances`.
    temperature: of the softmax.

  Returns:
    `(..., N, Q)` float32.

  Raises:
    ValueError: unknown distance, or shapes that do not fit, as of different
      N.

  >>> support = jnp.array([[[0.0]], [[1.0]]])
  >>> loss = prototypical_loss(support, support)
  >>> [round(float(value), 4) for value in loss[:, 0]]  # log(1 + exp(-1))
  [0.3133, 0.3133]
  """
  check_shapes(support=(support, "*E N+ K+ D+"), queries=(queries, "*E N Q D"))
  queries = jnp.asarray(queries)
  *lead, num_classes, num_queries, size = queries.shape
  prototypes = jnp.mean(jnp.asarray(support, jnp.float32), axis=-2)
  distances = jax.vmap(lambda x, y: pairwise_distances(x, y, distance))(
    queries.reshape(-1, num_classes * num_queries, size),
    prototypes.reshape(-1, num_classes, size),
  )
  log_probs = jax.nn.log_softmax(-distances / jnp.float32(temperature))
  log_probs = log_probs.reshape(*lead, num_classes, num_queries, num_classes)
  own = jnp.arange(num_classes).reshape(*[1] * len(lead), num_classes, 1, 1)
  return -jnp.take_along_axis(log_probs, own, axis=-1)[..., 0]
