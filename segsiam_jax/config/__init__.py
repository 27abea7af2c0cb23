"""A configuration: its defaults, and the check of all of it.

A config file starts from `default_config` and changes what it needs, so that
it says only what makes the experiment. `validate` runs before any device is
touched. The fields themselves are in `segsiam_jax.fields`.
"""

from collections.abc import Iterator
from typing import Any

import ml_collections
from absl import flags
from ml_collections.config_flags import config_path
from ml_collections.config_flags.tuple_parser import TupleParser

from segsiam_jax import parts
from segsiam_jax.errors import UserError, nearest, shown
from segsiam_jax.fields import common, tasks
from segsiam_jax.fields.base import Field, one_of, representable

# How the command line reads the value of a field, by the field's type.
_PARSERS: dict[type, flags.ArgumentParser] = {
  bool: flags.BooleanParser(),
  int: flags.IntegerParser(),
  float: flags.FloatParser(),
  str: flags.ArgumentParser(),
  tuple: TupleParser(),
}

# Of torchvision's ImageNet weights, in 0..255.
IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)


def fields(task: str, model: str) -> dict[str, Field]:
  """All fields of a task with a model, by dotted name."""
  of_task = parts.load(tasks.find(task).fields)
  own = {
    "task": Field(task, "what is learned"),
    "model.name": Field(model, "architecture", one_of(*of_task.MODELS)),
  }
  return common.FIELDS | own | of_task.FIELDS | of_task.MODELS[model].fields


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
    node[last] = () if field.empty else field.default
  return config


def shorten(config: ml_collections.ConfigDict, num_steps: int = 4) -> None:
  """Makes a run of seconds of it, as `:debug` does: few steps, small batches.

  Args:
    config: changed in place; its data and model are left to the caller.
    num_steps: of the run; it is evaluated and saved twice.
  """
  half = max(1, num_steps // 2)
  config.train.update(
    num_steps=num_steps,
    batch_size=min(4, config.train.batch_size),
    eval_batch_size=min(4, config.train.eval_batch_size),
    grad_accum=1,
    log_every=1,
    eval_every=half,
    checkpoint_every=half,
    num_pictures=min(4, config.train.num_pictures),
  )
  config.optimizer.warmup_steps = min(1, config.optimizer.warmup_steps)


def on_digit_scenes(config: ml_collections.ConfigDict) -> None:
  """Gives a `:debug` run of semantic segmentation data without a download."""
  config.data.update(
    name="digit_scenes/trimap",
    dir="",
    train_split="train[:16]",
    eval_split="test[:8]",
    class_names=(),
    label_values=(),
    masks="classes",
    image_size=(64, 64),
    eval_image_size=(0, 0),
  )
  config.eval.rand_class = ""


def on_digits(config: ml_collections.ConfigDict) -> None:
  """Gives a `:debug` run of a Siamese network data without a download.

  The identities are the digits, in training and evaluation alike.
  """
  config.data.update(
    name="digits",
    dir="",
    train_split="train[:60]",
    eval_split="test[:40]",
    shared_identities=True,
    singles="error",
    image_size=(16, 16),
    fit="resize",
  )
  config.train.update(best_metric="auc", best_mode="max")
  config.batch.update(per_identity=2, within_group=False)
  config.eval.update(pairs=40, episodes=4, far=0.1, within_group=False)


def override(config: ml_collections.ConfigDict, assignment: str) -> None:
  """Sets a field as the command line does: 'train.num_steps=100'.

  Raises:
    UserError: there is no such field, or the value is of another type.
  """
  name, equals, text = assignment.partition("=")
  values = dict(_flatten(config))
  if not equals or name not in values:
    close = nearest(name, values, cutoff=0.5)
    hint = f"; did you mean {close}?" if close else ""
    raise UserError(f"{assignment!r}: expected FIELD=VALUE of a config{hint}")
  kind = config_path.get_type(name, config)
  try:
    config_path.set_value(name, config, _PARSERS[kind].parse(text))
  except (ValueError, TypeError, OverflowError):
    raise UserError(f"{shown(assignment)}: expected {kind.__name__}") from None


def validate(config: ml_collections.ConfigDict) -> None:
  """Raises `UserError` at the first field that is wrong, and says why."""
  values = dict(_flatten(config))
  task = values.get("task")
  of_task = parts.load(tasks.find(task).fields)
  model = values.get("model.name")
  complaint = one_of(*of_task.MODELS)(model)
  if complaint:
    raise UserError(f"config.model.name = {shown(model)}: {complaint}")
  expected = fields(task, model)
  for name in values:
    if name not in expected:
      others = [k for k, each in of_task.MODELS.items() if name in each.fields]
      if name.startswith("model.") and others:
        raise UserError(
          f"config.model.name = {shown(model)}: has no {name}, which is of "
          f"{', '.join(others)}; choose the model where the config is made, as "
          f"in --config=configs/{task}.py:{model}, or by default_config"
        )
      close = nearest(name, expected, cutoff=0.5)
      hint = f"; did you mean config.{close}?" if close else ""
      raise UserError(f"config.{name}: no such field{hint}")
  for name, field in expected.items():
    if name not in values:
      raise UserError(
        f"config.{name}: missing ({field.meaning}); start the config file from "
        "segsiam_jax.config.default_config"
      )
    complaint = _wrong_type(name, values[name], field.default)
    complaint = complaint or representable(values[name])
    complaint = complaint or field.check(values[name])
    if complaint:
      raise UserError(f"config.{name} = {shown(values[name])}: {complaint}")

  def fail(name: str, complaint: str) -> None:
    raise UserError(f"config.{name} = {shown(values[name])}: {complaint}")

  common.check(config, fail)
  of_task.check(config, fail)


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
        return f"expected {kind}s; got {shown(item)}"
    return ""
  if isinstance(default, float):
    good = isinstance(value, int | float) and not isinstance(value, bool)
  elif isinstance(default, int) and not isinstance(default, bool):
    good = isinstance(value, int) and not isinstance(value, bool)
  else:
    good = isinstance(value, type(default))
  return "" if good else f"expected {type(default).__name__}"
