"""TFDS catalogue examples -> this project's canonical examples.

One small adapter for each data set says which features hold the image and the
label, what the label's values mean, and what the classes are called. Features
that are not named are never decoded.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from segsiam_jax.data.builders import digit_scenes

IGNORE_LABEL = 255


def identity(label: np.ndarray) -> np.ndarray:
  return label


class Adapter(NamedTuple):
  """How a TFDS data set becomes ours.

  Attributes:
    image: name of the feature with the encoded image.
    label: name of the feature with the encoded mask.
    to_index: (H, W) uint8 mask -> (H, W) uint8 class indices, 255 = ignore.
    class_names: one name a class, by index.
    download: how to get the data, for the error when they are not there.
  """

  image: str
  label: str
  to_index: Callable[[np.ndarray], np.ndarray]
  class_names: tuple[str, ...]
  download: str


def _oxford_iiit_pet(label: np.ndarray) -> np.ndarray:
  """Trimap values 1 pet, 2 background, 3 border become 0, 1, 2.

  There is no 0, which is not a class: it must not wrap to the ignore label.
  """
  return np.where(label > 0, label - np.uint8(1), np.uint8(IGNORE_LABEL - 1))


CITYSCAPES_CLASSES = (
  "road",
  "sidewalk",
  "building",
  "wall",
  "fence",
  "pole",
  "traffic light",
  "traffic sign",
  "vegetation",
  "terrain",
  "sky",
  "person",
  "rider",
  "car",
  "truck",
  "bus",
  "train",
  "motorcycle",
  "bicycle",
)
# labelIds of the 19 evaluated classes, in the order of their trainIds
# (cityscapesScripts, helpers/labels.py). All other ids are ignored.
CITYSCAPES_LABEL_IDS = (
  *(7, 8, 11, 12, 13, 17, 19, 20, 21, 22),
  *(23, 24, 25, 26, 27, 28, 31, 32, 33),
)
_CITYSCAPES_TRAIN_IDS = np.full(256, IGNORE_LABEL, np.uint8)
_CITYSCAPES_TRAIN_IDS[list(CITYSCAPES_LABEL_IDS)] = np.arange(19)


def _cityscapes(label: np.ndarray) -> np.ndarray:
  """The labelIds of the 19 evaluated classes become their trainIds."""
  return _CITYSCAPES_TRAIN_IDS[label]


def _caltech_birds2011(label: np.ndarray) -> np.ndarray:
  """The mask is the share of annotators, 0..255; the majority decides."""
  return (label > 127).astype(np.uint8)


_OURS = "it is prepared on first use"

SEMANTIC: dict[str, Adapter] = {
  "digit_scenes/trimap": Adapter(
    image="image",
    label="segmentation_mask",
    to_index=identity,
    class_names=digit_scenes.TRIMAP_CLASSES,
    download=_OURS,
  ),
  "digit_scenes/classes": Adapter(
    image="image",
    label="segmentation_mask",
    to_index=identity,
    class_names=digit_scenes.DIGIT_CLASSES,
    download=_OURS,
  ),
  "oxford_iiit_pet": Adapter(
    image="image",
    label="segmentation_mask",
    to_index=_oxford_iiit_pet,
    class_names=("pet", "background", "border"),
    download="tfds build oxford_iiit_pet --file_format=array_record",
  ),
  "cityscapes": Adapter(
    image="image_left",
    label="segmentation_label",
    to_index=_cityscapes,
    class_names=CITYSCAPES_CLASSES,
    download=(
      "download the zips by hand (see the TFDS catalogue), then "
      "tfds build cityscapes --file_format=array_record"
    ),
  ),
  "caltech_birds2011": Adapter(
    image="image",
    label="segmentation_mask",
    to_index=_caltech_birds2011,
    class_names=("background", "bird"),
    download="tfds build caltech_birds2011 --file_format=array_record",
  ),
}
