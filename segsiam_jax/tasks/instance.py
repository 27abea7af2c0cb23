"""Instance segmentation and object detection: Mask R-CNN and Faster R-CNN."""

from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from segsiam_jax.losses import weighted_sum
from segsiam_jax.metrics.base import Mean
from segsiam_jax.models.mask_rcnn import MaskRCNN
from segsiam_jax.ops import augment
from segsiam_jax.tasks import base
from segsiam_jax.tasks.detections import Found, InstanceMetrics

# Pictures of small images are enlarged to about this many pixels per side.
_PICTURE_SIDE = 320


def make_model(
  config: ml_collections.ConfigDict, axis_name: str | None
) -> nn.Module:
  """The Linen module that `config.model` names."""
  fields = config.model.to_dict()
  name, chunk = fields.pop("name"), fields.pop("roi_chunk")
  return MaskRCNN(
    num_classes=len(config.data.class_names) + 1,
    with_masks=name == "mask_rcnn",
    roi_chunk=chunk or None,
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
    config: a valid configuration; `data.class_names` are known, without the
      background.
    element_spec: of a batch of one of the buckets: image (B, H, W, C) uint8,
      size and original_size (B, 2) int32, boxes (B, N, 4) float32, classes
      (B, N) int32, valid (B, N) bool, masks (B, N, M, M) uint8 unless there
      are boxes only, left_out (B,) int32 and mask (B,) float32.
    axis_name: the pmap axis, or None under jit.
  """
  class_names = tuple(config.data.class_names)
  model = make_model(config, axis_name)
  mean = jnp.asarray(config.data.mean, jnp.float32) / 255.0
  std = jnp.asarray(config.data.std, jnp.float32) / 255.0
  settings = augment.Augmentation(
    brightness=config.augment.brightness,
    contrast=tuple(config.augment.contrast),
    noise=config.augment.noise,
    invert=config.augment.invert,
  )
  weights = config.loss.to_dict()

  def normalize(images, sizes):
    """(B, H, W, C) in [0, 1] to the model's input; padding is 0."""
    return jnp.where(_inside(images, sizes), (images - mean) / std, 0.0)

  def adjust(keys, images, sizes):
    """Photometric augmentation, in which the padding has no part."""
    inside = _inside(images, sizes)
    total = jnp.where(inside, images, 0.0).sum((1, 2), keepdims=True)
    count = jnp.maximum(inside.sum((1, 2), keepdims=True), 1)
    images = jnp.where(inside, images, total / count)
    return jax.vmap(augment.adjust, (0, 0, None))(keys, images, settings)

  def init(rng):
    image = element_spec["image"]
    variables = model.init(
      rng,
      jnp.zeros((1, *image.shape[1:]), jnp.float32),
      jnp.full((1, 2), 32, jnp.int32),
    )
    params = variables.pop("params")
    return params, variables

  def sums_of(params, model_state, batch, rng):
    augment_rng, model_rng = jax.random.split(rng)
    rows = batch["image"].shape[0]
    numbers = batch.get("row")
    keys = base.row_keys(augment_rng, rows, axis_name, numbers)
    images = adjust(keys, batch["image"] / 255.0, batch["size"])
    targets = {
      "boxes": batch["boxes"],
      "classes": batch["classes"],
      "valid": batch["valid"] & (batch["mask"] > 0)[:, None],
    }
    if "masks" in batch:
      targets["masks"] = batch["masks"] / 255.0
    parts, new_state = model.apply(
      {"params": params, **model_state},
      normalize(images, batch["size"]),
      batch["size"],
      targets,
      base.row_keys(model_rng, rows, axis_name, numbers),
      train=True,
      mutable=list(model_state),
      rngs={"dropout": base.dropout_key(augment_rng, batch, axis_name)},
    )
    # Nothing of a padding row counts, not even its background.
    sums = {
      name: Mean.of(part.values, part.weights * batch["mask"])
      for name, part in parts.items()
    }
    sums["left_out"] = Mean.of(batch["left_out"], batch["mask"])
    return sums, new_state

  def loss_of(sums):
    sums = dict(sums)
    left_out = sums.pop("left_out")
    means = {name: base.mean_of(each) for name, each in sums.items()}
    loss = weighted_sum(means, weights)
    # Averaged over steps, as they are.
    metrics = {name: Mean.of(mean) for name, mean in means.items()}
    return loss, metrics | {"loss": Mean.of(loss), "left_out": left_out}

  def eval_step(params, model_state, batch):
    del params, model_state
    return {"left_out": Mean.of(batch["left_out"], batch["mask"])}

  def predict(params, model_state, batch):
    images = normalize(batch["image"] / 255.0, batch["size"])
    return model.apply({"params": params, **model_state}, images, batch["size"])

  def empty_metrics():
    return {"left_out": Mean.empty()}

  def draw(batch, predictions):
    pictures = []
    for row in np.flatnonzero(np.asarray(batch["mask"])):
      height, width = size = batch["size"][row]
      image = np.asarray(batch["image"][row, :height, :width])
      zoom = max(1, _PICTURE_SIDE // max(height, width))
      known = batch["valid"][row]
      truth = Found(
        size=(int(height), int(width)),
        boxes=batch["boxes"][row][known],
        classes=batch["classes"][row][known],
        scores=np.ones(int(known.sum()), np.float32),
        masks=batch["masks"][row][known] / 255.0 if "masks" in batch else None,
      )
      found = Found.of(
        {name: values[row] for name, values in predictions.items()}, size, size
      )
      panels = [
        one.draw(image, class_names, zoom)
        for one in (truth, found.above(config.predict.min_score))
      ]
      pictures.append(np.concatenate(panels, axis=1))
    return pictures

  def host_metrics(source, params):
    del params
    return InstanceMetrics(
      source,
      class_names,
      config.eval.max_detections,
      masks="masks" in element_spec,
    )

  # How many anchors and proposals count, the model decides.
  sums = base.LossSums(sums_of, loss_of)
  return base.Task(
    init,
    sums.loss_fn(axis_name),
    eval_step,
    predict,
    empty_metrics,
    draw,
    host_metrics,
    sums=sums,
    caption=("each: objects of the data, objects found", ()),
  )


def _inside(images: jax.Array, sizes: jax.Array) -> jax.Array:
  """(B, H, W, 1) bool, False in the padding of (B, H, W, C) images."""
  height, width = images.shape[1:3]
  rows = jnp.arange(height) < sizes[:, :1]
  columns = jnp.arange(width) < sizes[:, 1:]
  return (rows[:, :, None] & columns[:, None])[..., None]
