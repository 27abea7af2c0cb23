"""Fields of instance segmentation and of object detection."""

import re

import ml_collections

from segsiam_jax.errors import shown
from segsiam_jax.fields import semantic
from segsiam_jax.fields.base import Fail, Field, one_of, pair, some, within
from segsiam_jax.fields.encoders import WITH_PYRAMID, check_option

DATA_SETS = (
  "digit_scenes/classes",
  "digit_scenes/crowds",
  "folder",
  "coco",
  "lvis",
  "coco/2017",
)
NORMS = ("batch", "group", "none")
# Without masks.
_BOXES_ALONE = ("coco/2017",)


def canvas(text: str) -> tuple[int, int]:
  """(height, width) of a bucket such as '800x1344'."""
  height, width = text.split("x")
  return int(height), int(width)


def _five(value: tuple[float, ...]) -> str:
  return "" if len(value) == 5 and min(value) > 0 else "expected five sizes"


def _buckets(value: tuple[str, ...]) -> str:
  for text in value:
    if not re.fullmatch(r"[1-9]\d*x[1-9]\d*", text):
      return (
        f"expected HEIGHTxWIDTH, such as '800x1344', and {shown(text)} is none"
      )
    if any(length % 32 for length in canvas(text)):
      return f"{shown(text)}: both lengths must be multiples of 32"
  return ""


FIELDS: dict[str, Field] = {
  "data.name": Field(
    "digit_scenes/crowds",
    "data set, 'folder' of label images, or 'coco' for a folder in its format",
    one_of(*DATA_SETS),
  ),
  "data.class_names": Field(
    ("",), "of a folder, no background; () for the data set's own", empty=True
  ),
  "data.one_class": Field(
    "", "name of the one class of all objects; '' keeps theirs"
  ),
  "data.buckets": Field(
    ("96x96",), "HEIGHTxWIDTHs that images are brought to", _buckets
  ),
  "data.eval_buckets": Field(
    ("96x96",), "the same in evaluation; () for buckets", _buckets, empty=True
  ),
  "data.min_side": Field(
    0,
    "what the shorter side is scaled to; 0 to leave it",
    within(0, 2**16),
  ),
  "data.max_side": Field(
    0, "and the longer side at most; 0 for any length", within(0, 2**16)
  ),
  "data.max_objects": Field(
    100, "objects of an image to learn from, the largest", within(1, 10**4)
  ),
  "data.enlarge_only": Field(
    False, "whether larger images keep their size for all data.min_side"
  ),
  "data.stretch": Field(
    False, "each image's own range of brightness to 0..255, outliers cut off"
  ),
  "augment.scale": Field(
    (1.0, 1.0), "smallest, largest factor", pair("two factors", 0.01, True, 100)
  ),
  "augment.transpose": Field(
    False, "swap rows and columns of half; with both flips, all quarter turns"
  ),
  "augment.invert": Field(
    0.0, "share of images whose dark becomes bright", within(0, 1)
  ),
  "loss.rpn_objectness": Field(1.0, "weight", within(0)),
  "loss.rpn_box": Field(1.0, "weight", within(0)),
  "loss.roi_class": Field(1.0, "weight", within(0)),
  "loss.roi_box": Field(1.0, "weight", within(0)),
  "eval.max_detections": Field(
    100, "for AP_<N> beside COCO's numbers, where N is above 100", within(1)
  ),
  "predict.min_score": Field(
    0.5, "of detections in pictures; results have all", within(0, 1)
  ),
} | {
  f"augment.{name}": semantic.FIELDS[f"augment.{name}"]
  for name in (
    "flip_left_right",
    "flip_up_down",
    "brightness",
    "contrast",
    "noise",
  )
}

_MASKS: dict[str, Field] = {
  "model.mask_convs": Field(4, "of the mask head", within(0, 64)),
  "data.mask_size": Field(
    28, "side of the masks to learn from, cut to their boxes", within(1, 1024)
  ),
  "augment.copy_paste": Field(
    0.0, "share of images that get objects of another", within(0, 1)
  ),
  "loss.mask": Field(1.0, "weight", within(0)),
}

_DETECTOR: dict[str, Field] = {
  "model.encoder": Field("resnet50", "the backbone", one_of(*WITH_PYRAMID)),
  "model.encoder_width": Field(
    0, "channels of its first level; 0 for the published", within(0)
  ),
  "model.norm": Field(
    "frozen",
    "of the encoder; 'frozen' needs pretrained weights",
    one_of(*NORMS, "frozen"),
  ),
  "model.norm_epsilon": Field(
    1e-5, "of a ResNet's norms; 0 for torchvision's COCO weights", within(0)
  ),
  "model.head_norm": Field("none", "of pyramid and heads", one_of(*NORMS)),
  "model.width": Field(256, "channels of the pyramid", within(1)),
  "model.rpn_convs": Field(1, "of the region proposal network", within(1, 64)),
  "model.box_convs": Field(0, "of the box head", within(0, 64)),
  "model.box_widths": Field((1024, 1024), "of its dense layers", within(1)),
  "model.anchor_sizes": Field(
    (32, 64, 128, 256, 512), "of the five levels, in pixels", _five
  ),
  "model.aspect_ratios": Field(
    (0.5, 1.0, 2.0),
    "of the anchors, heights over widths",
    some(within(0.01, 100)),
  ),
  "model.rpn_pre_nms": Field(
    (2000, 1000),
    "best anchors of each level, in training and otherwise",
    pair("two numbers", 1, high=10**5),
  ),
  "model.rpn_post_nms": Field(
    (2000, 1000),
    "proposals of an image, in training and otherwise",
    pair("two numbers", 1, high=10**5),
  ),
  "model.rpn_threshold": Field(0.7, "of their suppression", within(0, 1)),
  "model.rpn_overlaps": Field(
    (0.3, 0.7),
    "an anchor is background below, on an object above",
    pair("two overlaps", 0, True),
  ),
  "model.rpn_samples": Field(
    256, "anchors an image to learn from", within(1, 10**5)
  ),
  "model.rpn_positives": Field(0.5, "of them on an object", within(0, 1)),
  "model.roi_overlaps": Field(
    (0.5, 0.5), "the same of proposals", pair("two overlaps", 0, True)
  ),
  "model.roi_samples": Field(512, "proposals to learn from", within(1, 10**5)),
  "model.roi_positives": Field(0.25, "of them on an object", within(0, 1)),
  "model.canonical_size": Field(
    224.0, "of the boxes that are read at stride 16", within(1)
  ),
  "model.sampling_ratio": Field(2, "samples a side of a bin", within(1, 16)),
  "model.aligned": Field(False, "whether RoIAlign's cells lie at centres"),
  "model.roi_method": Field(
    "gather", "of RoIAlign; 'matmul' suits TPUs", one_of("gather", "matmul")
  ),
  "model.roi_chunk": Field(
    0, "boxes that 'matmul' works on at a time, 0 for all", within(0)
  ),
  "model.score_threshold": Field(0.05, "of detections", within(0, 1)),
  "model.nms": Field(
    "hard",
    "suppression; 'linear' and 'gaussian' are Soft-NMS",
    one_of("hard", "linear", "gaussian"),
  ),
  "model.nms_threshold": Field(0.5, "overlap of detections", within(0, 1)),
  "model.max_candidates": Field(
    4000, "scored boxes that are looked at", within(1, 10**6)
  ),
  "model.max_detections": Field(100, "of an image", within(1, 10**5)),
  "model.remat": Field(False, "save memory, cost time"),
}

MODELS: dict[str, dict[str, Field]] = {
  "mask_rcnn": _DETECTOR | _MASKS,
  "faster_rcnn": _DETECTOR,
}


def check(config: ml_collections.ConfigDict, fail: Fail) -> None:
  """What no field can tell alone."""
  data = config.data
  if data.name in ("folder", "coco") and not data.dir:
    fail("data.dir", "the folder that holds the images is needed")
  if data.name == "folder" and not data.class_names:
    fail("data.class_names", "a folder needs the names of its classes")
  if data.name == "folder" and data.one_class:
    fail("data.one_class", "a folder has one class where class_names has one")
  if len(set(data.class_names)) != len(data.class_names):
    fail("data.class_names", "two classes have the same name")
  if not data.buckets:
    fail("data.buckets", "give one at least")
  if data.max_side and data.max_side < data.min_side:
    fail("data.max_side", f"below data.min_side = {data.min_side}")
  most = config.eval.max_detections
  if most > max(100, config.model.max_detections):
    fail(
      "eval.max_detections",
      f"the model returns model.max_detections = "
      f"{config.model.max_detections} at most: raise both",
    )
  if config.model.name == "mask_rcnn" and data.name in _BOXES_ALONE:
    fail("data.name", "has no masks; config.model.name = 'faster_rcnn' will do")
  check_option(config, "encoder_width", "base_width", fail)
