"""The objects of an image: the canonical instance example and its parts.

An instance source has, in addition to a `sources.Source`, two ways to read:
`source[index]` is a dictionary with `image` (H, W, C) uint8 and `objects`, an
`Annotations`; `source.annotations(index)` is only the latter, which needs no
image. `source.category_ids` are the classes' numbers in the data set's own
files. `source.sizes` is (length, 2) heights and widths, or None where only
decoding the images would tell. Class 0 is the background, so that class k is
`class_names[k - 1]`.
"""

import logging
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from segsiam_jax.errors import UserError
from segsiam_jax.metrics.image_objects import GroundTruth, encode_mask

_logger = logging.getLogger(__name__)


class Crop(NamedTuple):
  """A mask, cut to where it is.

  Attributes:
    top: row of the image that it starts at.
    left: column likewise.
    mask: (h, w) bool.
  """

  top: int
  left: int
  mask: np.ndarray

  @classmethod
  def of(cls, mask: np.ndarray, top: int = 0, left: int = 0) -> "Crop":
    """The part of a mask that has pixels; of none, nothing.

    Args:
      mask: (h, w) bool.
      top: where the mask itself starts.
      left: likewise.

    >>> Crop.of(np.eye(4)[1:2] > 0, top=1)
    Crop(top=1, left=1, mask=array([[ True]]))
    """
    ys, xs = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not ys.size:
      return cls(top, left, np.zeros((0, 0), bool))
    y, x = ys[0], xs[0]
    inside = mask[y : ys[-1] + 1, x : xs[-1] + 1] != 0
    return cls(top + int(y), left + int(x), inside)

  @property
  def box(self) -> tuple[int, int, int, int]:
    """(x1, y1, x2, y2) around it, in pixels of the image."""
    height, width = self.mask.shape
    return (self.left, self.top, self.left + width, self.top + height)

  def window(self) -> tuple[slice, slice]:
    """Where it lies in an image."""
    x1, y1, x2, y2 = self.box
    return slice(y1, y2), slice(x1, x2)

  def whole(self, size: tuple[int, int]) -> np.ndarray:
    """The mask of an image of (height, width) `size`: bool."""
    canvas = np.zeros(size, bool)
    canvas[self.window()] = self.mask
    return canvas


class Annotations(NamedTuple):
  """What is in an image.

  Attributes:
    id: of the image, unique in its source.
    size: (height, width) of the image in pixels.
    boxes: (N, 4) float32 (x1, y1, x2, y2) in pixels.
    classes: (N,) int32, from 1.
    is_crowd: (N,) bool, regions whose objects nobody separated.
    masks: N crops, or None for boxes only.
    areas: (N,) float32 pixels, for the split of scores by size, or None: of
      the masks, else of the boxes.
    covered: (N,) float32 in [0, 1], how much of an object others cover, where
      the data set knows; None: see `covered_shares`.
  """

  id: int | str
  size: tuple[int, int]
  boxes: np.ndarray
  classes: np.ndarray
  is_crowd: np.ndarray
  masks: Sequence[Crop] | None
  areas: np.ndarray | None = None
  covered: np.ndarray | None = None

  def ground_truth(self) -> GroundTruth:
    """What average precision compares detections with; masks run-length."""
    masks = None
    if self.masks is not None:
      masks = [encode_mask(crop.whole(self.size)) for crop in self.masks]
    covered = covered_shares(self) if self.covered is None else self.covered
    return GroundTruth(
      boxes=self.boxes,
      classes=self.classes,
      masks=masks,
      is_crowd=self.is_crowd,
      areas=self.areas,
      covered=covered,
    )


class InstanceSource(Protocol):
  """See the module."""

  class_names: tuple[str, ...]
  category_ids: tuple[int, ...]
  sizes: np.ndarray | None

  def __len__(self) -> int: ...

  def __getitem__(self, index: int) -> dict[str, Any]: ...

  def keys(self) -> list[str]: ...

  def annotations(self, index: int) -> Annotations: ...


def check_objects(source: InstanceSource, where: str, train: bool) -> None:
  """Tells where a split has no object but crowds, which are none to learn.

  Args:
    source: of the split; read up to its first object.
    where: its name, for the message.
    train: whether it is trained on, which makes that an error.

  Raises:
    UserError: there is nothing to learn from.
  """
  for index in range(len(source)):
    if not source.annotations(index).is_crowd.all():
      return
  problem = f"there is no object in any of {len(source)} images"
  if train:
    raise UserError(
      f"{where}: {problem}, so there is nothing to learn; check the "
      "annotations, or choose other examples"
    )
  _logger.warning("%s: %s; average precision is undefined", where, problem)


def covered_shares(objects: Annotations) -> np.ndarray:
  """The share of each object's box that lies on other objects.

  Of their masks, or of their boxes where there are no masks. Crowds cover
  nothing.

  Returns:
    (N,) float32 in [0, 1].

  >>> boxes = np.array([[0, 0, 4, 4], [2, 0, 6, 4], [9, 9, 11, 11]], np.float32)
  >>> objects = Annotations(0, (12, 12), boxes, np.ones(3), np.zeros(3), None)
  >>> covered_shares(objects)
  array([0.5, 0.5, 0. ], dtype=float32)
  """
  counts = np.zeros(objects.size, np.int16)
  crops = []
  for index, box in enumerate(objects.boxes):
    x1, y1, x2, y2 = _on_pixels(box, objects.size)
    crop = Crop(y1, x1, np.ones((y2 - y1, x2 - x1), bool))
    if objects.masks is not None:
      crop = objects.masks[index]
    crops.append(crop)
    if not objects.is_crowd[index]:
      counts[crop.window()] += crop.mask
  shares = np.zeros(len(crops), np.float32)
  for index, (box, crop) in enumerate(zip(objects.boxes, crops, strict=True)):
    own = 0 if objects.is_crowd[index] else crop.mask
    counts[crop.window()] -= own
    x1, y1, x2, y2 = _on_pixels(box, objects.size)
    others = counts[y1:y2, x1:x2]
    shares[index] = (others > 0).mean() if others.size else 0.0
    counts[crop.window()] += own
  return shares


def _on_pixels(box: np.ndarray, size: tuple[int, int]) -> np.ndarray:
  """The pixels that a box covers by half at least: its corners rounded."""
  height, width = size
  rounded = np.rint(np.asarray(box, np.float64)).astype(int)
  return np.clip(rounded, 0, [width, height, width, height])


class OneClass:
  """A source whose objects are all of one class.

  Attributes:
    class_names: only that class.
    category_ids: 1.
    sizes: of the source.
  """

  def __init__(self, source: InstanceSource, name: str):
    self._source = source
    self.class_names = (name,)
    self.ids = getattr(source, "ids", ())
    self.category_ids = (1,)
    self.sizes = source.sizes

  def __len__(self) -> int:
    return len(self._source)

  def __getitem__(self, index: int) -> dict[str, Any]:
    example = self._source[index]
    return example | {"objects": _in_one(example["objects"])}

  def keys(self) -> list[str]:
    return self._source.keys()

  def annotations(self, index: int) -> Annotations:
    return _in_one(self._source.annotations(index))


def _in_one(objects: Annotations) -> Annotations:
  return objects._replace(classes=np.ones_like(objects.classes))
