"""The losses of a Siamese config, of the embeddings of a global batch."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections

from segsiam_jax import losses
from segsiam_jax.losses import WeightedLoss
from segsiam_jax.models.siamese import learned_head
from segsiam_jax.ops.deformable import Maps, deformable_distances
from segsiam_jax.ops.distances import l2_normalize, paired_distances
from segsiam_jax.ops.similarity import similarity

PyTree = Any

_PROXIES = ("arcface", "cosface", "proxy_anchor")


class Embedded(NamedTuple):
  """The examples of a global batch, the branches of a row side by side.

  Attributes:
    embeddings: (B * M, D) float32, M branches a row.
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


def _contrastive(context: Context) -> WeightedLoss:
  config = context.config
  options = {
    "margin": config.loss.contrastive_margin,
    "positive_margin": config.loss.contrastive_positive_margin,
    "squared": config.loss.contrastive_squared,
  }
  if config.batch.kind != "pairs":
    return losses.batch_contrastive_loss(
      **context.in_batch, distance=config.model.head, **options
    )
  distances = paired_distances(*context.branches, config.model.head)
  return _per_row(
    losses.contrastive_loss(distances, _same(context), **options), context
  )


def _binary(context: Context) -> WeightedLoss:
  logits = similarity(
    *context.branches, "learned", learned_head(context.params)
  )
  values = losses.binary_similarity_loss(logits, _same(context))
  return _per_row(values, context)


def _triplet(context: Context) -> WeightedLoss:
  config = context.config
  options = {
    "margin": config.loss.triplet_margin,
    "distance": config.model.head,
    "soft": config.loss.triplet_soft,
  }
  if config.batch.kind == "triplets":
    values = losses.triplet_loss(*context.branches, **options)
    return _per_row(values, context)
  return losses.batch_triplet_loss(
    **context.in_batch,
    **options,
    mining=config.loss.triplet_mining,
    average_over=config.loss.triplet_average,
    rng=context.rng,
  )


def _nt_xent(context: Context) -> WeightedLoss:
  return losses.nt_xent_loss(
    **context.in_batch, temperature=context.config.loss.temperature
  )


def _supervised_contrastive(context: Context) -> WeightedLoss:
  return losses.supervised_contrastive_loss(
    **context.in_batch, temperature=context.config.loss.temperature
  )


def _multi_similarity(context: Context) -> WeightedLoss:
  loss = context.config.loss
  return losses.multi_similarity_loss(
    **context.in_batch,
    alpha=loss.multi_similarity_alpha,
    beta=loss.multi_similarity_beta,
    base=loss.multi_similarity_base,
    epsilon=loss.multi_similarity_epsilon or None,
  )


def _prototypical(context: Context) -> WeightedLoss:
  config = context.config
  batch, embeddings = config.batch, context.batch.embeddings
  each = batch.shots + batch.queries
  episodes = embeddings.reshape(-1, batch.ways, each, embeddings.shape[-1])
  if context.maps is not None:
    return _deformable(context, episodes)
  values = losses.prototypical_loss(
    episodes[:, :, : batch.shots],
    episodes[:, :, batch.shots :],
    distance=config.model.head,
    temperature=config.loss.prototypical_temperature,
  ).ravel()
  return WeightedLoss(values, jnp.ones_like(values))


def _deformable(context: Context, episodes: jax.Array) -> WeightedLoss:
  """One-shot episodes both ways: each half's images found in the other's."""
  learned = learned_head(context.params, context.maps)
  distances = jax.vmap(
    lambda halves: deformable_distances(halves[:, 0], halves[:, 1], learned)
  )(episodes)
  temperature = context.config.loss.prototypical_temperature * jnp.exp(
    context.params["temperature"]
  )
  logits = -distances / temperature
  values = [
    -jnp.diagonal(jax.nn.log_softmax(logits, axis), axis1=1, axis2=2)
    for axis in (1, 2)
  ]
  values = jnp.stack(values).ravel()
  return WeightedLoss(values, jnp.ones_like(values))


def _arcface(context: Context) -> WeightedLoss:
  loss = context.config.loss
  values = losses.arcface_loss(
    **context.of_classes, margin=loss.arcface_margin, scale=loss.proxy_scale
  )
  return WeightedLoss(values, context.batch.where)


def _cosface(context: Context) -> WeightedLoss:
  loss = context.config.loss
  values = losses.cosface_loss(
    **context.of_classes, margin=loss.cosface_margin, scale=loss.proxy_scale
  )
  return WeightedLoss(values, context.batch.where)


def _proxy_anchor(context: Context) -> WeightedLoss:
  loss = context.config.loss
  return losses.proxy_anchor_loss(
    **context.of_classes,
    margin=loss.proxy_anchor_margin,
    alpha=loss.proxy_anchor_alpha,
  )


def _cross_entropy(context: Context) -> WeightedLoss:
  classifier, batch = context.params["classifier"], context.batch
  logits = jnp.matmul(
    batch.embeddings,
    classifier["kernel"],
    precision=jax.lax.Precision.HIGHEST,
  )
  log_probs = jax.nn.log_softmax(logits + classifier["bias"])
  values = -jnp.take_along_axis(log_probs, batch.labels[:, None], axis=1)
  return WeightedLoss(values[:, 0], batch.where)


LOSSES: dict[str, Callable[[Context], WeightedLoss]] = {
  "contrastive": _contrastive,
  "binary": _binary,
  "triplet": _triplet,
  "nt_xent": _nt_xent,
  "supervised_contrastive": _supervised_contrastive,
  "multi_similarity": _multi_similarity,
  "prototypical": _prototypical,
  "arcface": _arcface,
  "cosface": _cosface,
  "proxy_anchor": _proxy_anchor,
  "cross_entropy": _cross_entropy,
}


def _same(context: Context) -> jax.Array:
  """(B,) whether the two examples of a row are of one identity."""
  first, second = context.batch.labels[::2], context.batch.labels[1::2]
  return (first == second).astype(jnp.float32)


def _per_row(values: jax.Array, context: Context) -> WeightedLoss:
  """Of (B,) values, those of the rows that are no padding."""
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
  if any(config.loss[name] for name in _PROXIES):
    params["proxies"] = l2_normalize(vectors)
  if config.loss.cross_entropy:
    params["classifier"] = {
      "kernel": vectors.T * size**-0.5,
      "bias": jnp.zeros((count,)),
    }
  return params
