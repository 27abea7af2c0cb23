"""Fields of instance segmentation and of object detection."""

import re

import ml_collections

from segsiam_jax.errors import shown
from segsiam_jax.fields import augment, folders
from segsiam_jax.fields.base import (
  Fail,
  Field,
  Model,
  one_of,
  pair,
  some,
  within,
)
from segsiam_jax.fields.data_sets import INSTANCE
from segsiam_jax.fields.encoders import WITH_PYRAMID, check_option

NORMS = ("batch", "group", "none")


def canvas(text: str) -> tuple[int, int]:
  """(height, width) of a bucket such as '800x1344'."""
  height, width = text.split("x")
  return int(height), int(width)


def _five(value: tuple[float, ...]) -> str:
  return "" if len(value) == 5 and min(value) > 0 else "expected five sizes"


def _buckets(value: tuple[str, ...]) -> str:
  for text in value:
    if not re.fullmatch(r"[1-9]\d*x[1-9]\d*", text):
      return f"expected HEIGHTxWIDTH, such as '800x1344'; got {shown(text)}"
    if any(length % 32 for length in canvas(text)):
      return f"{shown(text)}: both lengths must be multiples of 32"
  return ""


FIELDS: dict[str, Field] = {
  "data.name": Field(
    "digit_scenes/crowds",
    "data set, 'folder' of label images, or 'coco' for a folder in its format",
    one_of(*INSTANCE),
  ),
  "data.class_names": Field(
    ("",),
    "class names without background; () uses the data set's own, or those of "
    "a folder's classes.csv",
    empty=True,
  ),
  "data.category_ids": Field(
    (1,), "of the classes, in files of results; filled in", empty=True
  ),
  "data.one_class": Field(
    "", "name of the one class to merge all classes into; '' keeps them"
  ),
  "data.buckets": Field(("96x96",), "HEIGHTxWIDTH shapes of batches", _buckets),
  "data.eval_buckets": Field(
    ("96x96",),
    "the same in evaluation; () uses data.buckets",
    _buckets,
    empty=True,
  ),
  "data.min_side": Field(
    0,
    "length that the shorter side is scaled to; 0 keeps the scale",
    within(0, 2**16),
  ),
  "data.max_side": Field(
    0, "largest length of the longer side; 0 for any length", within(0, 2**16)
  ),
  "data.max_objects": Field(
    100, "objects per image to train on; the largest are kept", within(1, 10**4)
  ),
  "data.enlarge_only": Field(False, "never shrink images to data.min_side"),
  "data.stretch": Field(
    False,
    "stretch each image's range of brightness to 0..255, without outliers",
  ),
  "augment.flip_up_down": augment.FLIP_UP_DOWN,
  "augment.scale": Field(
    (1.0, 1.0),
    "smallest and largest factor",
    pair("two factors", 0.01, True, 100),
  ),
  "augment.transpose": Field(
    False, "transpose half of the images; with both flips, all quarter turns"
  ),
  "augment.invert": Field(
    0.0, "share of images whose brightness is inverted", within(0, 1)
  ),
  "loss.rpn_objectness": Field(1.0, "weight", within(0)),
  "loss.rpn_box": Field(1.0, "weight", within(0)),
  "loss.roi_class": Field(1.0, "weight", within(0)),
  "loss.roi_box": Field(1.0, "weight", within(0)),
  "eval.max_detections": Field(
    100,
    "detections per image; above 100 adds AP_<N> to COCO's numbers",
    within(1),
  ),
  "predict.min_score": Field(
    0.5,
    "lowest score drawn in pictures; results have all detections",
    within(0, 1),
  ),
}

FIELDS |= augment.COMMON | folders.FIELDS

_MASKS: dict[str, Field] = {
  "model.mask_convs": Field(4, "convolutions of the mask head", within(0, 64)),
  "data.mask_size": Field(
    28,
    "side of the training masks, which are cropped to their boxes",
    within(1, 1024),
  ),
  "augment.copy_paste": Field(
    0.0, "share of images that receive objects of another image", within(0, 1)
  ),
  "loss.mask": Field(1.0, "weight", within(0)),
}

_DETECTOR: dict[str, Field] = {
  "model.encoder": Field("resnet50", "backbone", one_of(*WITH_PYRAMID)),
  "model.encoder_width": Field(
    0, "channels of its first level; 0 for the published width", within(0)
  ),
  "model.norm": Field(
    "frozen",
    "normalisation of the encoder; 'frozen' needs pretrained weights",
    one_of(*NORMS, "frozen"),
  ),
  "model.norm_epsilon": Field(
    1e-5,
    "epsilon of a ResNet's norms; 0 for torchvision's COCO weights",
    within(0),
  ),
  "model.head_norm": Field(
    "none", "normalisation of pyramid and heads", one_of(*NORMS)
  ),
  "model.width": Field(256, "channels of the pyramid", within(1)),
  "model.rpn_convs": Field(
    1, "convolutions of the region proposal network", within(1, 64)
  ),
  "model.box_convs": Field(0, "convolutions of the box head", within(0, 64)),
  "model.box_widths": Field(
    (1024, 1024), "widths of its dense layers", within(1)
  ),
  "model.anchor_sizes": Field(
    (32, 64, 128, 256, 512), "anchor sizes of the five levels in pixels", _five
  ),
  "model.aspect_ratios": Field(
    (0.5, 1.0, 2.0),
    "height over width of the anchors",
    some(within(0.01, 100)),
  ),
  "model.rpn_pre_nms": Field(
    (2000, 1000),
    "best anchors per level, in training and otherwise",
    pair("two numbers", 1, high=10**5),
  ),
  "model.rpn_post_nms": Field(
    (2000, 1000),
    "proposals per image, in training and otherwise",
    pair("two numbers", 1, high=10**5),
  ),
  "model.rpn_threshold": Field(
    0.7, "overlap at which proposals are suppressed", within(0, 1)
  ),
  "model.rpn_overlaps": Field(
    (0.3, 0.7),
    "overlap below which an anchor is background, above which an object",
    pair("two overlaps", 0, True),
  ),
  "model.rpn_samples": Field(
    256, "anchors per image to train on", within(1, 10**5)
  ),
  "model.rpn_positives": Field(
    0.5, "largest fraction of them on an object", within(0, 1)
  ),
  "model.roi_overlaps": Field(
    (0.5, 0.5), "the same for proposals", pair("two overlaps", 0, True)
  ),
  "model.roi_samples": Field(
    512, "proposals per image to train on", within(1, 10**5)
  ),
  "model.roi_positives": Field(
    0.25, "largest fraction of them on an object", within(0, 1)
  ),
  "model.canonical_size": Field(
    224.0, "size of boxes that use the level of stride 16", within(1)
  ),
  "model.sampling_ratio": Field(2, "samples per side of a bin", within(1, 16)),
  "model.aligned": Field(False, "place RoIAlign's cells at pixel centres"),
  "model.roi_method": Field(
    "gather",
    "method of RoIAlign; 'matmul' suits TPUs",
    one_of("gather", "matmul"),
  ),
  "model.roi_chunk": Field(
    0, "boxes that 'matmul' processes at a time; 0 for all", within(0)
  ),
  "model.score_threshold": Field(
    0.05, "lowest score of a detection", within(0, 1)
  ),
  "model.nms": Field(
    "hard",
    "suppression; 'linear' and 'gaussian' are Soft-NMS",
    one_of("hard", "linear", "gaussian"),
  ),
  "model.nms_threshold": Field(
    0.5, "overlap at which detections are suppressed", within(0, 1)
  ),
  "model.max_candidates": Field(
    4000, "largest number of scored boxes before suppression", within(1, 10**6)
  ),
  "model.max_detections": Field(100, "detections per image", within(1, 10**5)),
  "model.remat": Field(False, "recompute activations: less memory, more time"),
}

_MAKE = "segsiam_jax.models.mask_rcnn:MaskRCNN"
MODELS = {
  "mask_rcnn": Model(_MAKE, _DETECTOR | _MASKS),
  "faster_rcnn": Model(_MAKE, _DETECTOR),
}


def check(config: ml_collections.ConfigDict, fail: Fail) -> None:
  """What no field can tell alone."""
  data = config.data
  if INSTANCE[data.name].folder and not data.dir:
    fail("data.dir", "the folder that holds the images is needed")
  folders.check(config, fail)
  if data.name == "folder" and data.one_class:
    fail("data.one_class", "a folder has one class where class_names has one")
  if len(set(data.class_names)) != len(data.class_names):
    fail("data.class_names", "two classes have the same name")
  ids = data.category_ids
  if ids and len(ids) != len(data.class_names):
    fail("data.category_ids", "expected one per class, or ()")
  if not data.buckets:
    fail("data.buckets", "give at least one")
  if data.max_side and data.max_side < data.min_side:
    fail("data.max_side", f"below data.min_side = {data.min_side}")
  most = config.eval.max_detections
  if most > max(100, config.model.max_detections):
    fail(
      "eval.max_detections",
      f"the model returns model.max_detections = "
      f"{config.model.max_detections} at most: raise both",
    )
  if config.model.name == "mask_rcnn" and not INSTANCE[data.name].masks:
    fail("data.name", "has no masks; config.model.name = 'faster_rcnn' will do")
  check_option(config, "encoder_width", "base_width", fail)
