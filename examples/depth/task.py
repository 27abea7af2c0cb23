"""Depth regression: a U-Net with one output, and the usual errors."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from segsiam_jax.fields import semantic_models
from segsiam_jax.fields.base import Fail, Field, one_of, size, within
from segsiam_jax.fields.tasks import TaskParts
from segsiam_jax.metrics.base import Mean
from segsiam_jax.models.unet import UNet
from segsiam_jax.report import overlays
from segsiam_jax.tasks import base

FIELDS: dict[str, Field] = {
  "data.name": Field("depth_scenes", "data set", one_of("depth_scenes")),
  "data.image_size": Field((64, 64), "(height, width)", size(16)),
  "data.train_scenes": Field(1000, "scenes to train on", within(1)),
  "data.eval_scenes": Field(100, "scenes to evaluate on", within(1)),
}
MODELS = {"unet": semantic_models.MODELS["unet"]}


def check(config: ml_collections.ConfigDict, fail: Fail) -> None:
  """What no field can tell alone."""
  semantic_models.check(config, fail)


def make_task(
  config: ml_collections.ConfigDict,
  element_spec: Mapping[str, jax.ShapeDtypeStruct],
  axis_name: str | None = None,
) -> base.Task:
  """The task's functions.

  Args:
    config: a valid configuration.
    element_spec: of a batch: image (B, H, W, 3) uint8 and depth (B, H, W)
      float32 in metres.
    axis_name: the pmap axis, or None under jit.
  """
  options = config.model.to_dict()
  del options["name"]
  model = UNet(1, dtype=jnp.dtype(config.dtype), axis_name=axis_name, **options)
  mean, std = jnp.asarray(config.data.mean), jnp.asarray(config.data.std)

  def depth_of(params, model_state, batch, **apply):
    images = (batch["image"] - mean) / std
    out = model.apply({"params": params, **model_state}, images, **apply)
    logits, new_state = out if "mutable" in apply else (out, model_state)
    return jax.nn.softplus(logits[..., 0]), new_state

  def metrics_of(depth, batch):
    truth, where = batch["depth"], batch["mask"]
    error = jnp.abs(depth - truth)
    ratio = jnp.maximum(depth / truth, truth / jnp.maximum(depth, 1e-6))
    rows = {
      "loss": error,
      "abs_rel": error / truth,
      "within_1.25": ratio < 1.25,
    }
    return {
      name: Mean.of(values.mean((1, 2)), where) for name, values in rows.items()
    }

  def init(rng):
    shape = element_spec["image"].shape
    variables = model.init(rng, jnp.zeros((1, *shape[1:])))
    return variables.pop("params"), variables

  def sums_of(params, model_state, batch, rng):
    depth, new_state = depth_of(
      params,
      model_state,
      batch,
      train=True,
      mutable=list(model_state),
      rngs={"dropout": base.dropout_key(rng, batch, axis_name)},
    )
    return metrics_of(depth, batch), new_state

  def eval_step(params, model_state, batch):
    depth, _ = depth_of(params, model_state, batch, train=False)
    return metrics_of(depth, batch)

  def predict(params, model_state, batch):
    return {"depth": depth_of(params, model_state, batch, train=False)[0]}

  def draw(batch, predictions):
    def shade(depth):
      grey = 255 * (1 - np.clip(depth / batch["depth"].max(), 0, 1))
      return overlays.to_rgb(grey.astype(np.uint8)[..., None])

    return [
      np.concatenate(
        [
          overlays.to_rgb(np.asarray(batch["image"][row])),
          shade(batch["depth"][row]),
          shade(predictions["depth"][row]),
        ],
        axis=1,
      )
      for row in np.flatnonzero(np.asarray(batch["mask"]))
    ]

  sums = base.LossSums(
    sums_of, lambda found: (base.mean_of(found["loss"]), found)
  )
  names = ("loss", "abs_rel", "within_1.25")
  return base.Task(
    init,
    sums.loss_fn(axis_name),
    eval_step,
    predict,
    lambda: {name: Mean.empty() for name in names},
    draw,
    sums=sums,
  )


DEPTH = TaskParts(
  fields="examples.depth.task",
  make_task="examples.depth.task:make_task",
  open_split="examples.depth.data:open_split",
)
