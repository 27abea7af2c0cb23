"""Fields that every task has."""

import re
from typing import Any

import ml_collections

from segsiam_jax.errors import shown
from segsiam_jax.fields.base import Fail, Field, one_of, within
from segsiam_jax.fields.data_sets import OF_FILES


def _regex(value: str) -> str:
  try:
    re.compile(value)
  except re.error as error:
    return f"not a regular expression ({error})"
  return ""


def _rates(value: tuple[Any, ...]) -> str:
  for rule in value:
    pattern, _, factor = rule.rpartition("=")
    try:
      good = pattern and float(factor) >= 0
    except ValueError:
      good = False
    if not good or _regex(pattern):
      return f"expected 'REGEX=FACTOR'; got {shown(rule)}"
  return ""


FIELDS: dict[str, Field] = {
  "seed": Field(
    0, "seed of parameters, order and augmentation", within(0, 2**32 - 1)
  ),
  "backend": Field(
    "jit",
    "how to use several devices",
    one_of("jit", "pmap", "shard_map"),
  ),
  "mesh.fsdp": Field(
    1,
    "devices that split the parameters and the optimizer's state, and rows",
    within(1),
  ),
  "mesh.space": Field(
    1, "devices that split an image by its height", within(1)
  ),
  "dtype": Field(
    "float32",
    "compute dtype; parameters and losses are float32",
    one_of("float32", "bfloat16"),
  ),
  "init_from": Field(
    "",
    "initial weights: a workdir, a checkpoint, or a .safetensors or .pth file "
    "of published weights",
  ),
  "init_skip": Field(
    "", "regular expression: parameters that init_from does not load", _regex
  ),
  "train.batch_size": Field(8, "images per step, over all devices", within(1)),
  "train.eval_batch_size": Field(8, "the same in evaluation", within(1)),
  "train.num_steps": Field(1000, "total number of optimizer steps", within(1)),
  "train.epochs": Field(
    0.0, "the same in epochs; 0 for train.num_steps", within(0, 10**6)
  ),
  "train.patience": Field(
    0,
    "evaluations without a better train.best_metric after which the run ends; "
    "0 for never",
    within(0),
  ),
  "train.grad_accum": Field(
    1,
    "micro-batches per batch; batch norm sees one at a time",
    within(1),
  ),
  "train.reduce_dtype": Field(
    "float32",
    "in which devices add up gradients; bfloat16 halves what they send, under "
    "'shard_map' and 'pmap'",
    one_of("float32", "bfloat16"),
  ),
  "train.ema_decay": Field(
    0.0,
    "decay of averaged parameters, at most (1 + n) / (10 + n) after n steps; 0 "
    "turns averaging off",
    within(0, 0.999999),
  ),
  "train.log_every": Field(50, "steps between log lines", within(1)),
  "train.eval_every": Field(
    500,
    "steps between evaluations; 0 for an epoch, or 50 if it is shorter",
    within(0),
  ),
  "train.checkpoint_every": Field(
    500,
    "steps between checkpoints; 0 for an epoch, or 50 if it is shorter",
    within(0),
  ),
  "train.keep": Field(2, "number of latest checkpoints to keep", within(1)),
  "train.best_metric": Field(
    "", "evaluation metric that chooses the best checkpoint"
  ),
  "train.best_mode": Field(
    "max", "whether a large or a small value is best", one_of("max", "min")
  ),
  "train.num_pictures": Field(
    12, "pictures per evaluation; 0 for none", within(0)
  ),
  "optimizer.name": Field(
    "adamw", "update rule", one_of("sgd", "momentum", "adamw", "lamb")
  ),
  "optimizer.learning_rate": Field(1e-3, "peak learning rate", within(0)),
  "optimizer.momentum": Field(0.9, "used by 'momentum'", within(0, 1)),
  "optimizer.nesterov": Field(False, "used by 'momentum'"),
  "optimizer.b1": Field(0.9, "used by adamw and lamb", within(0, 1)),
  "optimizer.b2": Field(0.999, "used by adamw and lamb", within(0, 1)),
  "optimizer.eps": Field(1e-8, "used by adamw and lamb", within(0)),
  "optimizer.weight_decay": Field(
    0.0, "decay of kernels, not of biases and norms", within(0)
  ),
  "optimizer.clip_norm": Field(
    0.0, "largest global gradient norm; 0 turns clipping off", within(0)
  ),
  "optimizer.frozen": Field(
    "",
    "regular expression: parameters to freeze; their batch norms keep "
    "their statistics",
    _regex,
  ),
  "optimizer.rate_scales": Field(
    ("^tower/=0.1",),
    "items 'REGEX=FACTOR' scale learning rates; the first match counts",
    _rates,
    empty=True,
  ),
  "optimizer.schedule": Field(
    "cosine",
    "shape of the learning rate over the run",
    one_of("constant", "cosine", "polynomial", "step"),
  ),
  "optimizer.warmup_steps": Field(0, "steps of linear warm-up", within(0)),
  "optimizer.warmup_fraction": Field(
    0.0, "the same as a share of all steps; 0 for warmup_steps", within(0, 0.9)
  ),
  "optimizer.end_factor": Field(
    0.0, "last rate over peak rate, for cosine and polynomial", within(0, 1)
  ),
  "optimizer.power": Field(0.9, "exponent of 'polynomial'", within(0)),
  "optimizer.step_boundaries": Field(
    (0.6, 0.85),
    "fractions of all steps at which 'step' drops the rate",
    within(0, 1),
  ),
  "optimizer.step_factor": Field(0.1, "factor of each drop", within(0, 1)),
  "data.dir": Field("", "data folder, or the folder where TFDS keeps its data"),
  "data.train_split": Field(
    "train", "training split, such as 'train' or 'train[:80%]'"
  ),
  "data.eval_split": Field("test", "evaluation split"),
  "data.auto": Field(
    False,
    "choose what has its default by the training images: size, channels, bits, "
    "mean and std",
  ),
  "data.allow_overlap": Field(
    False, "allow examples in both the training and the evaluation split"
  ),
  "data.skip_broken": Field(
    False,
    "leave out examples whose files cannot be used; reads every file once",
  ),
  "data.channels": Field(3, "channels of the model's input", within(1, 4096)),
  "data.mean": Field((127.5,) * 3, "mean of each channel, in 0..255"),
  "data.std": Field(
    (63.75,) * 3, "standard deviation of each channel", within(1e-6)
  ),
  "data.workers": Field(
    0, "reading processes; 0 for threads only", within(0, 256)
  ),
  "data.threads": Field(4, "reading threads", within(1, 256)),
}


def check(config: ml_collections.ConfigDict, fail: Fail) -> None:
  """What no field can tell alone."""
  data, train = config.data, config.train
  if config.backend != "jit" and config.mesh.fsdp * config.mesh.space > 1:
    fail("backend", "config.mesh needs 'jit'")
  if config.backend == "jit" and train.reduce_dtype != "float32":
    fail("train.reduce_dtype", "the compiler adds up under 'jit'; set backend")
  if config.mesh.space > 1:
    if "image_size" not in data or config.task != "semantic":
      fail("mesh.space", "only images of semantic segmentation are split")
    for name in ("image_size", "eval_image_size"):
      height = data[name][-2]
      if height % config.mesh.space:
        fail("mesh.space", f"does not divide data.{name}'s height, {height}")
  for name in ("mean", "std"):
    if len(data[name]) != data.channels:
      fail(f"data.{name}", f"expected data.channels = {data.channels} numbers")
  if data.skip_broken and data.name not in OF_FILES:
    fail(
      "data.skip_broken",
      f"only data sets of files take it: {', '.join(OF_FILES)}",
    )
  if train.batch_size % train.grad_accum:
    fail("train.grad_accum", f"does not divide batch_size {train.batch_size}")
  if train.patience and not train.best_metric:
    fail("train.patience", "needs config.train.best_metric")
  timed = train.epochs or config.optimizer.warmup_fraction
  if config.optimizer.warmup_steps >= train.num_steps and not timed:
    fail(
      "optimizer.warmup_steps",
      f"not below train.num_steps = {train.num_steps}",
    )
  boundaries = config.optimizer.step_boundaries
  if list(boundaries) != sorted(boundaries):
    fail("optimizer.step_boundaries", "not in rising order")
