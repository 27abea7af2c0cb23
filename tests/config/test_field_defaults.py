"""A field's default is that of the attribute or parameter that it is for."""

import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import pytest

from segsiam_jax import config as config_lib
from segsiam_jax import losses, parts
from segsiam_jax.data.identity.sampling import Sampling
from segsiam_jax.data.identity.trial_plans import random_pairs
from segsiam_jax.data.instance.rows import InstanceRows
from segsiam_jax.data.pipeline import make_pipeline
from segsiam_jax.data.semantic.rows import SemanticRows
from segsiam_jax.data.semantic.sources import FolderOptions
from segsiam_jax.engine.checkpoint import Checkpointer
from segsiam_jax.engine.steps import make_train_step
from segsiam_jax.fields import (
  instance,
  semantic,
  semantic_losses,
  siamese,
  siamese_losses,
)
from segsiam_jax.metrics import CocoAveragePrecision
from segsiam_jax.ops.augment import Augmentation
from segsiam_jax.ops.deformable import Maps
from segsiam_jax.ops.distort import Distortion
from segsiam_jax.tasks import instance as instance_task
from segsiam_jax.tasks import semantic as semantic_task
from segsiam_jax.tasks import siamese as siamese_task

LOSSES = {
  "instance": {},
  "semantic": semantic_losses.LOSSES,
  "siamese": siamese_losses.LOSSES,
}
MODELS = {
  "instance": (instance, instance_task),
  "semantic": (semantic, semantic_task),
  "siamese": (siamese, siamese_task),
}

# Section of a config -> what has parameters of the names of its fields.
OF_ALL = [
  ("", make_pipeline),
  ("", make_train_step),
  ("data", make_pipeline),
  ("optimizer", make_train_step),
  ("train", Checkpointer),
  ("train", make_train_step),
]
BY_NAME: dict[str, list[tuple[str, Callable]]] = {
  "instance": [
    ("augment", Augmentation),
    ("augment", InstanceRows),
    ("data", InstanceRows),
    ("eval", CocoAveragePrecision),
  ],
  "semantic": [
    ("augment", Augmentation),
    ("data", FolderOptions),
    ("data", SemanticRows),
    ("loss", SemanticRows),
  ],
  "siamese": [
    ("augment", Distortion),
    ("batch", Sampling),
    ("eval", Maps),
    ("eval", random_pairs),
    ("match", Maps),
  ],
}

# Losses that a task wraps -> the public functions behind them.
BEHIND: dict[str, list[Callable]] = {
  "contrastive": [losses.contrastive_loss, losses.batch_contrastive_loss],
  "triplet": [losses.triplet_loss, losses.batch_triplet_loss],
  "multi_similarity": [losses.multi_similarity_loss],
  "prototypical": [losses.prototypical_loss],
  "tversky": [losses.tversky_loss],
}

# Those that differ on purpose: (field, owner) -> why.
DIFFERENT = {
  ("model.base_width", "UNet"): "the paper's 64 is too slow for a first run",
  ("model.base_width", "UNetPlusPlus"): "as of UNet",
  ("model.roi_chunk", "MaskRCNN"): "0 in a config is None",
  ("model.head", "Siamese"): "each tower has the head of its paper",
  ("model.normalize", "Siamese"): "as model.head",
  ("data.mask_size", "InstanceRows"): "0 is for detection, without masks",
  ("loss.hardest_fraction", "softmax_cross_entropy"): "1 in a config is None",
  ("loss.dice_smooth", "dice_loss"): "1 trains well; 1e-5 only avoids 0 / 0",
  ("loss.dice_smooth", "jaccard_loss"): "as of dice_loss",
  ("loss.dice_smooth", "tversky_loss"): "as of dice_loss",
}
# Fields of these sections are for a model, an augmentation or a loss, but for:
SECTIONS = ("model", "augment", "loss")
OF_THE_TASK = {
  "model.name": "chooses the class",
  "augment.turn": "which key, not how strongly",
  "loss.auxiliary": "a weight",
  "loss.balance": "makes class_weights",
  "loss.class_weights": "as many as there are classes",
  "loss.memory_size": "of the task's memory",
  "loss.memory_start": "of the task's memory",
}


class Pair(NamedTuple):
  """A field, and a parameter or an attribute that it is for."""

  field: str
  default: Any
  owner: str
  value: Any


def parameters(function: Callable) -> dict[str, Any]:
  """Defaults by name, of a function's or a class's parameters."""
  return {
    name: parameter.default
    for name, parameter in inspect.signature(function).parameters.items()
    if parameter.default is not inspect.Parameter.empty
  }


def pairs(task: str, model: str) -> Iterator[Pair]:
  fields = {
    name: () if field.empty else field.default
    for name, field in config_lib.fields(task, model).items()
  }
  for section, owner in OF_ALL + BY_NAME[task]:
    for name, value in parameters(owner).items():
      field = f"{section}.{name}".lstrip(".")
      if field in fields:
        yield Pair(field, fields[field], owner.__name__, value)
  for name, loss in LOSSES[task].items():
    functions = BEHIND.get(name) or [parts.load(loss.function)]
    for option, field in loss.options.items():
      for function in functions:
        known = parameters(function)
        if option in known or len(functions) == 1:
          yield Pair(field, fields[field], function.__name__, known[option])
  config = config_lib.default_config(task, model)
  made = MODELS[task][1].make_model(config, None)
  for module in (made, getattr(made, "tower", None)):
    if module is not None:
      for name, value in parameters(type(module)).items():
        field = f"model.{name}"
        if field in fields and field not in OF_THE_TASK:
          yield Pair(field, fields[field], type(module).__name__, value)


CASES = [(task, model) for task in MODELS for model in MODELS[task][0].MODELS]


@pytest.mark.parametrize("task, model", CASES)
def test_defaults_are_written_alike(task, model):
  for pair in pairs(task, model):
    if (pair.field, pair.owner) not in DIFFERENT:
      assert pair.default == pair.value, pair
      assert type(pair.default) is type(pair.value), pair


@pytest.mark.parametrize("task, model", CASES)
def test_every_field_of_these_sections_is_compared(task, model):
  compared = {pair.field for pair in pairs(task, model)}
  for field in config_lib.fields(task, model):
    section, name = ("." + field).rsplit(".", 1)
    is_weight = section == ".loss" and name in weights_of(task)
    if section[1:] in SECTIONS and field not in OF_THE_TASK and not is_weight:
      assert field in compared, field


def weights_of(task: str) -> Iterable[str]:
  """Names of the losses."""
  detector = ("rpn_objectness", "rpn_box", "roi_class", "roi_box", "mask")
  return LOSSES[task] or detector


def test_exceptions_differ():
  found = {
    (pair.field, pair.owner)
    for case in CASES
    for pair in pairs(*case)
    if pair.default != pair.value
  }
  assert found == set(DIFFERENT)
