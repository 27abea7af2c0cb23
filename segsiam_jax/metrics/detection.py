"""COCO average precision of boxes and masks, through pycocotools.

The state lives on the host: what is kept of an image is its boxes and its
run-length encoded masks, never a whole mask. States merge, also over
processes, and an image that several of them saw counts once.
"""

import contextlib
import dataclasses
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from segsiam_jax.metrics.checks import check_no_nan
from segsiam_jax.metrics.gather import gather
from segsiam_jax.metrics.image_objects import Detections, GroundTruth, Rle
from segsiam_jax.ops.shapes import check_shapes

# What pycocotools' `stats` hold, in their order.
STATISTICS = (
  "AP",
  "AP50",
  "AP75",
  "AP_small",
  "AP_medium",
  "AP_large",
  "AR_1",
  "AR_10",
  "AR_100",
  "AR_small",
  "AR_medium",
  "AR_large",
)
_KINDS = {"box": "bbox", "mask": "segm"}
# What COCO counts of an image's detections.
_COCO_MOST, _MOST_INDEX = 100, 2
_SHAPES = {
  "boxes": "N 4",
  "classes": "N",
  "scores": "N",
  "is_crowd": "N",
  "areas": "N",
  "covered": "N",
}
# From this share on, an object is covered by others.
COVERED_FROM = 0.25


class CocoAveragePrecision:
  """AP and AR over images added one by one.

  >>> box = np.array([[2.0, 2.0, 9.0, 8.0]])
  >>> state = CocoAveragePrecision(["cat"])
  >>> state.add(7, (32, 32), GroundTruth(box, np.array([0])),
  ...     Detections(box, np.array([0]), np.array([0.9])))
  >>> round(state.compute()["box/AP"], 6)
  1.0
  """

  def __init__(
    self,
    class_names: Sequence[str],
    *,
    first_class: int = 0,
    max_detections: int = _COCO_MOST,
  ):
    """Makes an empty state.

    Args:
      class_names: one name a class.
      first_class: the integer of the first of them: 1 where class 0 is the
        background.
      max_detections: where images hold more than 100 objects, which is all
        that COCO's numbers count: adds numbers that count so many.
    """
    self._class_names = tuple(class_names)
    self._first_class = first_class
    self._most = max(max_detections, _COCO_MOST)
    # By image: everything, as plain lists.
    self._images: dict[int | str, dict[str, Any]] = {}

  def __len__(self) -> int:
    return len(self._images)

  def add(
    self,
    image_id: int | str,
    size: tuple[int, int],
    truth: GroundTruth,
    found: Detections,
  ) -> None:
    """Adds an image; an id that is there already is replaced.

    Args:
      image_id: unique.
      size: (height, width) of the original image.
      truth: its objects.
      found: detections in it, at most 100 of which COCO's numbers count.

    Raises:
      ValueError: shapes that do not fit, NaN, or classes that have no name.
    """
    for what, given in (("truth", truth), ("found", found)):
      self._check(what, given)
    self._images[image_id] = {
      "size": [int(length) for length in size],
      "truth": _plain(truth),
      "found": _plain(found),
    }

  def merge(self, other: "CocoAveragePrecision") -> "CocoAveragePrecision":
    """A state of the images of both."""
    if other._class_names != self._class_names:
      raise ValueError("states of different classes cannot be merged")
    return self._of({**self._images, **other._images})

  def gather(self) -> "CocoAveragePrecision":
    """A state of the images of all processes, on every process."""
    return self._of(dict(gather(list(self._images.items()))))

  def detections(self) -> Iterator[tuple[int | str, Detections]]:
    """What was found in each image, by its id."""
    for image_id in self._ids():
      yield image_id, Detections(**self._images[image_id]["found"])

  def _ids(self) -> list[int | str]:
    """Sorted, as pycocotools does: where scores tie, the order decides, and it
    must not depend on which process saw what."""
    return sorted(self._images, key=lambda i: (isinstance(i, str), i))

  def compute(self) -> dict[str, float]:
    """All twelve COCO numbers of boxes, and of masks where there are any.

    Returns:
      `box/AP`, `box/AP50`, ... (see `STATISTICS`), `mask/AP`, ..., and
      `box/AP/<class>`, `mask/AP/<class>`. NaN where there is nothing to find.

      Where truths say how far they are covered, `AP_covered`, `AP50_covered`
      and `AR_covered` too: of objects that others cover to a quarter or more.
      The other objects are ignored, but false positives count in full, so that
      these numbers compare detectors and not kinds of objects.

      With `max_detections` N above 100 also `AP_<N>`, `AP50_<N>`, `AP75_<N>`
      and `AR_<N>`.
    """
    values: dict[str, float] = {}
    records = self._images.values()
    with_masks = bool(self._images) and all(
      record[part]["masks"] is not None
      for record in records
      for part in ("truth", "found")
    )
    for kind in ("box", "mask") if with_masks else ("box",):
      for name, value in self._evaluate(kind).items():
        values[f"{kind}/{name}"] = float(value) if value > -1 else float("nan")
    return values

  def _evaluate(self, kind: str) -> dict[str, float]:
    """-1 where there is nothing to find, as in pycocotools."""
    evaluation = self._run(kind)
    with contextlib.redirect_stdout(io.StringIO()):
      evaluation.summarize()
    values = dict(zip(STATISTICS, evaluation.stats, strict=True))
    # (thresholds, recalls, classes, areas, detections): all areas, 100 each.
    precision = evaluation.eval["precision"][:, :, :, 0, _MOST_INDEX]
    for index, class_name in enumerate(self._class_names):
      values[f"AP/{class_name}"] = _mean(precision[:, :, index])
    if self._most > _COCO_MOST:
      values |= _numbers(evaluation, -1, f"_{self._most}", ("", "50", "75"))
    if self._images and all(
      record["truth"]["covered"] is not None for record in self._images.values()
    ):
      covered = self._run(kind, by_overlap=True)
      values |= _numbers(covered, _MOST_INDEX, "_covered", ("", "50"))
    return values

  def _run(self, kind: str, by_overlap: bool = False) -> Any:
    """An accumulated `COCOeval`.

    Args:
      kind: 'box' or 'mask'.
      by_overlap: whether objects count that are covered, and no others.
    """
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
      truth, found = self._to_coco("truth", kind), self._to_coco("found", kind)
      evaluation = COCOeval(truth, found, _KINDS[kind])
      evaluation.params.maxDets = [1, 10, _COCO_MOST]
      if self._most > _COCO_MOST:
        evaluation.params.maxDets.append(self._most)
      if by_overlap:
        # pycocotools ignores objects outside of a range of areas: the areas
        # say here whether an object is covered. All detections are inside.
        for annotation in truth.dataset["annotations"]:
          annotation["area"] = annotation["covered"]
        for annotation in found.dataset["annotations"]:
          annotation["area"] = 1.0
        evaluation.params.areaRng = [[COVERED_FROM, 1.0]]
        evaluation.params.areaRngLbl = ["all"]
      evaluation.evaluate()
      evaluation.accumulate()
    return evaluation

  def _to_coco(self, part: str, kind: str) -> Any:
    """A `pycocotools.coco.COCO` of the truth or of the detections."""
    from pycocotools.coco import COCO

    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, image_id in enumerate(self._ids(), 1):
      record = self._images[image_id]
      height, width = record["size"]
      images.append({"id": number, "height": height, "width": width})
      content = record[part]
      for index, (x1, y1, x2, y2) in enumerate(content["boxes"]):
        annotation = {
          "id": len(annotations) + 1,
          "image_id": number,
          "category_id": content["classes"][index] - self._first_class + 1,
          "bbox": [x1, y1, x2 - x1, y2 - y1],
          "iscrowd": int(_get(content, "is_crowd", index, 0)),
          "area": _get(content, "areas", index, None),
        }
        if part == "found":
          annotation["score"] = content["scores"][index]
        else:
          annotation["covered"] = _get(content, "covered", index, None)
        if kind == "mask":
          annotation["segmentation"] = content["masks"][index]
        if annotation["area"] is None:
          annotation["area"] = _area(content, index, kind, part)
        annotations.append(annotation)
    coco = COCO()
    coco.dataset = {
      "images": images,
      "annotations": annotations,
      "categories": [
        {"id": number, "name": name}
        for number, name in enumerate(self._class_names, 1)
      ],
    }
    coco.createIndex()
    return coco

  def _of(self, images: dict[int | str, dict[str, Any]]):
    """A state like this one, of other images."""
    state = CocoAveragePrecision(
      self._class_names,
      first_class=self._first_class,
      max_detections=self._most,
    )
    state._images = images
    return state

  def _check(self, what: str, given: GroundTruth | Detections) -> None:
    count = len(given.boxes)
    for field in dataclasses.fields(given):
      value = getattr(given, field.name)
      shape = np.shape(value)
      if value is not None and shape[:1] != (count,):
        raise ValueError(
          f"{field.name}: shape {shape}; {what}: {shape[0] if shape else 'no'} "
          f"{field.name} for {count} boxes"
        )
    check_shapes(
      **{
        f"{field} of {what}": (getattr(given, field, None), shape)
        for field, shape in _SHAPES.items()
      }
    )
    row = "object" if what == "truth" else "detection"
    names = ("boxes", "scores", "areas", "covered")
    check_no_nan(
      row,
      **{f"{field} of {what}": getattr(given, field, None) for field in names},
    )
    classes = np.asarray(given.classes)
    last = self._first_class + len(self._class_names)
    if count and not ((self._first_class <= classes) & (classes < last)).all():
      raise ValueError(
        f"{what}: classes {np.unique(classes).tolist()} are not all in "
        f"[{self._first_class}, {last})"
      )


def _mean(values: np.ndarray) -> float:
  """Mean of what is known, -1 if nothing is."""
  known = values[values > -1]
  return known.mean() if known.size else -1.0


def _numbers(
  evaluation: Any, most: int, suffix: str, thresholds: Sequence[str]
) -> dict[str, float]:
  """AP at each of `thresholds` ('' for all, '50', '75'), and AR.

  Args:
    evaluation: an accumulated `COCOeval`.
    most: index of the number of detections that count.
    suffix: of the names.
    thresholds: see above.
  """
  precision = evaluation.eval["precision"][..., 0, most]
  recall = evaluation.eval["recall"][..., 0, most]
  # COCO's thresholds are 0.50, 0.55, ...
  rows = {"": slice(None), "50": 0, "75": 5}
  values = {f"AP{t}{suffix}": _mean(precision[rows[t]]) for t in thresholds}
  return values | {f"AR{suffix}": _mean(recall)}


def _plain(content: GroundTruth | Detections) -> dict[str, Any]:
  """Lists of numbers, so that a state is JSON."""

  def convert(value: Any) -> Any:
    if value is None:
      return None
    if isinstance(value, Sequence):
      return list(value)
    return np.asarray(value).tolist()

  return {
    field.name: convert(getattr(content, field.name))
    for field in dataclasses.fields(content)
  }


def _get(content: Mapping[str, Any], name: str, index: int, default: Any):
  values = content.get(name)
  return default if values is None else values[index]


def _area(
  content: Mapping[str, Any], index: int, kind: str, part: str
) -> float:
  """What decides small, medium and large.

  A truth has one area whatever is evaluated: of its mask if it has one. A
  detection's is that of what is evaluated, as in `COCO.loadRes`.
  """
  from pycocotools import mask as coco_mask

  by_mask = content["masks"] is not None and (part == "truth" or kind == "mask")
  if by_mask:
    return float(coco_mask.area(_as_bytes(content["masks"][index])))
  x1, y1, x2, y2 = content["boxes"][index]
  return (x2 - x1) * (y2 - y1)


def _as_bytes(rle: Rle) -> dict[str, Any]:
  counts = rle["counts"]
  if isinstance(counts, str):
    counts = counts.encode()
  return {"size": list(rle["size"]), "counts": counts}
