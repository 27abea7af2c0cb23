"""Every field of a configuration: its default, its meaning, what it may be.

A config file starts from `default_config` and changes what it needs, so that
it says only what makes the experiment. `validate` checks all of it before any
device is touched.
"""

import difflib
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import ml_collections

from segsiam_jax.errors import UserError

Check = Callable[[Any], str]


class Field(NamedTuple):
  """One field.

  Attributes:
    default: its type is the field's type; a tuple's items give theirs.
    meaning: one line of documentation.
    check: value -> complaint, '' if there is none.
  """

  default: Any
  meaning: str
  check: Check = lambda value: ""


def one_of(*choices: Any) -> Check:
  def check(value: Any) -> str:
    if value in choices:
      return ""
    close = difflib.get_close_matches(str(value), map(str, choices), n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"expected one of {', '.join(map(repr, choices))}{hint}"

  return check


def within(low: float = -math.inf, high: float = math.inf) -> Check:
  """Both ends included; of a tuple, every item."""

  def check(value: Any) -> str:
    values = value if isinstance(value, tuple) else (value,)
    if all(low <= item <= high for item in values):
      return ""
    if high == math.inf:
      return f"expected at least {low}"
    return f"expected {low} to {high}"

  return check


def pair(meaning: str, low: float = -math.inf, ordered: bool = False) -> Check:
  """Two numbers, each at least `low`; the first not above if `ordered`."""

  def check(value: Any) -> str:
    if len(value) != 2:
      return f"expected {meaning}, such as '(1, 2)'"
    if min(value) < low:
      return f"expected {meaning}, each at least {low}"
    if ordered and value[0] > value[1]:
      return f"expected {meaning}, the smaller one first"
    return ""

  return check


DATA_SETS = (
  "digit_scenes/trimap",
  "digit_scenes/classes",
  "oxford_iiit_pet",
  "cityscapes",
  "caltech_birds2011",
  "folder",
)

_COMMON: dict[str, Field] = {
  "task": Field("semantic", "what is learned", one_of("semantic")),
  "seed": Field(0, "of parameters, order and augmentation", within(0)),
  "backend": Field(
    "jit", "'jit' over all devices, or 'pmap'", one_of("jit", "pmap")
  ),
  "dtype": Field(
    "float32",
    "compute dtype; parameters and losses are float32",
    one_of("float32", "bfloat16"),
  ),
  "init_from": Field("", "workdir or checkpoint to take the weights from"),
  "init_skip": Field(
    "", "regular expression: parameters that init_from leaves fresh"
  ),
  "train.batch_size": Field(8, "images of a step, all devices", within(1)),
  "train.eval_batch_size": Field(8, "the same in evaluation", within(1)),
  "train.num_steps": Field(1000, "optimizer steps in all", within(1)),
  "train.grad_accum": Field(
    1, "parts that a batch is worked through in", within(1)
  ),
  "train.ema_decay": Field(
    0.0, "of averaged parameters, 0 for none", within(0, 0.999999)
  ),
  "train.log_every": Field(50, "steps between log lines", within(1)),
  "train.eval_every": Field(500, "steps between evaluations", within(1)),
  "train.checkpoint_every": Field(500, "steps between checkpoints", within(1)),
  "train.keep": Field(2, "latest checkpoints to keep", within(1)),
  "train.best_metric": Field("", "evaluation metric of the best checkpoint"),
  "train.best_mode": Field(
    "max", "whether it should be large or small", one_of("max", "min")
  ),
  "train.num_pictures": Field(
    12, "pictures of every evaluation; 0 for none", within(0)
  ),
  "optimizer.name": Field(
    "adamw", "update rule", one_of("sgd", "momentum", "adamw", "lamb")
  ),
  "optimizer.learning_rate": Field(1e-3, "peak", within(0)),
  "optimizer.momentum": Field(0.9, "of 'momentum'", within(0, 1)),
  "optimizer.nesterov": Field(False, "of 'momentum'"),
  "optimizer.b1": Field(0.9, "of adamw and lamb", within(0, 1)),
  "optimizer.b2": Field(0.999, "of adamw and lamb", within(0, 1)),
  "optimizer.eps": Field(1e-8, "of adamw and lamb", within(0)),
  "optimizer.weight_decay": Field(
    0.0, "of kernels; not of biases and norms", within(0)
  ),
  "optimizer.clip_norm": Field(
    0.0, "largest global norm of the gradient, 0 for any", within(0)
  ),
  "optimizer.schedule": Field(
    "cosine",
    "of the learning rate",
    one_of("constant", "cosine", "polynomial", "step"),
  ),
  "optimizer.warmup_steps": Field(0, "of linear warm-up", within(0)),
  "optimizer.end_factor": Field(
    0.0, "last rate over peak, cosine and polynomial", within(0, 1)
  ),
  "optimizer.power": Field(0.9, "of polynomial", within(0)),
  "optimizer.step_boundaries": Field(
    (0.6, 0.85), "fractions of all steps where 'step' drops", within(0, 1)
  ),
  "optimizer.step_factor": Field(0.1, "what it drops by", within(0, 1)),
  "data.name": Field(
    "digit_scenes/trimap", "data set, or 'folder'", one_of(*DATA_SETS)
  ),
  "data.dir": Field("", "the folder, or where TFDS keeps its data"),
  "data.train_split": Field("train", "such as 'train' or 'train[:80%]'"),
  "data.eval_split": Field("test", "split of evaluations"),
  "data.channels": Field(3, "of the model's input", within(1)),
  "data.workers": Field(0, "reading processes; 0 for threads alone", within(0)),
  "data.threads": Field(4, "reading threads", within(1)),
}

_TASKS: dict[str, dict[str, Field]] = {
  "semantic": {
    "data.image_size": Field(
      (64, 64), "(height, width) of training", pair("(height, width)", 1)
    ),
    "data.eval_image_size": Field(
      (0, 0), "the same in evaluation; (0, 0) for image_size", pair("two", 0)
    ),
    "data.fit": Field(
      "resize",
      "how images come to that size",
      one_of("resize", "crop", "pad"),
    ),
    "data.class_names": Field(("",), "of a folder; () for the data set's own"),
    "data.label_values": Field(
      (0,),
      "mask value of each class where it is not its index; ()",
      within(0, 255),
    ),
    "data.mean": Field((127.5,) * 3, "of the channels, in 0..255"),
    "data.std": Field((63.75,) * 3, "of the channels", within(1e-6)),
    "augment.flip_left_right": Field(False, "mirror half of the images"),
    "augment.flip_up_down": Field(False, "likewise, upside down"),
    "augment.scale": Field(
      (1.0, 1.0), "smallest, largest zoom", pair("two factors", 0.01, True)
    ),
    "augment.rotate": Field(0.0, "largest angle in degrees", within(0, 180)),
    "augment.translate": Field(0.0, "largest shift, of the size", within(0, 1)),
    "augment.elastic_sigma": Field(0.0, "pixels of bending", within(0)),
    "augment.elastic_grid": Field(3, "vectors a side", within(2)),
    "augment.brightness": Field(0.0, "largest change, of 1", within(0, 1)),
    "augment.contrast": Field(
      (1.0, 1.0), "smallest, largest factor", pair("two factors", 0, True)
    ),
    "augment.noise": Field(0.0, "largest sigma, of 1", within(0, 1)),
    "loss.cross_entropy": Field(1.0, "weight", within(0)),
    "loss.label_smoothing": Field(0.0, "of cross-entropy", within(0, 1)),
    "loss.dice": Field(0.0, "weight", within(0)),
    "loss.dice_smooth": Field(1.0, "added above and below", within(0)),
    "loss.auxiliary": Field(
      0.5, "weight of the losses of auxiliary heads", within(0)
    ),
    "loss.dice_batch": Field(False, "one Dice of the batch, not of each image"),
  },
}

_MODELS: dict[str, dict[str, Field]] = {
  "unet": {
    "model.depth": Field(4, "number of halvings", within(1, 8)),
    "model.base_width": Field(32, "channels of the first level", within(1)),
    "model.norm": Field(
      "batch", "normalisation", one_of("batch", "group", "none")
    ),
    "model.upsample": Field(
      "transpose", "how to double", one_of("transpose", "resize")
    ),
    "model.dropout": Field(0.0, "rate at the bottom", within(0, 0.99)),
    "model.remat": Field(False, "save memory, cost time"),
  },
}
_MODELS["fcn"] = {
  "model.stride": Field(8, "FCN-32s, 16s or 8s", one_of(32, 16, 8)),
  "model.learned_upsampling": Field(False, "train the 2x up-samplings"),
  "model.at_once": Field(False, "scale pool4 and pool3, one stage"),
  "model.width": Field(4096, "channels of fc6 and fc7", within(1)),
  "model.dropout": Field(0.5, "rate after both", within(0, 0.99)),
}
_MODELS["fcn_resnet"] = {
  "model.depth": Field(50, "of the ResNet", one_of(50, 101)),
  "model.auxiliary": Field(True, "a head on the third stage, too"),
  "model.norm": Field(
    "batch", "normalisation", one_of("batch", "group", "none")
  ),
  "model.remat": Field(False, "save memory, cost time"),
}
_MODELS_OF_TASK = {"semantic": ("unet", "fcn", "fcn_resnet")}

# Fields whose default is () in a config: their item type cannot be told from
# it, so that the specification above holds an example item.
_EMPTY = ("data.class_names", "data.label_values")


def fields(task: str, model: str) -> dict[str, Field]:
  """All fields of a task with a model, by dotted name."""
  name = Field(model, "architecture", one_of(*_MODELS_OF_TASK[task]))
  return _COMMON | _TASKS[task] | {"model.name": name} | _MODELS[model]


def default_config(task: str, model: str) -> ml_collections.ConfigDict:
  """A valid configuration with every field of a task and a model."""
  config = ml_collections.ConfigDict()
  for name, field in fields(task, model).items():
    *sections, last = name.split(".")
    node = config
    for section in sections:
      if section not in node:
        node[section] = ml_collections.ConfigDict()
      node = node[section]
    node[last] = () if name in _EMPTY else field.default
  config.task = task
  return config


def validate(config: ml_collections.ConfigDict) -> None:
  """Raises `UserError` at the first field that is wrong, and says why."""
  values = dict(_flatten(config))
  task = _choose(values, "task", _TASKS)
  models = {name: _MODELS[name] for name in _MODELS_OF_TASK[task]}
  expected = fields(task, _choose(values, "model.name", models))
  for name in values:
    if name not in expected:
      close = difflib.get_close_matches(name, expected, n=1, cutoff=0.5)
      hint = f"; did you mean config.{close[0]}?" if close else ""
      raise UserError(f"config.{name}: no such field{hint}")
  for name, field in expected.items():
    if name not in values:
      raise UserError(
        f"config.{name}: missing ({field.meaning}); start the config file from "
        "segsiam_jax.config.default_config"
      )
    complaint = _wrong_type(name, values[name], field.default)
    complaint = complaint or field.check(values[name])
    if complaint:
      raise UserError(f"config.{name} = {values[name]!r}: {complaint}")
  _check_together(config)


def _check_together(config: ml_collections.ConfigDict) -> None:
  """What no field can tell alone."""

  def fail(field: str, complaint: str) -> None:
    node = config
    for part in field.split("."):
      node = node[part]
    raise UserError(f"config.{field} = {node!r}: {complaint}")

  data, train = config.data, config.train
  for name in ("mean", "std"):
    if len(data[name]) != data.channels:
      fail(f"data.{name}", f"expected data.channels = {data.channels} numbers")
  if data.name == "folder":
    if not data.dir:
      fail("data.dir", "the folder that holds the splits is needed")
    if len(data.class_names) < 2:
      fail("data.class_names", "a folder needs the names of its classes")
  elif data.label_values:
    fail("data.label_values", "only data.name = 'folder' takes them")
  if len(data.class_names) > 255:
    fail("data.class_names", "at most 255 classes; 255 is the ignore label")
  if data.label_values and len(data.label_values) != len(data.class_names):
    fail(
      "data.label_values",
      f"expected one value for each of the {len(data.class_names)} classes",
    )
  if len(set(data.class_names)) != len(data.class_names):
    fail("data.class_names", "two classes have the same name")
  if train.batch_size % train.grad_accum:
    fail("train.grad_accum", f"does not divide batch_size {train.batch_size}")
  if config.optimizer.warmup_steps >= train.num_steps:
    fail(
      "optimizer.warmup_steps",
      f"not below train.num_steps = {train.num_steps}",
    )
  boundaries = config.optimizer.step_boundaries
  if list(boundaries) != sorted(boundaries):
    fail("optimizer.step_boundaries", "not in rising order")
  if bool(data.eval_image_size[0]) != bool(data.eval_image_size[1]):
    fail("data.eval_image_size", "give both numbers, or (0, 0)")
  if not (config.loss.cross_entropy or config.loss.dice):
    fail("loss.cross_entropy", "no loss is left; give one a weight")
  unet = config.model.name == "unet"
  if unet and min(data.image_size) < 2**config.model.depth:
    fail(
      "data.image_size",
      f"a U-Net of depth {config.model.depth} needs at least "
      f"{2**config.model.depth} pixels; use larger crops or a smaller "
      "config.model.depth",
    )


def _choose(values: dict, name: str, known: dict) -> str:
  complaint = one_of(*known)(values.get(name))
  if complaint:
    raise UserError(f"config.{name} = {values.get(name)!r}: {complaint}")
  return values[name]


def _flatten(
  config: ml_collections.ConfigDict, prefix: str = ""
) -> Iterator[tuple[str, Any]]:
  for name, value in config.items():
    if isinstance(value, ml_collections.ConfigDict):
      yield from _flatten(value, f"{prefix}{name}.")
    else:
      yield prefix + name, value


def _wrong_type(name: str, value: Any, default: Any) -> str:
  """A complaint, or ''. An int does for a float, and a list for a tuple."""
  if isinstance(default, tuple):
    if not isinstance(value, tuple | list):
      return f"expected a tuple; write --config.{name}='({value},)'"
    for item in value:
      if _wrong_type(name, item, default[0]):
        kind = type(default[0]).__name__
        return f"expected {kind}s, and {item!r} is none"
    return ""
  if isinstance(default, float):
    good = isinstance(value, int | float) and not isinstance(value, bool)
  elif isinstance(default, int) and not isinstance(default, bool):
    good = isinstance(value, int) and not isinstance(value, bool)
  else:
    good = isinstance(value, type(default))
  return "" if good else f"expected {type(default).__name__}"
