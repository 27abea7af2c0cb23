"""TFDS data sets with objects -> canonical instance examples.

One small adapter for each data set says which features are read and what they
mean, as `data.adapters` does for masks.
"""

import io
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from segsiam_jax.data import images
from segsiam_jax.data.builders import digit_scenes
from segsiam_jax.data.instance.annotations import Annotations, Crop
from segsiam_jax.data.tfds_records import TfdsRecords

Size = tuple[int, int]


class InstanceAdapter(NamedTuple):
  """How a TFDS data set becomes ours.

  Attributes:
    id: name of the feature with the image's id.
    objects: (record, its image's size) -> annotations.
    download: how to get the data, for the error when they are not there.
    class_names: one name a class; () for the names that TFDS keeps.
    category_ids: of the classes in the data set's own files; () for 1, 2, ...
  """

  id: str
  objects: Callable[[Mapping[str, Any], Size], Annotations]
  download: str
  class_names: tuple[str, ...] = ()
  category_ids: tuple[int, ...] = ()


class TfdsInstances:
  """A prepared TFDS data set, read without TensorFlow.

  Attributes:
    class_names: one name a class.
    category_ids: those of the data set's own files.
    sizes: (length, 2) heights and widths where all images have one size, else
      None.
  """

  def __init__(self, name: str, split: str, data_dir: str | None = None):
    """Opens a split, and prepares the data set first where we ship it.

    Args:
      name: a key of `INSTANCE`.
      split: TFDS split, such as 'train', 'test' or 'train[:10%]'.
      data_dir: where TFDS keeps its data; None is its own default.
    """
    self._adapter = adapter = INSTANCE[name]
    self._records = TfdsRecords(
      name,
      split,
      ("image", adapter.id, "objects"),
      data_dir=data_dir,
      download=adapter.download,
    )
    features = self._records.features
    names = adapter.class_names or features["objects"].feature["label"].names
    self.class_names = tuple(names)
    self.category_ids = adapter.category_ids or tuple(range(1, len(names) + 1))
    size = features["image"].shape[:2]
    self.sizes = None
    if None not in size:
      self.sizes = np.tile(size, (len(self._records), 1))

  def __len__(self) -> int:
    return len(self._records)

  def __getitem__(self, index: int) -> dict[str, Any]:
    record = self._records[index]
    image = images.read_image(io.BytesIO(record["image"]))
    objects = self._adapter.objects(record, image.shape[:2])
    return {"image": image, "objects": objects}

  def keys(self) -> list[str]:
    """See `sources.Source`."""
    return self._records.keys()

  def annotations(self, index: int) -> Annotations:
    """The objects of an image, without decoding it."""
    record = self._records[index]
    # Pillow reads the header alone.
    with Image.open(io.BytesIO(record["image"])) as image:
      size = image.size[::-1]
    return self._adapter.objects(record, size)


def _digit_scenes(record: Mapping[str, Any], size: Size) -> Annotations:
  """What is seen of every digit, as COCO annotates: not what is hidden."""
  objects = record["objects"]
  hidden = np.zeros(size, bool)
  masks, covered = [], []
  # From the top of the pile to its bottom.
  for index in np.argsort(objects["order"])[::-1]:
    x1, y1 = objects["box"][index][:2].astype(int)
    whole = Crop(y1, x1, _read_mask(objects["mask"][index]))
    below = hidden[whole.window()]
    seen = whole.mask & ~below
    masks.append(Crop.of(seen, y1, x1))
    covered.append(1 - seen.sum() / whole.mask.sum())
    below |= whole.mask
  masks, covered = masks[::-1], covered[::-1]
  order = np.argsort(objects["order"])
  return Annotations(
    id=int(record["id"]),
    size=size,
    boxes=np.array([crop.box for crop in masks], np.float32).reshape(-1, 4),
    classes=objects["label"][order].astype(np.int32) + 1,
    is_crowd=np.zeros(len(masks), bool),
    masks=masks,
    covered=np.array(covered, np.float32),
  )


def _lvis(record: Mapping[str, Any], size: Size) -> Annotations:
  crops = [Crop.of(_read_mask(m)) for m in record["objects"]["segmentation"]]
  return _coco_boxes(record, size)._replace(masks=crops)


def _coco_boxes(record: Mapping[str, Any], size: Size) -> Annotations:
  """TFDS boxes are (y1, x1, y2, x2) as fractions of the image."""
  objects = record["objects"]
  height, width = size
  boxes = np.reshape(objects["bbox"], (-1, 4))[:, [1, 0, 3, 2]]
  scale = np.array([width, height, width, height], np.float32)
  return Annotations(
    id=int(record["image/id"]),
    size=size,
    boxes=(boxes * scale).astype(np.float32),
    classes=objects["label"].astype(np.int32) + 1,
    is_crowd=objects.get("is_crowd", np.zeros(len(boxes))).astype(bool),
    masks=None,
    areas=objects["area"].astype(np.float32),
  )


def _read_mask(png: bytes) -> np.ndarray:
  with Image.open(io.BytesIO(png)) as image:
    return np.asarray(image) != 0


# Of COCO's 80 classes: TFDS counts them without the gaps.
_COCO_IDS = tuple(
  number
  for number in range(1, 91)
  if number not in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)
)

_DIGITS = InstanceAdapter(
  id="id",
  objects=_digit_scenes,
  download="it is prepared on first use",
  class_names=digit_scenes.DIGIT_CLASSES[1:],
)

INSTANCE: dict[str, InstanceAdapter] = {
  "digit_scenes/classes": _DIGITS,
  "digit_scenes/crowds": _DIGITS,
  "lvis": InstanceAdapter(
    id="image/id",
    objects=_lvis,
    download="tfds build lvis --file_format=array_record",
  ),
  "coco/2017": InstanceAdapter(
    id="image/id",
    objects=_coco_boxes,
    download="tfds build coco/2017 --file_format=array_record",
    category_ids=_COCO_IDS,
  ),
}
