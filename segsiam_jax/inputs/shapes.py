"""The shapes of a config's batches, without its data."""

import logging

import jax
import ml_collections

from segsiam_jax import inputs, parts
from segsiam_jax.data import pipeline
from segsiam_jax.errors import UserError
from segsiam_jax.fields import data_sets, tasks

_logger = logging.getLogger(__name__)

_TABLES = {
  "semantic": data_sets.SEMANTIC,
  "instance": data_sets.INSTANCE,
  "siamese": data_sets.IDENTITIES,
}
# Where nobody says how many: as Pascal VOC, COCO, and a small set of faces.
_ASSUMED = {"semantic": 21, "instance": 80, "siamese": 1000}

Spec = dict[str, jax.ShapeDtypeStruct]


def of_config(
  config: ml_collections.ConfigDict,
) -> tuple[ml_collections.ConfigDict, Spec, Spec]:
  """What training and evaluation batches are.

  Args:
    config: of a run. A task outside the library has its data opened.

  Returns:
    A copy that has as many classes as there will be, and the specs of a global
    batch of training and of evaluation.
  """
  rows_of = tasks.find(config.task).rows_of
  if not rows_of:
    train = inputs.open_inputs(config, train=True)
    test = inputs.open_inputs(config, train=False)
    config = inputs.of_training(config, train.source)
    return config, train.element_spec, test.element_spec
  config = config.copy_and_resolve_references()
  if "class_names" in config.data and not config.data.class_names:
    known = _TABLES[config.task].get(config.data.name)
    count = known.classes if known else 0
    if not count:
      count = _ASSUMED[config.task]
      _logger.info(
        "%d classes assumed; set config.data.class_names to have others", count
      )
    config.data.class_names = tuple(f"class {index}" for index in range(count))
  specs = []
  for train in (True, False):
    rows, branches = parts.load(rows_of)(config, train)
    name = "batch_size" if train else "eval_batch_size"
    specs.append(pipeline.element_spec(rows, config.train[name], branches))
  return config, *specs


def check_suits(config: ml_collections.ConfigDict, what: str) -> None:
  """Raises `UserError` for a config whose shapes only the data know."""
  if config.data.auto and not config.data.dir:
    raise UserError(
      f"{what}: sizes come from the data (config.data.auto); give "
      "config.data.dir, or a config with sizes"
    )
