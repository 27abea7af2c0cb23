"""The config of a run, as its workdir keeps it.

This file is itself a config file: `--config=.../of_workdir.py:WORKDIR` is the
config that WORKDIR was trained with, and flags change its fields.
"""

import logging
from collections.abc import Iterator, Mapping
from typing import Any

import ml_collections

from segsiam_jax.config import default_config, validate
from segsiam_jax.errors import UserError, first_line
from segsiam_jax.files import paths, text_files

_logger = logging.getLogger(__name__)

CONFIG_FILE = "config.json"


def get_config(workdir: str) -> ml_collections.ConfigDict:
  """The config that a workdir was trained with, validated.

  Raises:
    UserError: the workdir has none, or it is not valid.
  """
  config = read(workdir)
  if config is None:
    raise UserError(
      f"{paths.resolve(workdir) / CONFIG_FILE}: not found; give --config, or a "
      "--workdir that was trained in"
    )
  validate(config)
  return config


def read(workdir: str) -> ml_collections.ConfigDict | None:
  """The config that a workdir was trained with, or None if it has none.

  Fields that are younger than the workdir get their defaults, which stand for
  what was done before there was the field; a message names them.

  Raises:
    UserError: the file is broken.
  """
  file = paths.resolve(workdir) / CONFIG_FILE
  if not file.exists():
    return None
  try:
    saved = text_files.parse_json(file.read_bytes(), str(file))
  except (UserError, OSError) as error:
    raise UserError(
      f"{file}: not a config ({first_line(error)}); fix it, or give --config"
    ) from error
  if not isinstance(saved, dict):
    raise UserError(f"{file}: not a config; fix it, or give --config")
  try:
    config = ml_collections.ConfigDict(_renamed(_tuples(saved)))
  except (AttributeError, KeyError, TypeError, ValueError) as error:
    raise UserError(
      f"{file}: not a config ({first_line(error)}); fix it, or give --config"
    ) from error
  try:
    defaults = default_config(config.task, config.model.name)
  except (AttributeError, KeyError, TypeError):
    return config  # `validate` says what is wrong with these two.
  missing = list(_fill(config, defaults, ""))
  if missing:
    _logger.info(
      "%s: older than these fields, which get their defaults: %s",
      file,
      ", ".join(missing),
    )
  return config


def _fill(
  config: ml_collections.ConfigDict,
  defaults: ml_collections.ConfigDict,
  prefix: str,
) -> Iterator[str]:
  """Adds what `config` lacks, and yields the fields' names."""
  for name, value in defaults.items():
    if isinstance(value, ml_collections.ConfigDict):
      if name not in config:
        config[name] = ml_collections.ConfigDict()
      if isinstance(config[name], ml_collections.ConfigDict):
        yield from _fill(config[name], value, f"{prefix}{name}.")
    elif name not in config:
      config[name] = value
      yield prefix + name


def _renamed(saved: Mapping[str, Any]) -> Mapping[str, Any]:
  """With the names that fields have today, where they had others."""
  model = saved.get("model")
  if isinstance(model, dict) and "encoder" not in model:
    # Detectors and 'fcn_resnet' had ResNets alone.
    of_resnet = {"instance": "encoder_depth", "fcn_resnet": "depth"}
    for owner in (saved.get("task"), model.get("name")):
      if of_resnet.get(owner) in model:
        model["encoder"] = f"resnet{model.pop(of_resnet[owner])}"
  return saved


def _tuples(tree: Any) -> Any:
  if isinstance(tree, Mapping):
    return {name: _tuples(value) for name, value in tree.items()}
  return tuple(tree) if isinstance(tree, list) else tree
