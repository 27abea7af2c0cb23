"""Semantic segmentation: one class for every pixel, or any of several."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from segsiam_jax import losses, parts
from segsiam_jax.errors import UserError
from segsiam_jax.fields.semantic_losses import LOSSES
from segsiam_jax.fields.semantic_models import MODELS
from segsiam_jax.metrics.base import Mean
from segsiam_jax.models.layers import Logits
from segsiam_jax.ops import augment, multilabel
from segsiam_jax.report import overlays
from segsiam_jax.tasks import base, flips
from segsiam_jax.tasks.pixel_classes import of_config


def make_model(
  config: ml_collections.ConfigDict, axis_name: str | None
) -> nn.Module:
  """The Linen module that `config.model` names."""
  fields = config.model.to_dict()
  return parts.load(MODELS[fields.pop("name")].make)(
    num_classes=len(config.data.class_names),
    dtype=jnp.dtype(config.dtype),
    axis_name=axis_name,
    **fields,
  )


def make_task(
  config: ml_collections.ConfigDict,
  element_spec: Mapping[str, jax.ShapeDtypeStruct],
  axis_name: str | None = None,
) -> base.Task:
  """The task's functions.

  Args:
    config: a valid configuration; `data.class_names` are known.
    element_spec: of a batch: image (B, H, W, C) uint8 or uint16, label
      (B, H, W) uint8, with `data.multilabel` that of `ops.multilabel`, mask
      (B,) float32, in training perhaps weights (B, H, W) float32 and in
      evaluation whole (B,) float32; of volumes image (B, D, H, W, C) and label
      (B, D, H, W).
    axis_name: the pmap axis, or None under jit.
  """
  class_names = tuple(config.data.class_names)
  classes = of_config(config)
  model = make_model(config, axis_name)
  full_range = float(np.iinfo(element_spec["image"].dtype).max)
  mean = jnp.asarray(config.data.mean, jnp.float32)
  std = jnp.asarray(config.data.std, jnp.float32)
  settings = augment.Augmentation(
    **{
      name: tuple(value) if isinstance(value, list | tuple) else value
      for name, value in config.augment.to_dict().items()
    }
  )
  pixel_losses = make_losses(config, axis_name)
  if config.eval.rand_class not in ("", *class_names):
    raise UserError(
      f"config.eval.rand_class = {config.eval.rand_class!r}: expected one of "
      f"{', '.join(class_names)}"
    )

  def normalize(images):
    return (images - mean) / std

  def mean_metrics(values, mask):
    metrics = {"loss": Mean.of(losses.weighted_sum(values, config.loss), mask)}
    return metrics | {
      name: Mean.of(value, mask) for name, value in values.items()
    }

  def init(rng):
    image = element_spec["image"]
    variables = model.init(rng, jnp.zeros((1, *image.shape[1:]), jnp.float32))
    params = variables.pop("params")
    return params, variables

  def sums_of(params, model_state, batch, rng):
    augment_rng, dropout_rng = jax.random.split(rng)
    keys = base.row_keys(
      augment_rng, batch["image"].shape[0], axis_name, batch.get("row")
    )
    images, labels, weights = jax.vmap(
      lambda key, image, label, weights: augment.augment(
        key, image, label, settings, weights
      )
    )(keys, batch["image"] / full_range, batch["label"], batch.get("weights"))
    images, labels = base.placed("image", images), base.placed("label", labels)
    if weights is not None:
      weights = base.placed("weights", weights)
    out, new_state = model.apply(
      {"params": params, **model_state},
      normalize(images * full_range),
      train=True,
      mutable=list(model_state),
      rngs={"dropout": base.dropout_key(dropout_rng, batch, axis_name)},
    )
    out = out if isinstance(out, Logits) else Logits(out)
    values = pixel_losses(out.main, labels, batch["mask"], weights)
    for logits in out.auxiliary:
      helping = pixel_losses(logits, labels, batch["mask"], weights)
      values = {
        name: value + config.loss.auxiliary * helping[name]
        for name, value in values.items()
      }
    return mean_metrics(values, batch["mask"]), new_state

  def loss_of(sums):
    return base.mean_of(sums["loss"]), sums

  def weights_of(batch):
    nothing = jnp.zeros_like(batch["mask"])
    names = ("loss", *(name for name in LOSSES if config.loss[name]))
    return {name: Mean.of(nothing, batch["mask"]) for name in names}

  def logits_of(params, model_state, batch):
    images = normalize(batch["image"].astype(jnp.float32))
    out = model.apply({"params": params, **model_state}, images, train=False)
    return out.main if isinstance(out, Logits) else out

  def eval_step(params, model_state, batch):
    """Losses of the rows, and counts of those that `counts_rows` says."""
    logits = logits_of(params, model_state, batch)
    values = pixel_losses(logits, batch["label"], batch["mask"])
    counts = classes.no_counts()
    if counts_rows(config):
      where = batch["mask"] * batch.get("whole", 1.0)
      counts = classes.counts(
        classes.probabilities(logits), batch["label"], where
      )
    return {"": counts, **mean_metrics(values, batch["mask"])}

  probabilities_of = flips.averaged(
    lambda *args: classes.probabilities(logits_of(*args)),
    flips.flip_masks(
      config.predict.flips, len(element_spec["image"].shape) - 2
    ),
  )

  def predict(params, model_state, batch):
    probabilities = probabilities_of(params, model_state, batch)
    return {
      "label": classes.label(probabilities),
      "probabilities": probabilities,
    }

  def empty_metrics():
    names = [name for name in LOSSES if config.loss[name]]
    return {
      "": classes.no_counts(),
      **{name: Mean.empty() for name in ("loss", *names)},
    }

  def draw(batch, predictions):
    pictures = []
    for row in np.flatnonzero(np.asarray(batch["mask"])):
      image = overlays.middle_slice(batch["image"][row], 3)
      labels = [
        overlays.middle_slice(arrays["label"][row], 2)
        for arrays in (batch, predictions)
      ]
      panels = [overlays.to_rgb(image)] + [
        classes.overlay(image, label) for label in labels
      ]
      pictures.append(np.concatenate(panels, axis=1))
    return pictures

  sums = base.LossSums(sums_of, loss_of, weights_of)
  return base.Task(
    init,
    sums.loss_fn(axis_name),
    eval_step,
    predict,
    empty_metrics,
    draw,
    caption=("each: image, labels, prediction", classes.legend),
    sums=sums,
  )


def counts_rows(config: ml_collections.ConfigDict) -> bool:
  """Whether a row that is a whole file is labelled as the file would be.

  Windows and flips change what `predict` makes of it.
  """
  return not any(config.predict.window) and not config.predict.flips


def make_losses(config: ml_collections.ConfigDict, axis_name: str | None):
  """The losses with a weight in `config.loss`.

  Returns:
    (logits (B, *S, K), labels (B, *S), where (B,), pixel weights (B, *S) or
    None) -> the values (B,) float32 by name.
  """
  settings, overlap = config.loss, config.data.multilabel
  class_weights = tuple(settings.class_weights) or None
  if class_weights and len(class_weights) != len(config.data.class_names):
    raise UserError(
      f"config.loss.class_weights = {class_weights}: expected one for each of "
      f"the {len(config.data.class_names)} classes"
    )
  given = {
    "class_weights": class_weights,
    "axis_name": axis_name if settings.dice_batch else None,
  }
  used = {}
  for name, loss in LOSSES.items():
    if settings[name]:
      options = {name: given[name] for name in loss.takes if name in given}
      if overlap:
        options |= loss.sigmoid
        loss = loss.overlapping()
      for option, field in loss.options.items():
        options[option] = settings[field.removeprefix("loss.")]
      function = parts.load(loss.function)
      used[name] = (function, options, "pixel_weights" in loss.takes)

  def values(logits, labels, where, pixel_weights=None):
    result = {}
    if overlap:
      labels = multilabel.unpack(labels, logits.shape[-1])
    for name, (loss, options, weighs) in used.items():
      more = {"pixel_weights": pixel_weights} if weighs else {}
      result[name] = loss(logits, labels, where=where, **options, **more)
    return result

  return values


def tversky_loss(
  logits: jax.Array, labels: jax.Array, *, alpha: float, **options: Any
) -> jax.Array:
  """`losses.tversky_loss` whose two weights add up to one."""
  return losses.tversky_loss(
    logits, labels, alpha=alpha, beta=1 - alpha, **options
  )
