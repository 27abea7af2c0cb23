"""Siamese networks: embeddings in which the same identity is near."""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections

from segsiam_jax import parts
from segsiam_jax.fields.siamese import MODELS
from segsiam_jax.fields.siamese_losses import LOSSES
from segsiam_jax.losses import weighted_sum
from segsiam_jax.metrics.base import Mean
from segsiam_jax.models.siamese import Siamese, learned_head
from segsiam_jax.ops import all_gather_batch, distort, l2_normalize
from segsiam_jax.ops.deformable import Maps
from segsiam_jax.tasks import base, memory, siamese_losses
from segsiam_jax.tasks.siamese_losses import Context, Embedded
from segsiam_jax.tasks.siamese_metrics import SiameseMetrics

# In the order of a row's branches.
_BRANCHES = ("image", "other", "positive", "negative")
# A spread below it is a collapse, as is a loss so near to its margin.
_COLLAPSED, _STUCK = 0.01, 0.01


def make_model(
  config: ml_collections.ConfigDict, axis_name: str | None
) -> Siamese:
  """The Linen module that `config.model` names."""
  fields = config.model.to_dict()
  name = fields.pop("name")
  head, normalize = fields.pop("head"), fields.pop("normalize")
  if name != "koch":
    fields["axis_name"] = axis_name
  make = parts.load(MODELS[name].make)
  tower = make(dtype=jnp.dtype(config.dtype), **fields)
  return Siamese(tower, head, normalize)


def maps_of(config: ml_collections.ConfigDict) -> Maps | None:
  """How maps lie in an embedding; None for heads that compare vectors."""
  if config.model.head != "deformable":
    return None
  tower = make_model(config, None).tower
  return Maps(
    tower.map_shape(tuple(config.data.image_size)),
    config.match.window,
    config.match.stride,
    config.eval.views,
    tower.parts,
  )


def make_task(
  config: ml_collections.ConfigDict,
  element_spec: Mapping[str, jax.ShapeDtypeStruct],
  axis_name: str | None = None,
) -> base.Task:
  """The task's functions.

  `predict` gives `embeddings` (B, D).

  Args:
    config: a valid configuration; `data.class_names` are known.
    element_spec: of a batch: image (B, H, W, C) uint8, label and content (B,)
      int32, mask (B,) float32, and for training on pairs or triplets the same
      of the other branches, see `data.pipeline.element_spec`.
    axis_name: the pmap axis, or None under jit.
  """
  model = make_model(config, axis_name)
  loss = config.loss
  mean = jnp.asarray(config.data.mean, jnp.float32)
  std = jnp.asarray(config.data.std, jnp.float32)
  fields = config.augment.to_dict()
  turned = fields.pop("turn")
  distortion = distort.Distortion(
    **{
      name: tuple(value) if isinstance(value, list | tuple) else value
      for name, value in fields.items()
    }
  )
  used = [name for name in LOSSES if loss[name]]
  maps = maps_of(config)
  branches = [
    name
    for name in _BRANCHES
    if name == "image" or f"{name}_label" in element_spec
  ]

  def of_branches(batch, name):
    """(B * M, ...): the branches of a row side by side.

    So the rows stay on the device that they are on.
    """
    stacked = jnp.stack(
      [
        batch[name if branch == "image" else f"{branch}_{name}"]
        for branch in branches
      ],
      axis=1,
    )
    return stacked.reshape(-1, *stacked.shape[2:])

  def pictures(batch, rng):
    """(B * M, H, W, C) float32 in [0, 1], distorted."""
    images = jnp.stack([batch[branch] for branch in branches], axis=1)
    images = images.reshape(-1, *images.shape[2:]) / 255.0
    own_rng, turn_rng = jax.random.split(rng)
    if turned != "none":
      name = "label" if turned == "identity" else "group"
      keys = jax.vmap(jax.random.fold_in, (None, 0))(
        turn_rng, of_branches(batch, name)
      )
      images = jax.vmap(distort.turn)(keys, images)
    keys = base.row_keys(own_rng, len(images), axis_name)
    return jax.vmap(lambda key, image: distort.distort(key, image, distortion))(
      keys, images
    )

  def normalize(images):
    return (images * 255.0 - mean) / std

  def init(rng):
    model_rng, class_rng = jax.random.split(rng)
    image = element_spec["image"]
    out, variables = model.init_with_output(
      model_rng, jnp.zeros((1, *image.shape[1:]), jnp.float32)
    )
    params = variables.pop("params")
    size = out.shape[-1]
    params |= siamese_losses.init_classes(class_rng, config, size)
    if loss.memory_size:
      variables["memory"] = memory.empty(loss.memory_size, size)
    return params, variables

  def split_state(model_state):
    statistics = dict(model_state)
    return statistics, statistics.pop("memory", None)

  def loss_fn(params, model_state, batch, rng):
    augment_rng, dropout_rng, mining_rng = jax.random.split(rng, 3)
    statistics, remembered = split_state(model_state)
    trains = not config.train.frozen_norm
    embeddings, new_state = model.apply(
      {"params": params, **statistics},
      normalize(pictures(batch, augment_rng)),
      train=trains,
      mutable=list(statistics) if trains else [],
      rngs={"dropout": base.dropout_key(dropout_rng, batch, axis_name)},
    )
    new_state = dict(new_state) if trains else statistics
    # Every device sees the whole batch, in the same order.
    embedded = all_gather_batch(
      Embedded(
        embeddings,
        of_branches(batch, "label"),
        of_branches(batch, "content"),
        of_branches(batch, "mask"),
      ),
      axis_name,
    )
    known = embedded
    if remembered is not None:
      known = memory.beside(embedded, remembered, loss.memory_start)
      new_state["memory"] = memory.remember(remembered, embedded)
    context = Context(config, params, embedded, known, mining_rng, maps)
    values = {name: siamese_losses.values_of(name, context) for name in used}
    means = {name: value.mean() for name, value in values.items()}
    total = weighted_sum(means, loss)
    scalars = {"loss": total, "spread": siamese_losses.spread(embedded)}
    if len(used) > 1:
      scalars |= means
    if "triplet" in values:
      scalars["active"] = siamese_losses.active_share(values["triplet"])
    # Each device has the global value: their mean is that value.
    metrics = {name: Mean.of(value) for name, value in scalars.items()}
    return base.LossOutput(total, new_state, metrics)

  def watch(values):
    """A warning if training has collapsed, or ''."""
    if values["spread"] < _COLLAPSED:
      return (
        f"embeddings are all alike (spread {values['spread']:.4f}): lower "
        "config.optimizer.learning_rate, warm up for longer, or start with "
        "config.loss.triplet_mining = 'semi_hard'"
      )
    margin = loss.triplet_margin
    stuck = math.log1p(math.exp(margin)) if loss.triplet_soft else margin
    alone = used == ["triplet"] and loss.triplet == 1.0
    if alone and abs(values["loss"] - stuck) < _STUCK * stuck:
      return (
        f"the triplet loss is at its margin ({values['loss']:.4f}): nothing is "
        "learned, or the embeddings collapse; see config.loss.triplet_*"
      )
    if values.get("active", 1.0) == 0.0:
      return (
        "no triplet has a loss any more: mine harder ones or raise "
        "config.loss.triplet_margin"
      )
    return ""

  def embed(params, model_state, batch):
    statistics, _ = split_state(model_state)
    images = batch["image"] / 255.0

    def one_view(images):
      return model.apply(
        {"params": params, **statistics}, normalize(images), train=False
      )

    if config.eval.views == 1:
      return one_view(images)

    def distorted(key, settings=distortion):
      return one_view(
        jax.vmap(lambda image: distort.distort(key, image, settings))(images)
      )

    # The same distortions for every image, so that they compare.
    keys = jax.random.split(jax.random.key(0), config.eval.views)
    if maps is not None:
      # Places are found again if all of the map moves; strokes stay.
      moved = distortion._replace(elastic_sigma=0.0, thickness=0.0)
      views = jax.lax.map(lambda key: distorted(key, moved), keys[1:])
      views = jnp.concatenate([one_view(images)[None], views])
      return views.swapaxes(0, 1).reshape(images.shape[0], -1)
    embeddings = jnp.mean(jax.lax.map(distorted, keys), axis=0)
    return l2_normalize(embeddings) if model.normalize else embeddings

  def predict(params, model_state, batch):
    return {"embeddings": embed(params, model_state, batch)}

  def host_metrics(source, params):
    return SiameseMetrics(
      source.protocol,
      config.model.head,
      config.eval.far,
      config.eval.fars,
      maps,
      jax.device_get(learned_head(params or {}, maps)),
    )

  def nothing(*unused: Any) -> dict:
    return {}

  return base.Task(
    init=init,
    loss_fn=loss_fn,
    eval_step=nothing,
    predict=predict,
    empty_metrics=nothing,
    draw=lambda batch, predictions: [],
    host_metrics=host_metrics,
    plots=SiameseMetrics.plots,
    watch=watch,
  )
