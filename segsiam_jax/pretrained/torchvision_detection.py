"""torchvision's Mask R-CNN and Faster R-CNN on ResNet-50-FPN, both versions.

COCO weights of the first versions need `MaskRCNN(norm_epsilon=0.0)`: that is
what torchvision changes its frozen norms to when it loads them.

The outputs of torchvision's COCO models are numbered by category id, 0 to 90,
ten of which COCO does not use. A model here of 81 classes takes those of the
background and of COCO's 80 categories in the order of their ids, which is that
of its data set.
"""

import contextlib
import functools
import re

import numpy as np

from segsiam_jax.pretrained.state_dict import (
  Family,
  PyTree,
  StateDict,
  to_state_dict,
  to_variables,
)
from segsiam_jax.pretrained.torchvision import resnet_module

_POOLED = (7, 7)
_MASKS = ("roi_heads.mask_head.", "roi_heads.mask_predictor.")
_UP = "roi_heads.mask_predictor.conv5_mask.weight"
# 1x1 convolutions that are dense layers here.
_POINTWISE = (
  "rpn.head.cls_logits.weight",
  "rpn.head.bbox_pred.weight",
  "roi_heads.mask_predictor.mask_fcn_logits.weight",
)
_COCO_OUTPUTS = 91
_UNUSED_IDS = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)
# The background's output, and those of the categories.
COCO_IDS = tuple(n for n in range(_COCO_OUTPUTS) if n not in _UNUSED_IDS)
# Outputs of a class in what predicts classes; the kernel and the bias of each.
_OUTPUTS = {
  f"roi_heads.{name}.{array}": count
  for name, count in (
    ("box_predictor.cls_score", 1),
    ("box_predictor.bbox_pred", 4),
    ("mask_predictor.mask_fcn_logits", 1),
  )
  for array in ("weight", "bias")
}
_OLD_KEYS = (
  (r"^(backbone\.fpn\.(?:inner|layer)_blocks\.\d)\.(\w+)$", r"\1.0.\2"),
  (r"^rpn\.head\.conv\.(\w+)$", r"rpn.head.conv.0.0.\1"),
  *(
    (
      rf"^roi_heads\.mask_head\.mask_fcn{n}\.(\w+)$",
      rf"roi_heads.mask_head.{n - 1}.0.\1",
    )
    for n in range(1, 5)
  ),
)
_PARTS = {"conv": ".0", "bn": ".1"}
_PREDICTORS = {
  ("rpn", "objectness"): "rpn.head.cls_logits",
  ("rpn", "deltas"): "rpn.head.bbox_pred",
  ("box_head", "logits"): "roi_heads.box_predictor.cls_score",
  ("box_head", "deltas"): "roi_heads.box_predictor.bbox_pred",
  ("mask_head", "up"): "roi_heads.mask_predictor.conv5_mask",
  ("mask_head", "logits"): "roi_heads.mask_predictor.mask_fcn_logits",
}


def _module(modules: tuple[str, ...], box_convs: int) -> str:
  """Our name of a module -> torchvision's."""
  part, *rest = modules
  if part == "encoder":
    return f"backbone.body.{resnet_module(tuple(rest))}"
  if (part, rest[0]) in _PREDICTORS:
    return _PREDICTORS[part, rest[0]]
  name, number = re.fullmatch(r"([a-z]+)(\d+)", rest[0]).groups()
  if name == "dense":
    # After the convolutions comes a layer that flattens.
    index = box_convs + 1 + 2 * int(number) if box_convs else None
    return f"roi_heads.box_head.{index or f'fc{6 + int(number)}'}"
  inner = _PARTS[rest[1]]
  if part == "fpn":
    return f"backbone.fpn.{name}_blocks.{number}{inner}"
  if part == "rpn":
    return f"rpn.head.conv.{number}{inner}"
  return f"roi_heads.{part}.{number}{inner}"


def _of_coco(key: str, value: np.ndarray, num_classes: int) -> np.ndarray:
  """The outputs of COCO's categories, if a model of as many reads all ids'."""
  count = _OUTPUTS.get(key, 0)
  if num_classes != len(COCO_IDS) or len(value) != count * _COCO_OUTPUTS:
    return value
  by_id = value.reshape(_COCO_OUTPUTS, count, *value.shape[1:])
  return by_id[list(COCO_IDS)].reshape(-1, *value.shape[1:])


def _read(
  state_dict: StateDict, flattened: str, num_classes: int
) -> dict[str, np.ndarray]:
  read = {}
  for key, value in state_dict.items():
    for old, new in _OLD_KEYS:
      key = re.sub(old, new, key)
    value = np.asarray(value)
    # One of another form stays as it is: its shape does not fit, either.
    with contextlib.suppress(ValueError, IndexError, TypeError):
      value = _laid_out(key, value, flattened, num_classes)
    read[key] = value
  return read


def _laid_out(
  key: str, value: np.ndarray, flattened: str, num_classes: int
) -> np.ndarray:
  """An array as PyTorch's layers of our kinds have it."""
  if key in _OUTPUTS:
    value = _of_coco(key, value, num_classes)
  if key in _POINTWISE:
    value = value[:, :, 0, 0]
  elif key == flattened:
    value = value.reshape(len(value), -1, *_POOLED)
    value = value.transpose(0, 2, 3, 1).reshape(len(value), -1)
  elif key == _UP:
    value = value.transpose(2, 3, 1, 0).reshape(-1, len(value))
  return value


def _write(state_dict: StateDict, flattened: str) -> dict[str, np.ndarray]:
  written = {}
  for key, value in state_dict.items():
    if key in _POINTWISE:
      value = value[:, :, None, None]
    elif key == flattened:
      value = value.reshape(len(value), *_POOLED, -1)
      value = value.transpose(0, 3, 1, 2).reshape(len(value), -1)
    elif key == _UP:
      value = value.reshape(2, 2, -1, value.shape[-1]).transpose(3, 2, 0, 1)
    written[key] = value
  return written


def rcnn_family(params: PyTree) -> Family:
  """Of `MaskRCNN`; without its mask head that one stays unread.

  Args:
    params: of the model.
  """
  box_convs = sum(name.startswith("conv") for name in params["box_head"])
  masks = "mask_head" in params
  # The layer that sees a box's cells in one row.
  flattened = _module(("box_head", "dense0"), box_convs) + ".weight"
  return Family(
    lambda modules: _module(modules, box_convs),
    "backbone.body.conv1",
    lambda key: not masks and key.startswith(_MASKS),
    functools.partial(
      _read,
      flattened=flattened,
      num_classes=params["box_head"]["logits"]["kernel"].shape[-1],
    ),
    functools.partial(_write, flattened=flattened),
  )


def rcnn(state_dict: StateDict, template: PyTree) -> PyTree:
  """Variables of a `MaskRCNN` from torchvision's, with old or new keys.

  A Faster R-CNN also takes those of a Mask R-CNN; 81 classes take 91 outputs,
  by category id.
  """
  return to_variables(state_dict, template, rcnn_family(template["params"]))


def rcnn_state_dict(variables: PyTree) -> dict[str, np.ndarray]:
  """torchvision's names and layout."""
  return to_state_dict(variables, rcnn_family(variables["params"]))
