"""This library's models as a contender: `python -m benchmarks.models_ours ROW`.

See benchmarks/models.py, which starts it.
"""

import argparse
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks import contenders, model_rows
from benchmarks.model_rows import Row
from segsiam_jax import losses, process
from segsiam_jax.engine import runtime
from segsiam_jax.models.fcn import FCNResNet
from segsiam_jax.models.layers import Logits
from segsiam_jax.models.mask_rcnn import FORMS, MaskRCNN
from segsiam_jax.models.siamese import Siamese, learned_head
from segsiam_jax.models.towers import EncoderTower, Koch
from segsiam_jax.models.unet import UNet
from segsiam_jax.ops.similarity import similarity
from segsiam_jax.pretrained import torchvision_detection


class Case(NamedTuple):
  """A model ready to run.

  Attributes:
    step: (state, *batch) -> (state, loss); takes the state's memory.
    infer: (variables, images) -> outputs.
    variables: of the model.
    batch: what a step takes, the images first.
    tx: of the step.
  """

  step: Callable[..., Any]
  infer: Callable[..., Any]
  variables: Any
  batch: tuple[Any, ...]
  tx: optax.GradientTransformation

  def state(self) -> Any:
    """A fresh state, whose memory steps may take."""
    params = jax.tree.map(jnp.copy, self.variables["params"])
    rest = {k: v for k, v in self.variables.items() if k != "params"}
    return params, jax.tree.map(jnp.copy, rest), self.tx.init(params)


def _case(
  model: nn.Module,
  loss: Callable[..., jax.Array],
  batch: tuple[Any, ...],
  variables: Any = None,
  tx: optax.GradientTransformation | None = None,
  infer: Callable[..., Any] | None = None,
) -> Case:
  """A case of a model.

  Args:
    model: to train.
    loss: ((outputs, params), *batch after the images) -> ().
    batch: images, then whatever the loss takes.
    variables: of the model; initial ones if None.
    tx: AdamW if None.
    infer: the model's own outputs if None.
  """
  tx = optax.adamw(1e-3) if tx is None else tx

  def step(state, images, *targets):
    params, rest, opt_state = state

    def total(params):
      outputs, new = model.apply(
        {"params": params, **rest},
        images,
        train=True,
        mutable=["batch_stats"],
        rngs={"dropout": jax.random.key(0)},
      )
      return loss(outputs, params, *targets), new

    (value, new), grads = jax.value_and_grad(total, has_aux=True)(params)
    updates, opt_state = tx.update(grads, opt_state, params)
    params = optax.apply_updates(params, updates)
    return (params, rest | dict(new), opt_state), value

  def apply(variables, images):
    outputs = model.apply(variables, images, train=False)
    return outputs.main if isinstance(outputs, Logits) else outputs

  if variables is None:
    variables = jax.jit(model.init)(jax.random.key(0), batch[0])
  return Case(
    jax.jit(step, donate_argnums=0),
    jax.jit(apply if infer is None else infer),
    variables,
    jax.device_put(batch),
    tx,
  )


def _segmentation(row: Row, model: nn.Module) -> Case:
  def loss(outputs, params, labels):
    outputs = outputs if isinstance(outputs, Logits) else Logits(outputs)
    return sum(
      weight * losses.softmax_cross_entropy(logits, labels).mean()
      for weight, logits in (
        (1.0, outputs.main),
        *((0.5, one) for one in outputs.auxiliary),
      )
    )

  return _case(model, loss, row.inputs())


def unet(row: Row, dtype: Any) -> Case:
  return _segmentation(row, UNet(row.classes, base_width=32, dtype=dtype))


def unet_resnet34(row: Row, dtype: Any) -> Case:
  options = {"upsample": "nearest", "head_kernel": 3}
  return _segmentation(
    row, UNet(row.classes, encoder="resnet34", dtype=dtype, **options)
  )


def unet_3d(row: Row, dtype: Any) -> Case:
  return _segmentation(
    row, UNet(row.classes, base_width=16, depth=3, dtype=dtype)
  )


def fcn(row: Row, dtype: Any) -> Case:
  return _segmentation(
    row, FCNResNet(row.classes, auxiliary=False, dtype=dtype)
  )


def koch(row: Row, dtype: Any) -> Case:
  model = Siamese(Koch(dtype=dtype), head="learned")
  images, _ = row.inputs()
  pairs = len(images) // 2
  same = np.arange(pairs) % 2

  def loss(embeddings, params, same):
    logits = similarity(
      embeddings[:pairs], embeddings[pairs:], "learned", learned_head(params)
    )
    return losses.binary_similarity_loss(logits, same).mean()

  return _case(model, loss, (images, same))


def batch_hard(row: Row, dtype: Any) -> Case:
  images, _ = row.inputs()
  labels = np.arange(len(images)) // 4

  def loss(embeddings, params, labels):
    return losses.batch_triplet_loss(embeddings, labels, margin=0.3).mean()

  tower = EncoderTower("resnet18", 128, dtype=dtype)
  return _case(Siamese(tower), loss, (images, labels))


def mask_rcnn(row: Row, dtype: Any, weights: str = "") -> Case:
  """`weights` is an .npz of torchvision's state dict, as the peer's."""
  model = MaskRCNN(row.classes, **FORMS["v1"], dtype=dtype)
  images, _ = row.inputs()
  batch = len(images)
  sizes = np.full((batch, 2), row.shape[1])
  boxes, classes = model_rows.objects(row)
  targets = {
    "boxes": boxes,
    "classes": classes,
    "valid": np.ones(classes.shape, bool),
    "masks": np.ones((*classes.shape, 28, 28), np.float32),
  }
  variables = jax.eval_shape(model.init, jax.random.key(0), images, sizes)
  if weights:
    with np.load(weights) as state_dict:
      variables = torchvision_detection.rcnn(dict(state_dict), variables)
    variables = jax.device_put(variables)
  else:
    variables = jax.jit(model.init)(jax.random.key(0), images, sizes)
  tx = optax.sgd(1e-6, 0.9)
  keys = jax.random.split(jax.random.key(0), batch)

  @functools.partial(jax.jit, donate_argnums=0)
  def step(state, images, sizes, targets, keys):
    params, rest, opt_state = state

    def total(params):
      found = model.apply(
        {"params": params, **rest}, images, sizes, targets, keys, train=True
      )
      return sum(part.mean() for part in found.values())

    value, grads = jax.value_and_grad(total)(params)
    updates, opt_state = tx.update(grads, opt_state)
    return (optax.apply_updates(params, updates), rest, opt_state), value

  infer = jax.jit(
    lambda variables, images: model.apply(variables, images, sizes)
  )
  placed = jax.device_put((images, sizes, targets, keys))
  return Case(step, infer, variables, placed, tx)


MODELS = {
  function.__name__: function
  for function in (
    unet,
    unet_resnet34,
    unet_3d,
    fcn,
    koch,
    batch_hard,
    mask_rcnn,
  )
}


def main() -> None:
  process.configure_and_restart()
  parser = argparse.ArgumentParser()
  parser.add_argument("row", choices=model_rows.ROWS)
  parser.add_argument("--tiny", action="store_true")
  parser.add_argument("--dtype", default="float32")
  parser.add_argument("--weights", default="")
  args = parser.parse_args()
  runtime.enable_compilation_cache()
  row = model_rows.find(args.row, args.tiny)
  options = {"weights": args.weights} if args.weights else {}
  case = MODELS[row.model](row, jnp.dtype(args.dtype), **options)
  state = [case.state()]

  def train():
    state[0], value = case.step(state[0], *case.batch)
    return jax.block_until_ready((state[0], value))

  def infer():
    return jax.block_until_ready(case.infer(case.variables, case.batch[0]))

  train()
  contenders.serve({"train": train, "inference": infer})


if __name__ == "__main__":
  main()
