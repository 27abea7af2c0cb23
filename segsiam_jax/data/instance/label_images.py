"""Folders of images with instance-label images beside them."""

import logging
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy import ndimage

from segsiam_jax.data import images, layouts, listing, splits
from segsiam_jax.data.broken import Broken, suggest_skipping
from segsiam_jax.data.folders import (
  by_stem,
  check_same_size,
  real_paths,
)
from segsiam_jax.data.instance.annotations import Annotations, Crop
from segsiam_jax.errors import UserError, shown
from segsiam_jax.files import text_files

_logger = logging.getLogger(__name__)

CLASSES_FILE = "classes.csv"
_COLUMNS = ["image", "label", "class"]
_MOST_IDS = 2**20


class InstanceFolderSource:
  """`ROOT/NAME/images/a.png` with `ROOT/NAME/labels/a.png`, matched by name.

  Labels hold a number for every object, below 2^31, and 0 for the background.
  All objects are of one class, or `ROOT/NAME/classes.csv` says what each is, in
  lines `image,label,class` such as `a,17,cell` under a line with these words.
  Every pair is checked when the source is opened.

  Attributes:
    class_names: as given.
    category_ids: from 1.
    sizes: (length, 2) heights and widths.
    paths: (image, labels) files, sorted by name.
  """

  def __init__(
    self,
    root: str,
    split: str,
    class_names: tuple[str, ...],
    image_format: images.ImageFormat | None = None,
    skip_broken: bool = False,
    layout: layouts.Layout = layouts.USUAL,
  ):
    """Lists and checks the pairs of a split.

    Args:
      root: folder that holds one folder a split.
      split: 'NAME', 'NAME[a:b]' with a and b counts or percentages as in TFDS.
      class_names: one name a class, without the background; () for those of
        the split's classes.csv, or else 'object'.
      image_format: that images come in; None for that of an 8-bit file.
      skip_broken: whether pairs that cannot be used are left out; a warning
        names them.
      layout: where images and labels are, see `layouts.find_pairs`.

    Raises:
      UserError: a file is missing or wrong.
    """
    self._format = image_format
    broken = Broken(skip_broken)
    pairs = layouts.find_pairs(root, split, "labels", broken, layout)
    # Of two images with the same labels, scores would know only one.
    by_stem([path for path, _ in pairs], "image")
    folder = pathlib.Path(root) / splits.parse(split).name
    file = folder / CLASSES_FILE
    self.class_names = tuple(class_names) or _named_in(file)
    self.category_ids = tuple(range(1, len(self.class_names) + 1))
    self._classes = _read_classes(file, self.class_names)
    checked = broken.good(pairs, self._check_pair)
    self.paths = [pair for pair, _ in checked]
    broken.warn(f"{root}, split {split!r}", "examples", len(self.paths))
    self.ids = tuple(image.name for image, _ in self.paths)
    sizes, numbers = zip(*(result for _, result in checked), strict=True)
    self.sizes = np.array(sizes, np.int64)
    white = [
      path
      for (_, path), found in zip(self.paths, numbers, strict=True)
      if found == [255]
    ]
    if white:
      _logger.warning(
        "%s: the only values are 0 and 255 (so in %d of %d files), so "
        "all white pixels form one object; number the objects from 1",
        white[0],
        len(white),
        len(self.paths),
      )

  def __len__(self) -> int:
    return len(self.paths)

  def __getitem__(self, index: int) -> dict[str, Any]:
    with suggest_skipping():
      image = images.read_as(self.paths[index][0], self._format)
      return {"image": image, "objects": self.annotations(index)}

  def keys(self) -> list[str]:
    """See `sources.Source`."""
    return real_paths(image for image, _ in self.paths)

  def annotations(self, index: int) -> Annotations:
    """The objects of an image, without reading it."""
    path = self.paths[index][1]
    labels = images.read_instances(path)
    crops, classes = [], []
    for number, window in _objects(labels):
      mask = labels[window] == number
      crops.append(Crop(window[0].start, window[1].start, mask))
      classes.append(self._class_of(path, number))
    return Annotations(
      id=path.stem,
      size=labels.shape,
      boxes=np.array([c.box for c in crops], np.float32).reshape(-1, 4),
      classes=np.array(classes, np.int32),
      is_crowd=np.zeros(len(crops), bool),
      masks=crops,
    )

  def _class_of(self, path: pathlib.Path, number: int) -> int:
    if self._classes is None:
      return 1
    return self._classes[listing.same(path.stem), number]

  def _check_pair(
    self, pair: tuple[pathlib.Path, pathlib.Path]
  ) -> tuple[tuple[int, int], list[int]]:
    """The size of the labels, and the numbers of their objects."""
    image_path, path = pair
    labels = images.read_instances(path)
    image = images.read_as(image_path, self._format)
    check_same_size(image_path, image, path, labels.shape)
    numbers = np.unique(labels[labels > 0]).tolist()
    if self._classes is not None:
      for number in numbers:
        if (listing.same(path.stem), number) not in self._classes:
          raise UserError(
            f"{path.parents[1] / CLASSES_FILE}: has no line for label {number} "
            f"of {path.stem}"
          )
    return labels.shape, numbers


def _objects(labels: np.ndarray) -> Iterator[tuple[int, tuple[slice, slice]]]:
  """The numbers above 0 in (H, W) int32, ascending, and where they are."""
  numbers = range(int(labels.max()) + 1)
  if len(numbers) > _MOST_IDS:
    # Windows are found of all numbers up to the highest, present or not.
    numbers, places = np.unique(np.append(labels, 0), return_inverse=True)
    labels = places[:-1].reshape(labels.shape)
  windows = ndimage.find_objects(labels)
  for number, window in zip(numbers[1:], windows, strict=True):
    if window is not None:
      yield int(number), window


def _named_in(file: pathlib.Path) -> tuple[str, ...]:
  """The classes of a table, in alphabetical order."""
  if not file.is_file():
    return ("object",)
  rows = text_files.read_table(file, _COLUMNS)
  return tuple(sorted({row["class"] for _, row in rows}))


def _read_classes(
  file: pathlib.Path, class_names: tuple[str, ...]
) -> dict[tuple[str, int], int] | None:
  """Classes by image name and label; None where there is one class."""
  if not file.is_file():
    if len(class_names) > 1:
      raise UserError(
        f"{file}: not found; config.data.class_names has {len(class_names)} "
        f"classes, so it must say in lines {','.join(_COLUMNS)} what each "
        "object is"
      )
    return None
  classes: dict[tuple[str, int], int] = {}
  for line, row in text_files.read_table(file, _COLUMNS):
    where = f"{file}, line {line}"
    if row["class"] not in class_names:
      raise UserError(
        f"{where}: class {shown(row['class'])} is not in "
        "config.data.class_names"
      )
    label = text_files.whole_number(row["label"])
    if label is None:
      raise UserError(f"{where}: label {shown(row['label'])} is not a number")
    image = pathlib.PurePath(row["image"])
    has_suffix = listing.is_image_name(image.name)
    image = listing.same(image.stem if has_suffix else image.name)
    index = class_names.index(row["class"]) + 1
    if classes.setdefault((image, label), index) != index:
      raise UserError(
        f"{where}: label {label} of {shown(image)} is of another class in an "
        "earlier line"
      )
  return classes
