"""Files of published weights into a model, whatever their format."""

import logging
import os
import pathlib
import re

import jax
import numpy as np

from segsiam_jax.errors import UserError
from segsiam_jax.files import paths
from segsiam_jax.pretrained import (
  smp,
  torch_files,
  torchvision,
  torchvision_detection,
)
from segsiam_jax.pretrained.formats import Format
from segsiam_jax.pretrained.state_dict import (
  Family,
  PyTree,
  StateDict,
  read_state_dict,
  to_variables,
)

_logger = logging.getLogger(__name__)

SUFFIXES = (".safetensors", *torch_files.SUFFIXES)


def is_weights_file(path: str | os.PathLike) -> bool:
  """Whether a path names a file of weights rather than a workdir."""
  suffix = pathlib.Path(path).suffix.lower()
  return suffix in SUFFIXES and not os.path.isdir(os.path.expanduser(path))


def check_source(path: str) -> None:
  """Raises `UserError` unless there is something to take weights from."""
  if is_weights_file(path) or not paths.is_local(path):
    return
  found = paths.resolve(path)
  if not found.exists():
    raise UserError(
      f"config.init_from = {path!r}: no such workdir or file, and names of "
      "architectures or data sets mean no weights; give a workdir, a "
      "checkpoint of one, or a file of published weights that you have "
      f"({', '.join(SUFFIXES)})"
    )
  if not found.is_dir():
    raise UserError(
      f"config.init_from = {path!r}: not a file of weights; expected one of "
      f"{', '.join(SUFFIXES)}"
    )


def load_weights(
  path: str | os.PathLike,
  params: PyTree,
  model_state: PyTree,
  *,
  skip: str = "",
) -> tuple[PyTree, PyTree]:
  """Parameters and batch statistics with the values of a file.

  A classifier's file fills the encoder and leaves the rest as it is; that of a
  segmentation model fills all.

  Args:
    path: see `state_dict.read_state_dict`.
    params: the parameters to replace: arrays with their shardings.
    model_state: the batch statistics to replace.
    skip: regular expression, searched in names such as
      'params/logits/kernel'; what matches stays as it is.

  Returns:
    (params, model_state), of the same structure and shardings.

  Raises:
    UserError: the format is unknown, or the weights do not fit the model.
  """
  state_dict = read_state_dict(path)
  keys = list(state_dict)
  while (found := _format_of(state_dict)) is None:
    prefix, state_dict = _without_first_name(state_dict)
    if not prefix:
      break
    _logger.info("%s: all keys begin with %r, which is dropped", path, prefix)
  if found is None:
    raise UserError(
      f"{path}: its keys ({', '.join(keys[:3])}, ...) match no known format; "
      f"the known ones are {', '.join(each.name for each in FORMATS)}"
    )
  family = found.family(params)
  if family is None:
    raise UserError(
      f"{path}: holds {found.name}, which does not fit this model; it fits "
      f"{found.fits}"
    )
  kept = 0

  def keep(name: str) -> bool:
    nonlocal kept
    matches = bool(skip and re.search(skip, _checkpoint_name(name)))
    kept += matches
    return matches

  template = {"params": params, **model_state}
  try:
    loaded = to_variables(state_dict, template, family, keep)
  except UserError as error:
    raise UserError(
      f"{path}: {found.name}; {error}; it fits {found.fits}; "
      "config.init_skip keeps the initial values of arrays"
    ) from error
  loaded = jax.tree.map(_place, loaded, template)
  _logger.info(
    "weights from %s (%s); %d arrays skipped", path, found.name, kept
  )
  return loaded.pop("params"), loaded


def _format_of(state_dict: StateDict) -> Format | None:
  return next((each for each in FORMATS if each.recognises(state_dict)), None)


def _without_first_name(state_dict: StateDict) -> tuple[str, StateDict]:
  """(name, state dict) without the name in front of all keys, '' if there is
  none. Wrappers put one there: DataParallel `module.`, Lightning `model.`."""
  parts = [key.partition(".") for key in state_dict]
  if len({first for first, _, _ in parts}) != 1 or not all(p[2] for p in parts):
    return "", state_dict
  prefix = parts[0][0] + "."
  return prefix, {k.removeprefix(prefix): v for k, v in state_dict.items()}


def _checkpoint_name(name: str) -> str:
  """A variable's name as in checkpoints, which `init_skip` is written for."""
  return name if name.startswith("params/") else f"model_state/{name}"


def _place(value: jax.Array | np.ndarray, like: jax.Array) -> jax.Array:
  if value is like:
    return like
  return jax.make_array_from_callback(
    like.shape, like.sharding, lambda index: value[index].astype(like.dtype)
  )


def _fcn_resnet(params: PyTree) -> Family | None:
  if not {"encoder", "head"} <= set(params):
    return None
  return torchvision.fcn_family("aux_head" in params)


def _rcnn(params: PyTree) -> Family | None:
  if not {"encoder", "fpn", "rpn", "box_head"} <= set(params):
    return None
  return torchvision_detection.rcnn_family(params)


def _smp_unet(params: PyTree) -> Family | None:
  resnet = "layer1_0" in params.get("encoder", {})
  return smp.UNET if resnet and "decoder0" in params else None


# The first that recognises a file reads it.
FORMATS = [
  Format(
    "torchvision's Mask R-CNN or Faster R-CNN",
    lambda keys: (
      {"backbone.body.conv1.weight", "rpn.head.cls_logits.weight"} <= set(keys)
    ),
    _rcnn,
    "model.name = 'mask_rcnn' or 'faster_rcnn' of the same form",
  ),
  Format(
    "torchvision's FCN on ResNet",
    lambda keys: {"backbone.conv1.weight", "classifier.0.weight"} <= set(keys),
    _fcn_resnet,
    "model.name = 'fcn_resnet' of the same depth",
  ),
  Format(
    "segmentation-models-pytorch's Unet on ResNet",
    lambda keys: (
      {
        "encoder.layer1.0.conv1.weight",
        "decoder.blocks.0.conv1.0.weight",
        "segmentation_head.0.weight",
      }
      <= set(keys)
    ),
    _smp_unet,
    "model.name = 'unet' with the same encoder, upsample = 'nearest' and "
    "head_kernel = 3",
  ),
  *torchvision.FORMATS,
]
