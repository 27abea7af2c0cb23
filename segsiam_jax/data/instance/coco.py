"""Data sets in COCO's format: a folder of images and a JSON of instances."""

import json
import logging
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from segsiam_jax.data import images, listing, splits
from segsiam_jax.data.broken import Broken, suggest_skipping
from segsiam_jax.data.folders import real_paths
from segsiam_jax.data.instance import coco_json
from segsiam_jax.data.instance.annotations import Annotations, Crop
from segsiam_jax.errors import UserError, shown

_logger = logging.getLogger(__name__)


class CocoSource:
  """`DIR/NAME/*.jpg` with `DIR/annotations/instances_NAME.json`.

  That is how COCO itself is laid out; `DIR/NAME/images/*` with
  `DIR/NAME/instances.json` will do, too. Masks are polygons or run lengths,
  compressed or not; a set where nothing has a `segmentation` has boxes only.
  Everything but the images' contents is checked when the source is opened,
  and with `skip_broken` these, too: every image is decoded once.
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
    skip_broken: bool = False,
  ):
    """Reads and checks a JSON.

    Args:
      root: the folder DIR.
      split: 'NAME', 'NAME[a:b]' or 'NAME[a%:b%]'.
      image_format: that images come in; None for that of an 8-bit file.
      masks: whether they are needed, or boxes only.
      skip_broken: whether annotations and images that cannot be used are left
        out; a warning names them.

    Raises:
      UserError: a file is missing, or the JSON is not as it should be.
    """
    wanted = splits.parse(split)
    self._folder, file = _find(pathlib.Path(root), wanted.name)
    content = coco_json.read(file, skip_broken, masks)
    self.category_ids = tuple(one["id"] for one in content.categories)
    self.class_names = tuple(str(one["name"]) for one in content.categories)
    chosen = wanted.part(content.images)
    if not chosen:
      raise UserError(f"{file}: split {split!r} selects no images")
    self._file, self._format = file, image_format
    self._has_masks = masks and any(
      one.get("segmentation")
      for ones in content.objects.values()
      for one in ones
    )
    self._choose(chosen, content.faults, Broken(skip_broken))
    self.ids = tuple(str(one["file_name"]) for one in self._images)
    self.sizes = np.array(list(map(coco_json.size_of, self._images)), np.int64)
    # As text: a copy of a million dictionaries for every reading process would
    # take gigabytes.
    self._objects = [
      json.dumps(content.objects[one["id"]]).encode() for one in self._images
    ]

  def _choose(
    self,
    chosen: Sequence[dict[str, Any]],
    faults: Mapping[Any, str],
    broken: Broken,
  ) -> None:
    """Sets the images and their files, without those that cannot be used."""
    finder, found, missing = listing.Finder(self._folder), [], []
    with os.scandir(self._folder) as entries:
      present = {entry.name for entry in entries if entry.is_file()}
    for one in chosen:
      if fault := faults.get(one["id"]):
        broken.add(fault)
        continue
      name = one["file_name"]
      if name in present or (name := finder.find(name)):
        found.append((one, name))
      else:
        missing.append(one["file_name"])
    if missing and not broken.skip:
      broken.add(
        f"{self._folder}: {len(missing)} of {len(chosen)} images that "
        f"{self._file} names are not there, the first {shown(missing[0])}"
      )
    for name in missing:
      broken.add(f"{self._folder}: no image {shown(name)}")
    if broken.skip:
      _logger.info("%s: every image is read once", self._folder)
      found = [pair for pair, _ in broken.good(found, self._check)]
    self._images = [one for one, _ in found]
    self._names = [name for _, name in found]
    broken.warn(self._folder, "images", len(found))

  def _check(self, image: tuple[dict[str, Any], str]) -> None:
    self._read(*image)

  def _read(self, known: dict[str, Any], name: str) -> np.ndarray:
    path = self._folder / name
    image = images.read_as(path, self._format)
    height, width = coco_json.size_of(known)
    if image.shape[:2] != (height, width):
      raise UserError(
        f"{path}: is {image.shape[0]}x{image.shape[1]}, but {self._file} says "
        f"{height}x{width} (height x width, rotated as its EXIF orientation "
        "says)"
      )
    return image

  def __len__(self) -> int:
    return len(self._images)

  def __getitem__(self, index: int) -> dict[str, Any]:
    with suggest_skipping():
      image = self._read(self._images[index], self._names[index])
    return {"image": image, "objects": self.annotations(index)}

  def keys(self) -> list[str]:
    """See `sources.Source`."""
    return real_paths(self._folder / name for name in self._names)

  def annotations(self, index: int) -> Annotations:
    """The objects of an image, without reading it."""
    image, objects = self._images[index], json.loads(self._objects[index])
    size = coco_json.size_of(image)
    boxes = np.array([one["bbox"] for one in objects], np.float32)
    boxes = boxes.reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    classes = {number: k for k, number in enumerate(self.category_ids, 1)}
    areas = None
    if all(one.get("area") is not None for one in objects):
      areas = np.array([one["area"] for one in objects], np.float32)
    masks = None
    if self._has_masks:
      masks = [decode(one["segmentation"], size) for one in objects]
    return Annotations(
      id=image["id"],
      size=size,
      boxes=boxes,
      classes=np.array([classes[one["category_id"]] for one in objects], int),
      is_crowd=np.array([bool(one.get("iscrowd", 0)) for one in objects], bool),
      masks=masks,
      areas=areas,
    )


def decode(segmentation: Any, size: tuple[int, int]) -> Crop:
  """A COCO segmentation as a mask, in the memory of its columns.

  Args:
    segmentation: that `coco_json.segmentation_fault` finds nothing wrong with:
      polygons `[[x, y, x, y, ...], ...]`, or run lengths
      `{"size", "counts"}` with counts in a list or compressed.
    size: (height, width) of the image.

  >>> decode([[1, 0, 3, 0, 3, 1, 1, 1]], (2, 4))
  Crop(top=0, left=1, mask=array([[ True,  True]]))
  """
  from pycocotools import mask as coco_mask

  height, _ = size
  if isinstance(segmentation, Mapping):
    counts = segmentation["counts"]
    runs = {"size": list(size), "counts": counts}
    if isinstance(counts, list):
      runs["counts"] = list(map(int, counts))
      runs = coco_mask.frPyObjects(runs, *size)
  else:
    runs = coco_mask.merge(coco_mask.frPyObjects(segmentation, *size))
  counts = runs["counts"]
  counts = counts.encode() if isinstance(counts, str) else counts
  # Runs go down the columns, outside and inside in turns.
  lengths = coco_json.run_lengths(counts)
  filled = np.flatnonzero(lengths * (np.arange(len(lengths)) % 2))
  if not filled.size:
    return Crop(0, 0, np.zeros((0, 0), bool))
  ends = np.cumsum(lengths)
  left = int(ends[filled[0] - 1]) // height
  width = int(ends[filled[-1]] - 1) // height + 1 - left
  first, last = left * height, (left + width) * height
  lengths = np.diff(np.clip(ends, first, last), prepend=first)
  inside = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
  # What is behind the last run is outside.
  inside = np.pad(inside, (0, last - first - len(inside)))
  return Crop.of(inside.reshape(width, height).T, 0, left)


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
