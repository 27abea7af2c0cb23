"""COCO's JSON of instances, read and checked.

What passes is safe for pycocotools, which is C and checks little: it crashes on
polygons far outside an image, and makes masks of whatever is in memory.
"""

import logging
import pathlib
import posixpath
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from segsiam_jax.data.broken import Broken
from segsiam_jax.errors import UserError, first_line, shown
from segsiam_jax.files import text_files

_logger = logging.getLogger(__name__)

# pycocotools counts pixels with 32 bits, and makes points of polygons five to a
# pixel.
_MOST_PIXELS = 2**31 - 1
_FARTHEST = 10**8
_LONGEST_POLYGON = 10**7
_MOST_BITS = 63
# Bytes of a compressed run: five bits each.
_MOST_BYTES_OF_RUN = 7


class Instances(NamedTuple):
  """What a file holds.

  Attributes:
    categories: sorted by id.
    images: sorted by id.
    faults: of images, by id: why one cannot be used.
    objects: with an area, by the id of their image.
  """

  categories: list[dict[str, Any]]
  images: list[dict[str, Any]]
  faults: dict[Any, str]
  objects: dict[Any, list[dict[str, Any]]]


def read(file: pathlib.Path, skip_broken: bool, masks: bool) -> Instances:
  """Reads a file and checks all of it but the images.

  Args:
    file: the JSON.
    skip_broken: whether annotations that cannot be used are left out, and
      counted and named in one warning; images that cannot be used are `faults`
      then.
    masks: whether segmentations are needed. They are checked if any object has
      one.

  Raises:
    UserError: with the place in the file.
  """
  content = text_files.read_json(file)
  _check_lists(content, file)
  for name in ("images", "categories"):
    _check_ids(content[name], name, file)
  _check_names(content["categories"], file)
  faults = dict(_image_faults(content["images"], file))
  if faults:
    Broken(skip_broken).add(next(iter(faults.values())))
  broken = Broken(skip_broken)
  objects = _by_image(content, faults, file, broken, masks)
  total = len(content["annotations"])
  broken.warn(file, "annotations", total - broken.count)
  return Instances(
    sorted(content["categories"], key=_by_id),
    sorted(content["images"], key=_by_id),
    faults,
    objects,
  )


def size_of(image: Mapping[str, Any]) -> tuple[int, int]:
  """(height, width) of an entry of 'images'."""
  return int(image["height"]), int(image["width"])


def _by_id(one: Mapping[str, Any]) -> tuple[bool, Any]:
  """Sorts by id, numbers before words."""
  return isinstance(one["id"], str), one["id"]


def _check_lists(content: Any, file: pathlib.Path) -> None:
  for name in ("images", "categories", "annotations"):
    if not isinstance(content, dict) or not isinstance(content.get(name), list):
      raise UserError(
        f"{file}: has no list {name!r}; a COCO instances file has 'images', "
        "'annotations' and 'categories'"
      )
    if not content[name] and name != "annotations":
      raise UserError(f"{file}: no {name} are in it")


def _check_ids(entries: Sequence[Any], name: str, file: pathlib.Path) -> None:
  """Each is an object with all its keys and an id of its own."""
  known = set()
  for index, one in enumerate(entries):
    where = f"{file}: {name}[{index}]"
    if complaint := _missing(one, ("id",)):
      raise UserError(f"{where}: {complaint}")
    if not _is_id(one["id"]):
      raise UserError(
        f"{where}: id {shown(one['id'])} is neither an integer nor a name"
      )
    if one["id"] in known:
      raise UserError(
        f"{where}: two {name} have the id {shown(one['id'])}; renumber them"
      )
    known.add(one["id"])


def _missing(one: Any, keys: Sequence[str]) -> str:
  if not isinstance(one, dict):
    return f"{shown(one)} is not an object with {', '.join(keys)}"
  missing = [key for key in keys if key not in one]
  return f"has no {missing[0]!r}" if missing else ""


def _check_names(categories: Sequence[dict], file: pathlib.Path) -> None:
  known = set()
  for index, one in enumerate(categories):
    name, where = one.get("name"), f"{file}: categories[{index}]"
    if not (_is_whole(name) or (isinstance(name, str) and name.strip())):
      raise UserError(f"{where}: name {shown(name)} is not a name")
    if str(name) in known:
      raise UserError(
        f"{where}: two categories have the name {shown(str(name))}; give each "
        "its own"
      )
    known.add(str(name))


def _image_faults(
  images: Sequence[dict], file: pathlib.Path
) -> Iterator[tuple[Any, str]]:
  names = set()
  for index, one in enumerate(images):
    where = f"{file}: images[{index}]"
    if complaint := _missing(one, ("file_name", "height", "width")):
      yield one["id"], f"{where}: {complaint}"
      continue
    name, size = one["file_name"], (one["height"], one["width"])
    if not isinstance(name, str) or not name:
      yield one["id"], f"{where}: file_name {shown(name)} is not a file name"
      continue
    path = posixpath.normpath(name)
    if path in names:
      yield one["id"], f"{where}: two images have the file_name {shown(name)}"
    elif not all(_is_whole(length) and length >= 1 for length in size):
      yield (
        one["id"],
        f"{where}: height {shown(size[0])} and width {shown(size[1])} are not "
        "numbers of pixels",
      )
    elif size[0] * size[1] > _MOST_PIXELS:
      yield (
        one["id"],
        f"{where}: {size[0]}x{size[1]} are more than {_MOST_PIXELS} pixels",
      )
    names.add(path)


def _by_image(
  content: Mapping[str, list],
  faults: Mapping[Any, str],
  file: pathlib.Path,
  broken: Broken,
  masks: bool,
) -> dict[Any, list[dict]]:
  """Objects with an area, by image id."""
  sizes = {
    one["id"]: None if one["id"] in faults else size_of(one)
    for one in content["images"]
  }
  objects: dict[Any, list[dict]] = {image_id: [] for image_id in sizes}
  category_ids = {one["id"] for one in content["categories"]}
  masks = masks and any(
    _box_fault(one) == "" and _has_area(one) and one.get("segmentation")
    for one in content["annotations"]
  )
  known, empty = set(), 0
  for index, one in enumerate(content["annotations"]):
    complaint = _object_fault(one, sizes, category_ids, known)
    if not complaint:
      known.add(one.get("id"))
      size = sizes[one["image_id"]]
      if size is None:
        continue
      if not _has_area(one):
        empty += 1
        continue
      if masks:
        complaint = segmentation_fault(one.get("segmentation"), size)
    if complaint:
      broken.add(f"{_named(one, index, file)}: {complaint}")
    else:
      objects[one["image_id"]].append(one)
  if empty:
    _logger.warning("%s: %d boxes without an area are left out", file, empty)
  return objects


def _has_area(one: Mapping[str, Any]) -> bool:
  return min(one["bbox"][2:]) > 0


def _named(one: Any, index: int, file: pathlib.Path) -> str:
  if isinstance(one, dict) and _is_id(one.get("id")):
    return f"{file}: annotation {shown(one['id'])}"
  return f"{file}: annotations[{index}]"


def _object_fault(
  one: Any,
  images: Collection[Any],
  category_ids: Collection[Any],
  known: Collection[Any],
) -> str:
  """What is wrong with an annotation beside its segmentation, or ''."""
  if complaint := _missing(one, ("image_id", "category_id", "bbox")):
    return complaint
  if "id" in one and not _is_id(one["id"]):
    return f"id {shown(one['id'])} is neither an integer nor a name"
  if "id" in one and one["id"] in known:
    return "two annotations have this id; renumber them"
  for name, others in (("image_id", images), ("category_id", category_ids)):
    if not _is_id(one[name]) or one[name] not in others:
      kind = "images" if name == "image_id" else "categories"
      return f"{name} {shown(one[name])} is not one of the {len(others)} {kind}"
  if complaint := _box_fault(one):
    return complaint
  area = one.get("area")
  if area is not None and not (_is_number(area) and area >= 0):
    return f"area {shown(area)} is not a number of pixels"
  if one.get("iscrowd") not in (0, 1, None):
    return f"iscrowd {shown(one['iscrowd'])} is neither 0 nor 1"
  return ""


def _box_fault(one: Any) -> str:
  box = one.get("bbox") if isinstance(one, dict) else None
  if not _are_numbers(box) or len(box) != 4:
    return f"bbox {shown(box)} is not [x, y, width, height]"
  if min(box[2:]) < 0:
    return (
      f"bbox {shown(box)} has a negative size; expected [x, y, width, height]"
    )
  return ""


def segmentation_fault(segmentation: Any, size: tuple[int, int]) -> str:
  """What is wrong with a segmentation in an image of (height, width), or ''.

  >>> segmentation_fault([[0, 0, 2, 0, 2, 1]], (2, 3))
  ''
  """
  if not segmentation:
    return "no segmentation, but others have one"
  if isinstance(segmentation, Mapping):
    return _runs_fault(segmentation, size)
  if not isinstance(segmentation, list):
    return f"segmentation {shown(segmentation)} is not a list of polygons"
  for polygon in segmentation:
    if not _are_numbers(polygon) or len(polygon) < 6 or len(polygon) % 2:
      return (
        "a polygon is a list of at least three points [x, y, x, y, ...]; got "
        f"{shown(polygon)}"
      )
    farthest = max(max(polygon), -min(polygon))
    if farthest > _FARTHEST:
      return f"a polygon goes to {farthest:g}, far outside of its image"
    # No edge is longer than twice that.
    if len(polygon) * farthest <= _LONGEST_POLYGON:
      continue
    edges = np.diff(np.reshape([*polygon, *polygon[:2]], (-1, 2)), axis=0)
    length = np.abs(edges).max(1).sum()
    if length > _LONGEST_POLYGON:
      return f"a polygon is {length:g} pixels long"
  return ""


def _runs_fault(runs: Mapping[str, Any], size: tuple[int, int]) -> str:
  counts, pixels = runs.get("counts"), size[0] * size[1]
  if not isinstance(counts, str | list):
    return "run lengths without 'counts'"
  if runs.get("size") != list(size):
    return (
      f"run lengths of size {shown(runs.get('size'))} in an image of "
      f"{list(size)} (height, width)"
    )
  if isinstance(counts, str):
    try:
      lengths = run_lengths(counts.encode()).tolist()
    except ValueError as error:
      return f"its compressed run lengths cannot be read ({first_line(error)})"
  else:
    lengths = counts
  if not all(_is_whole(length) and length >= 0 for length in lengths):
    return "run lengths are whole numbers from 0 on"
  if sum(lengths) != pixels:
    return (
      f"run lengths of {shown(sum(lengths))} pixels in an image of {pixels}"
    )
  return ""


def run_lengths(counts: bytes) -> np.ndarray:
  """Compressed run lengths as (n,) int64.

  A number is 5 bits a byte, the lowest first, 32 added to all but its last
  byte; from the fourth number on it is the difference to the last but one.

  Raises:
    ValueError: they are none, or end within a number.

  >>> run_lengths(b"06")
  array([0, 6])
  """
  values = np.frombuffer(counts, np.uint8).astype(np.int64) - 48
  if not values.size:
    raise ValueError("empty")
  if values.min() < 0 or values.max() > 63:
    raise ValueError("a character that encodes no number")
  last = (values & 0x20) == 0
  if not last[-1]:
    raise ValueError("they end within a number")
  ends = np.flatnonzero(last)
  starts = np.concatenate([[0], ends[:-1] + 1])
  lengths = ends + 1 - starts
  if lengths.max() > _MOST_BYTES_OF_RUN:
    raise ValueError("a number with too many digits")
  shifts = 5 * (np.arange(len(values)) - np.repeat(starts, lengths))
  numbers = np.add.reduceat((values & 0x1F) << shifts, starts)
  negative = (values[ends] & 0x10) != 0
  numbers -= np.where(negative, 1 << (shifts[ends] + 5), 0)
  for first in (1, 2):
    numbers[first::2] = numbers[first::2].cumsum()
  return numbers


def _is_id(value: Any) -> bool:
  if isinstance(value, str):
    return bool(value)
  return _is_whole(value)


def _is_whole(value: Any) -> bool:
  """Whether it is a number of 64 bits without a fraction."""
  if isinstance(value, float) and value.is_integer():
    value = int(value)
  return (
    isinstance(value, int)
    and not isinstance(value, bool)
    and value.bit_length() <= _MOST_BITS
  )


def _is_number(value: Any) -> bool:
  """Whether it is finite, and fits arithmetic of 32 bits."""
  return (
    isinstance(value, int | float)
    and not isinstance(value, bool)
    and -1e30 < value < 1e30
  )


def _are_numbers(value: Any) -> bool:
  return isinstance(value, list) and all(map(_is_number, value))
