"""The losses of a Siamese config, of the embeddings of a global batch."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections

from segsiam_jax import losses, parts
from segsiam_jax.fields.siamese_losses import LOSSES
from segsiam_jax.losses import WeightedLoss
from segsiam_jax.models.siamese import learned_head
from segsiam_jax.ops.deformable import Maps, deformable_distances
from segsiam_jax.ops.distances import l2_normalize, paired_distances
from segsiam_jax.ops.similarity import similarity

PyTree = Any


class Embedded(NamedTuple):
  """The examples of a global batch, the branches of a row side by side.

  Attributes:
    embeddings: (B * M, D) float32, M branches per row.
    labels: (B * M,) int32 identities.
    contents: (B * M,) int32, equal for exact copies.
    where: (B * M,) float32, 0 for padding.
  """

  embeddings: jax.Array
  labels: jax.Array
  contents: jax.Array
  where: jax.Array


class Context(NamedTuple):
  """What a loss is computed from.

  Attributes:
    config: of the run.
    params: of the task.
    batch: the examples of this step.
    known: those of the batch and, after them, those of the memory.
    rng: for random mining.
    maps: of a deformable head.
  """

  config: ml_collections.ConfigDict
  params: PyTree
  batch: Embedded
  known: Embedded
  rng: jax.Array
  maps: Maps | None = None

  @property
  def branches(self) -> list[jax.Array]:
    """(B, D) embeddings of each branch."""
    count = {"pairs": 2, "triplets": 3}.get(self.config.batch.kind, 1)
    return [self.batch.embeddings[start::count] for start in range(count)]

  @property
  def in_batch(self) -> dict[str, Any]:
    """Arguments of the losses of `losses.in_batch`."""
    return {
      "embeddings": self.known.embeddings,
      "labels": self.known.labels,
      "where": self.known.where,
      "ids": self.known.contents,
      "num_anchors": len(self.batch.labels),
    }

  @property
  def of_classes(self) -> dict[str, Any]:
    """Arguments of the losses of `losses.proxies`."""
    return {
      "embeddings": self.batch.embeddings,
      "proxies": self.params["proxies"],
      "labels": self.batch.labels,
      "where": self.batch.where,
    }


def values_of(name: str, context: Context) -> WeightedLoss:
  """The loss of the table that a config calls `name`."""
  part, config = LOSSES[name], context.config
  options = {
    option: config.loss[field.removeprefix("loss.")]
    for option, field in part.options.items()
  }
  function = parts.load(part.function)
  if function.__module__ == __name__:
    return function(context, **options)
  if part.of == "batch":
    return function(**context.in_batch, **options)
  values = function(**context.of_classes, **options)
  if isinstance(values, WeightedLoss):
    return values
  return WeightedLoss(values, context.batch.where)


def contrastive(context: Context, **options: Any) -> WeightedLoss:
  """Of the rows' pairs, or of all pairs of the batch."""
  head = context.config.model.head
  if context.config.batch.kind != "pairs":
    return losses.batch_contrastive_loss(
      **context.in_batch, distance=head, **options
    )
  distances = paired_distances(*context.branches, head)
  return _per_row(
    losses.contrastive_loss(distances, _same(context), **options), context
  )


def binary(context: Context) -> WeightedLoss:
  """Of the rows' pairs, by the learned similarity."""
  logits = similarity(
    *context.branches, "learned", learned_head(context.params)
  )
  values = losses.binary_similarity_loss(logits, _same(context))
  return _per_row(values, context)


def triplet(
  context: Context,
  *,
  margin: float,
  soft: bool,
  mining: str,
  average_over: str,
) -> WeightedLoss:
  """Of the rows' triplets, or of mined ones."""
  options = {
    "margin": margin,
    "distance": context.config.model.head,
    "soft": soft,
  }
  if context.config.batch.kind == "triplets":
    values = losses.triplet_loss(*context.branches, **options)
    return _per_row(values, context)
  return losses.batch_triplet_loss(
    **context.in_batch,
    **options,
    mining=mining,
    average_over=average_over,
    rng=context.rng,
  )


def multi_similarity(
  context: Context, *, epsilon: float, **options: Any
) -> WeightedLoss:
  """Mined, unless epsilon is 0."""
  return losses.multi_similarity_loss(
    **context.in_batch, epsilon=epsilon or None, **options
  )


def prototypical(context: Context, *, temperature: float) -> WeightedLoss:
  """Of the batch's episodes."""
  config = context.config
  batch, embeddings = config.batch, context.batch.embeddings
  each = batch.shots + batch.queries
  episodes = embeddings.reshape(-1, batch.ways, each, embeddings.shape[-1])
  if context.maps is not None:
    return _deformable(context, episodes, temperature)
  values = losses.prototypical_loss(
    episodes[:, :, : batch.shots],
    episodes[:, :, batch.shots :],
    distance=config.model.head,
    temperature=temperature,
  ).ravel()
  return WeightedLoss(values, jnp.ones_like(values))


def _deformable(
  context: Context, episodes: jax.Array, temperature: float
) -> WeightedLoss:
  """One-shot episodes both ways: each half's images found in the other's."""
  learned = learned_head(context.params, context.maps)
  distances = jax.vmap(
    lambda halves: deformable_distances(halves[:, 0], halves[:, 1], learned)
  )(episodes)
  logits = -distances / (temperature * jnp.exp(context.params["temperature"]))
  values = [
    -jnp.diagonal(jax.nn.log_softmax(logits, axis), axis1=1, axis2=2)
    for axis in (1, 2)
  ]
  values = jnp.stack(values).ravel()
  return WeightedLoss(values, jnp.ones_like(values))


def cross_entropy(context: Context) -> WeightedLoss:
  """Of a linear classifier of identities."""
  classifier, batch = context.params["classifier"], context.batch
  logits = jnp.matmul(
    batch.embeddings,
    classifier["kernel"],
    precision=jax.lax.Precision.HIGHEST,
  )
  log_probs = jax.nn.log_softmax(logits + classifier["bias"])
  values = -jnp.take_along_axis(log_probs, batch.labels[:, None], axis=1)
  return WeightedLoss(values[:, 0], batch.where)


def _same(context: Context) -> jax.Array:
  """(B,) whether the two examples of a row are of one identity."""
  first, second = context.batch.labels[::2], context.batch.labels[1::2]
  return (first == second).astype(jnp.float32)


def _per_row(values: jax.Array, context: Context) -> WeightedLoss:
  """Of (B,) values, those of the rows that are not padding."""
  step = len(context.batch.where) // len(values)
  return WeightedLoss(values, context.batch.where[::step])


def active_share(loss: WeightedLoss) -> jax.Array:
  """Weighted share of the terms that are above 0, () float32."""
  active = jnp.sum(loss.weights * (loss.values > 0))
  return active / jnp.maximum(jnp.sum(loss.weights), 1.0)


def spread(batch: Embedded) -> jax.Array:
  """How far embeddings are apart, for their length: 0 for a collapse.

  The root of the variance about their mean over the root of their mean square.

  Returns:
    () float32 in [0, 1].
  """
  weights = batch.where[:, None] / jnp.maximum(jnp.sum(batch.where), 1.0)
  mean = jnp.sum(weights * batch.embeddings, axis=0)
  variance = jnp.sum(weights * jnp.square(batch.embeddings - mean))
  square = jnp.sum(weights * jnp.square(batch.embeddings))
  return jnp.sqrt(variance / jnp.maximum(square, 1e-24))


def init_classes(
  rng: jax.Array, config: ml_collections.ConfigDict, size: int
) -> PyTree:
  """Parameters with a vector for every identity, where a loss has them.

  Args:
    rng: decides their values.
    config: valid, with `data.class_names`.
    size: D.

  Returns:
    `proxies` (C, D) and `classifier`, as far as they are needed.
  """
  count, params = len(config.data.class_names), {}
  # Drawn flat: compiled in a fraction of the time.
  vectors = jax.random.normal(rng, (count * size,)).reshape(count, size)
  learned = {loss.learns for name, loss in LOSSES.items() if config.loss[name]}
  if "proxies" in learned:
    params["proxies"] = l2_normalize(vectors)
  if "classifier" in learned:
    params["classifier"] = {
      "kernel": vectors.T * size**-0.5,
      "bias": jnp.zeros((count,)),
    }
  return params
