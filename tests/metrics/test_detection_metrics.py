"""AP of our states is pycocotools', on the same detections, exactly."""

import contextlib
import io
import math

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from segsiam_jax.metrics.detection import STATISTICS, CocoAveragePrecision
from segsiam_jax.metrics.image_objects import (
  Detections,
  GroundTruth,
  encode_mask,
)

SIZE = (60, 80)
CLASSES = ("cat", "dog", "hen")


def random_objects(rng, count):
  """Boxes, and the ellipses in them as masks."""
  low = rng.uniform(0, 40, (count, 2))
  boxes = np.concatenate([low, low + rng.uniform(3, 38, (count, 2))], axis=1)
  boxes = np.minimum(boxes, [80, 60, 80, 60])
  ys, xs = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
  masks = []
  for x1, y1, x2, y2 in boxes:
    inside = ((xs - (x1 + x2) / 2) / max(x2 - x1, 1)) ** 2 + (
      (ys - (y1 + y2) / 2) / max(y2 - y1, 1)
    ) ** 2 < 0.25
    masks.append(encode_mask(inside))
  return boxes, masks


def random_image(rng):
  """Truth with a crowd now and then, and detections near it or anywhere."""
  boxes, masks = random_objects(rng, rng.integers(0, 6))
  count = len(boxes)
  truth = GroundTruth(
    boxes, rng.integers(0, 3, count), masks, rng.random(count) < 0.2
  )
  strays, stray_masks = random_objects(rng, rng.integers(0, 4))
  near = np.clip(boxes + rng.normal(0, 2, boxes.shape), 0, [80, 60, 80, 60])
  found = Detections(
    np.concatenate([near, strays]),
    np.concatenate([truth.classes, rng.integers(0, 3, len(strays))]),
    # Ties, too.
    rng.integers(1, 6, count + len(strays)) / 5,
    [*masks, *stray_masks],
  )
  return truth, found


def plain_pycocotools(images, kind):
  """The twelve numbers as a user of pycocotools would get them."""
  dataset = {
    "info": {},
    "images": [
      {"id": i, "height": SIZE[0], "width": SIZE[1]} for i in range(len(images))
    ],
    "categories": [
      {"id": i + 1, "name": name} for i, name in enumerate(CLASSES)
    ],
    "annotations": [],
  }
  results = []

  def xywh(box):
    x1, y1, x2, y2 = map(float, box)
    return [x1, y1, x2 - x1, y2 - y1]

  with contextlib.redirect_stdout(io.StringIO()):
    from pycocotools import mask as coco_mask

    for number, (truth, found) in enumerate(images):
      for i, box in enumerate(truth.boxes):
        dataset["annotations"].append(
          {
            "id": len(dataset["annotations"]) + 1,
            "image_id": number,
            "category_id": int(truth.classes[i]) + 1,
            "bbox": xywh(box),
            "iscrowd": int(truth.is_crowd[i]),
            "segmentation": truth.masks[i],
            "area": float(coco_mask.area(truth.masks[i])),
          }
        )
      for i, box in enumerate(found.boxes):
        result = {
          "image_id": number,
          "category_id": int(found.classes[i]) + 1,
          "score": float(found.scores[i]),
        }
        if kind == "bbox":
          result["bbox"] = xywh(box)
        else:
          result["segmentation"] = found.masks[i]
        results.append(result)
    coco = COCO()
    coco.dataset = dataset
    coco.createIndex()
    evaluation = COCOeval(coco, coco.loadRes(results), kind)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
  return evaluation.stats


def state_of(images, **options):
  state = CocoAveragePrecision(CLASSES, **options)
  for number, (truth, found) in enumerate(images):
    state.add(number, SIZE, truth, found)
  return state


@pytest.mark.parametrize("seed", range(4))
def test_equals_pycocotools(seed):
  rng = np.random.default_rng(seed)
  images = [random_image(rng) for _ in range(12)]
  values = state_of(images).compute()
  for ours, theirs in (("box", "bbox"), ("mask", "segm")):
    expected = plain_pycocotools(images, theirs)
    for name, value in zip(STATISTICS, expected, strict=True):
      if value == -1:
        assert math.isnan(values[f"{ours}/{name}"])
      else:
        assert values[f"{ours}/{name}"] == value, name


def test_merging_is_adding():
  rng = np.random.default_rng(9)
  images = [random_image(rng) for _ in range(10)]
  whole = state_of(images)
  parts = [CocoAveragePrecision(CLASSES) for _ in range(3)]
  for number, (truth, found) in enumerate(images):
    parts[number % 3].add(number, SIZE, truth, found)
  # An image that two processes saw, as where a batch is padded.
  parts[0].add(1, SIZE, *images[1])
  merged = parts[0].merge(parts[1]).merge(parts[2])
  assert len(merged) == 10
  assert merged.compute() == pytest.approx(whole.compute(), nan_ok=True)
  assert whole.gather().compute() == pytest.approx(whole.compute(), nan_ok=True)


def test_class_ap_is_averaged_to_the_whole():
  rng = np.random.default_rng(2)
  values = state_of([random_image(rng) for _ in range(20)]).compute()
  mean = np.nanmean([values[f"mask/AP/{name}"] for name in CLASSES])
  assert values["mask/AP"] == pytest.approx(mean)


def test_covered_objects_by_themselves():
  """The others do not count, found or not; false positives do."""
  boxes = np.array([[0, 0, 20, 20], [30, 0, 50, 20], [60, 0, 80, 20.0]])
  truth = GroundTruth(boxes, np.zeros(3, int), covered=np.array([0.25, 0, 0.9]))
  stray = np.array([[0.0, 40.0, 20.0, 60.0]])

  def values_of(*found):
    found = np.concatenate(found)
    scores = np.linspace(0.9, 0.5, len(found))
    detections = Detections(found, np.zeros(len(found), int), scores)
    return state_of([(truth, detections)]).compute()

  values = values_of(boxes[:1], boxes[2:])
  assert values["box/AP50_covered"] == pytest.approx(1.0)
  assert values["box/AR_covered"] == pytest.approx(1.0)
  assert values["box/AP50"] < 0.7
  # An object that is not covered neither helps nor hurts.
  assert values_of(boxes)["box/AP_covered"] == pytest.approx(1.0)
  assert values_of(boxes[:2])["box/AR_covered"] == pytest.approx(0.5)
  assert values_of(stray, boxes)["box/AP50_covered"] < 0.7
  nothing = GroundTruth(boxes, np.zeros(3, int), covered=np.zeros(3))
  state = CocoAveragePrecision(CLASSES)
  state.add(0, SIZE, nothing, Detections(*NOTHING, np.zeros(0)))
  assert math.isnan(state.compute()["box/AP_covered"])


def test_more_than_a_hundred_objects():
  """COCO's own numbers count a hundred, the additional ones all."""
  x, y = np.meshgrid(np.arange(16) * 5, np.arange(10) * 6)
  low = np.stack([x.ravel(), y.ravel()], axis=1)
  boxes = np.concatenate([low, low + 4], axis=1).astype(float)
  truth = GroundTruth(boxes, np.zeros(160, int))
  found = Detections(boxes, np.zeros(160, int), np.linspace(0.9, 0.1, 160))
  values = state_of([(truth, found)], max_detections=200).compute()
  assert values["box/AP_200"] == values["box/AR_200"] == pytest.approx(1.0)
  usual = state_of([(truth, found)]).compute()
  assert {name: values[name] for name in usual} == pytest.approx(
    usual, nan_ok=True
  )
  assert usual["box/AR_100"] == pytest.approx(100 / 160)
  merged = state_of([(truth, found)], max_detections=200).gather()
  assert merged.compute() == pytest.approx(values, nan_ok=True)


NOTHING = np.zeros((0, 4)), np.zeros(0, int)


@pytest.mark.parametrize("masks", [None, []])
def test_images_without_objects_or_detections(masks):
  box = np.array([[1.0, 2.0, 30.0, 40.0]])
  mask = None if masks is None else [encode_mask(np.eye(60, 80))]
  no_truth = GroundTruth(*NOTHING, masks)
  no_found = Detections(*NOTHING, np.zeros(0), masks)
  truth = GroundTruth(box, np.array([0]), mask)
  found = Detections(box, np.array([0]), np.array([0.5]), mask)

  nothing = state_of([(no_truth, no_found)]).compute()
  assert all(math.isnan(value) for value in nothing.values())
  assert state_of([(truth, no_found)]).compute()["box/AP"] == 0
  strays = state_of([(no_truth, found)]).compute()
  assert math.isnan(strays["box/AP"])
  values = state_of([(truth, found), (no_truth, no_found)]).compute()
  assert values["box/AP"] == pytest.approx(1.0)
  assert ("mask/AP" in values) == (masks is not None)
  assert math.isnan(values["box/AP/dog"])
  assert "box/AP" in CocoAveragePrecision(CLASSES).compute()


def test_classes_may_start_at_one():
  rng = np.random.default_rng(5)
  images = [random_image(rng) for _ in range(6)]
  shifted = [
    (
      GroundTruth(t.boxes, t.classes + 1, t.masks, t.is_crowd),
      Detections(f.boxes, f.classes + 1, f.scores, f.masks),
    )
    for t, f in images
  ]
  assert state_of(shifted, first_class=1).compute() == pytest.approx(
    state_of(images).compute(), nan_ok=True
  )


def test_mistakes_are_named():
  state = CocoAveragePrecision(CLASSES, first_class=1)
  truth = GroundTruth(np.zeros((1, 4)), np.array([0]))
  found = Detections(np.zeros((2, 4)), np.array([1, 2]), np.zeros(1))
  empty = Detections(*NOTHING, np.zeros(0))
  with pytest.raises(ValueError, match=r"truth: classes \[0\] are not all in"):
    state.add(0, SIZE, truth, empty)
  with pytest.raises(ValueError, match="found: 1 scores for 2 boxes"):
    state.add(0, SIZE, GroundTruth(*NOTHING), found)
  with pytest.raises(ValueError, match="different classes"):
    state.merge(CocoAveragePrecision(("a",)))
