"""Data sets in COCO's format: a folder of images and a JSON of instances."""

import json
import logging
import math
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from segsiam_jax.data import images, splits
from segsiam_jax.data.annotations import Annotations, Crop
from segsiam_jax.data.folders import real_paths
from segsiam_jax.errors import UserError, first_line

_logger = logging.getLogger(__name__)

_IMAGE_KEYS = ("id", "file_name", "height", "width")
_OBJECT_KEYS = ("image_id", "category_id", "bbox")


class CocoSource:
  """`DIR/NAME/*.jpg` with `DIR/annotations/instances_NAME.json`.

  That is how COCO itself is laid out; `DIR/NAME/images/*` with
  `DIR/NAME/instances.json` will do, too. Masks are polygons or run lengths,
  compressed or not; a set where nothing has a `segmentation` has boxes alone.
  Everything but the images' contents is checked when the source is opened.
  Boxes without an area are left out, and counted in the log.

  Attributes:
    class_names: of the categories, in the order of their ids.
    category_ids: those ids; class k is the category `category_ids[k - 1]`.
    sizes: (length, 2) heights and widths.
  """

  def __init__(
    self,
    root: str,
    split: str,
    image_format: images.ImageFormat | None = None,
    *,
    masks: bool = True,
  ):
    """Reads and checks a JSON.

    Args:
      root: the folder DIR.
      split: 'NAME', 'NAME[a:b]' or 'NAME[a%:b%]'.
      image_format: that images come in; None for that of an 8-bit file.
      masks: whether they are wanted, or boxes alone.

    Raises:
      UserError: a file is missing, or the JSON is not as it should be.
    """
    wanted = splits.parse(split)
    self._folder, file = _find(pathlib.Path(root), wanted.name)
    content = _load(file)
    categories = sorted(content["categories"], key=_by_id)
    self.category_ids = tuple(one["id"] for one in categories)
    self.class_names = tuple(str(one["name"]) for one in categories)
    known = sorted(content["images"], key=_by_id)
    by_image = _by_image(content, known, set(self.category_ids), file)
    self._images = wanted.part(known)
    if not self._images:
      raise UserError(f"{file}: split {split!r} selects no images")
    _check_files(self._folder, self._images, file)
    self.ids = tuple(str(one["file_name"]) for one in self._images)
    self.sizes = np.array(
      [(one["height"], one["width"]) for one in self._images], np.int64
    )
    self._file, self._format = file, image_format
    self._has_masks = masks and any(
      one.get("segmentation") for ones in by_image.values() for one in ones
    )
    if self._has_masks:
      for image in known:
        for one in by_image[image["id"]]:
          _check_segmentation(one, _size(image), file)
    # As text: a copy of a million dictionaries for every reading process would
    # take gigabytes.
    self._objects = [
      json.dumps(by_image[one["id"]]).encode() for one in self._images
    ]

  def __len__(self) -> int:
    return len(self._images)

  def __getitem__(self, index: int) -> dict[str, Any]:
    path = self._path(index)
    image = images.read_as(path, self._format)
    objects = self.annotations(index)
    if image.shape[:2] != objects.size:
      height, width = objects.size
      raise UserError(
        f"{path}: is {image.shape[0]}x{image.shape[1]}, but {self._file} says "
        f"{height}x{width} (height x width, turned as its EXIF orientation "
        "says)"
      )
    return {"image": image, "objects": objects}

  def _path(self, index: int) -> pathlib.Path:
    return self._folder / self._images[index]["file_name"]

  def keys(self) -> list[str]:
    """See `sources.Source`."""
    return real_paths(map(self._path, range(len(self))))

  def annotations(self, index: int) -> Annotations:
    """The objects of an image, without reading it."""
    image, objects = self._images[index], json.loads(self._objects[index])
    size = _size(image)
    boxes = np.array([one["bbox"] for one in objects], np.float32)
    boxes = boxes.reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    classes = {number: k for k, number in enumerate(self.category_ids, 1)}
    areas = None
    if all("area" in one for one in objects):
      areas = np.array([one["area"] for one in objects], np.float32)
    masks = None
    if self._has_masks:
      masks = [Crop.of(self._mask(one, size)) for one in objects]
    return Annotations(
      id=image["id"],
      size=size,
      boxes=boxes,
      classes=np.array([classes[one["category_id"]] for one in objects], int),
      is_crowd=np.array([bool(one.get("iscrowd", 0)) for one in objects], bool),
      masks=masks,
      areas=areas,
    )

  def _mask(self, one: Mapping[str, Any], size: tuple[int, int]) -> np.ndarray:
    try:
      return decode(one["segmentation"], size)
    except Exception as error:  # pycocotools raises `Exception` itself.
      raise UserError(
        f"{self._file}: annotation {one.get('id', one)}: its segmentation "
        f"cannot be read ({first_line(error)})"
      ) from error


def _by_id(one: Mapping[str, Any]) -> tuple[bool, Any]:
  """Sorts by id, numbers before words."""
  return isinstance(one["id"], str), one["id"]


def _size(image: Mapping[str, Any]) -> tuple[int, int]:
  return int(image["height"]), int(image["width"])


def decode(segmentation: Any, size: tuple[int, int]) -> np.ndarray:
  """A COCO segmentation as a mask.

  Args:
    segmentation: polygons `[[x, y, x, y, ...], ...]`, or run lengths
      `{"size", "counts"}` with counts in a list or compressed.
    size: (height, width) of the image.

  Returns:
    (H, W) bool.

  >>> decode([[0, 0, 2, 0, 2, 1, 0, 1]], (2, 3)).astype(int).tolist()
  [[1, 1, 0], [0, 0, 0]]
  """
  from pycocotools import mask as coco_mask

  if isinstance(segmentation, Mapping):
    counts = segmentation["counts"]
    if isinstance(counts, list):
      runs = coco_mask.frPyObjects(dict(segmentation), *size)
    else:
      counts = counts.encode() if isinstance(counts, str) else counts
      # Of too few pixels pycocotools makes a mask of whatever is in memory.
      if (pixels := run_pixels(counts)) != size[0] * size[1]:
        raise ValueError(f"{pixels} pixels of {size[0] * size[1]}")
      runs = {"size": list(size), "counts": counts}
  else:
    runs = coco_mask.merge(coco_mask.frPyObjects(segmentation, *size))
  return coco_mask.decode(runs) != 0


def run_pixels(counts: bytes) -> int:
  """How many pixels compressed run lengths are of.

  A number is 5 bits a byte, the lowest first, 32 added to all but its last
  byte; from the fourth number on it is the difference to the last but one.

  >>> run_pixels(b"06")
  6
  """
  values = np.frombuffer(counts, np.uint8).astype(np.int64) - 48
  last = (values & 0x20) == 0
  if not values.size or not last[-1]:
    return 0
  ends = np.flatnonzero(last)
  starts = np.concatenate([[0], ends[:-1] + 1])
  lengths = ends + 1 - starts
  shifts = 5 * (np.arange(len(values)) - np.repeat(starts, lengths))
  numbers = np.add.reduceat((values & 0x1F) << shifts, starts)
  negative = (values[ends] & 0x10) != 0
  numbers -= np.where(negative, 1 << (shifts[ends] + 5), 0)
  runs = [numbers[:1], *(numbers[k::2].cumsum() for k in (1, 2))]
  return int(sum(part.sum() for part in runs))


def _find(root: pathlib.Path, name: str) -> tuple[pathlib.Path, pathlib.Path]:
  """The folder of images and the JSON of a split."""
  layouts = (
    (root / name, root / "annotations" / f"instances_{name}.json"),
    (root / name / "images", root / name / "instances.json"),
  )
  for folder, file in layouts:
    if file.is_file():
      if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; {file} describes images")
      return folder, file
  raise UserError(
    f"{layouts[0][1]}: not found, nor {layouts[1][1]}; set config.data.dir to "
    "the folder that holds the images and annotations of the splits"
  )


def _load(file: pathlib.Path) -> dict[str, Any]:
  """The JSON, with the lists that an instances file has."""
  try:
    content = json.loads(file.read_bytes())
  except (OSError, ValueError) as error:
    raise UserError(f"{file}: not readable ({first_line(error)})") from error
  for name, keys in (
    ("images", _IMAGE_KEYS),
    ("categories", ("id", "name")),
    ("annotations", _OBJECT_KEYS),
  ):
    if not isinstance(content, dict) or not isinstance(content.get(name), list):
      raise UserError(
        f"{file}: has no list {name!r}; a COCO instances file has 'images', "
        "'annotations' and 'categories'"
      )
    for number, one in enumerate(content[name]):
      missing = [key for key in keys if key not in one]
      if missing:
        raise UserError(f"{file}: {name}[{number}] has no {missing[0]!r}")
  for name in ("images", "categories"):
    ids = [one["id"] for one in content[name]]
    if len(set(ids)) < len(ids):
      twice = next(one for one in ids if ids.count(one) > 1)
      raise UserError(f"{file}: two {name} have the id {twice}")
    if not ids:
      raise UserError(f"{file}: no {name} are in it")
  names = [one["name"] for one in content["categories"]]
  if len(set(names)) < len(names):
    twice = next(name for name in names if names.count(name) > 1)
    raise UserError(f"{file}: two categories have the name {twice!r}")
  return content


def _by_image(
  content: Mapping[str, Any],
  known: list[dict],
  category_ids: set[int],
  file: pathlib.Path,
) -> dict[Any, list[dict]]:
  """Objects with an area, by image id."""
  objects: dict[Any, list[dict]] = {one["id"]: [] for one in known}
  empty = 0
  for one in content["annotations"]:
    what = f"{file}: annotation {one.get('id', one)}"
    if one["image_id"] not in objects:
      raise UserError(
        f"{what}: image_id {one['image_id']} is none of the {len(known)} images"
      )
    if one["category_id"] not in category_ids:
      raise UserError(
        f"{what}: category_id {one['category_id']} is none of the "
        f"{len(category_ids)} categories"
      )
    if not _are_numbers(one["bbox"], 4):
      raise UserError(
        f"{what}: bbox {one['bbox']} is not [x, y, width, height]"
      )
    if min(one["bbox"][2:]) > 0:
      objects[one["image_id"]].append(one)
    else:
      empty += 1
  if empty:
    _logger.warning("%s: %d boxes without an area are left out", file, empty)
  return objects


def _are_numbers(value: Any, count: int | None = None) -> bool:
  return (
    isinstance(value, list)
    and all(
      isinstance(number, int | float) and math.isfinite(number)
      for number in value
    )
    and count in (None, len(value))
  )


def _check_segmentation(
  one: Mapping[str, Any], size: tuple[int, int], file: pathlib.Path
) -> None:
  what = f"{file}: annotation {one.get('id', one)}"
  segmentation = one.get("segmentation")
  if not segmentation:
    raise UserError(f"{what}: no segmentation, but others have one")
  if isinstance(segmentation, Mapping):
    counts = segmentation.get("counts")
    if not isinstance(counts, str) and not _are_numbers(counts):
      raise UserError(f"{what}: run lengths without 'counts'")
    if segmentation.get("size") != list(size):
      raise UserError(
        f"{what}: run lengths of size {segmentation.get('size')} in an image "
        f"of {list(size)} (height, width)"
      )
    if not isinstance(counts, str) and sum(counts) != size[0] * size[1]:
      raise UserError(
        f"{what}: run lengths of {sum(counts)} pixels in an image of "
        f"{size[0] * size[1]}"
      )
  elif not isinstance(segmentation, list) or any(
    not _are_numbers(polygon) or len(polygon) < 6 or len(polygon) % 2
    for polygon in segmentation
  ):
    raise UserError(
      f"{what}: a polygon is a list of at least three points [x, y, x, y, ...]"
    )


def _check_files(
  folder: pathlib.Path, known: list[dict], file: pathlib.Path
) -> None:
  present = set(os.listdir(folder))
  missing = [
    one["file_name"]
    for one in known
    if one["file_name"] not in present
    and not (folder / one["file_name"]).is_file()
  ]
  if missing:
    raise UserError(
      f"{folder}: {len(missing)} of {len(known)} images that {file} names are "
      f"not there, the first {missing[0]}"
    )
