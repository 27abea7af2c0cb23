"""Cases of the functions of detection."""

import jax
import numpy as np

from cases.public_functions import Case
from cases.public_functions_metric_learning import (
  ANY_ROWS,
  ANY_VECTORS,
  KEY,
  WIDTHS,
  vectors,
)
from segsiam_jax.metrics import CocoAveragePrecision, Detections, GroundTruth
from segsiam_jax.metrics.image_objects import encode_mask
from segsiam_jax.ops.matching import balanced_sample
from segsiam_jax.ops.roi_align import roi_align

B, R, C = 2, 3, 4
BROADCAST = ("one row", "leading axis", "fewer axes")


def boxes(*shape: int, seed: int = 0) -> np.ndarray:
  """Within 16 pixels, of sides above 1."""
  low = np.random.default_rng(seed).uniform(0, 7, (*shape, 2))
  high = low + np.random.default_rng(seed + 1).uniform(1, 8, (*shape, 2))
  return np.concatenate([low, high], axis=-1).astype(np.float32)


# The first and the last one are on an object.
CLASSES = np.array([[1, 0, 2], [3, 0, 1]], np.int32)
OBJECTS = np.minimum(CLASSES, 1)
ALL = np.ones((B, R), np.int32)
SOME = np.array([[1, 0, 1], [1, 1, 1]], np.int32)
KEPT = np.array([1, 0, 1], np.float32)
MASK = {"where": "NaN is not 0"}
INDEX = "an index; the losses made of it are NaN"


def coco(boxes, classes, scores):
  truth = GroundTruth(FOUND["boxes"], FOUND["classes"])
  state = CocoAveragePrecision(("cat", "dog"))
  state.add(1, (16, 16), truth, Detections(boxes, classes, scores))
  return state.compute()["box/AP"]


def decoded(mask):
  from pycocotools import mask as coco_mask

  rle = encode_mask(mask)
  return coco_mask.decode(rle | {"counts": rle["counts"].encode()})


def sampled(positive, negative, **options):
  keys = jax.random.split(KEY, len(positive))
  return balanced_sample(keys, positive, negative, **options)


def pooled(features, boxes, levels, **options):
  # The result has the features' dtype: tests/ops/test_roi_align.py.
  features = features.astype(np.float32)
  return roi_align([features], boxes, levels, strides=(4,), **options)


FOUND = {
  "boxes": boxes(2),
  "classes": np.array([0, 1], np.int32),
  "scores": np.array([0.9, 0.8], np.float32),
}
SUPPRESSED = {
  "boxes": boxes(B, 5),
  "scores": abs(vectors(B, 5)) / 4 + 0.1,
  "groups": np.array([[0, 1, 0, 1, 0], [1, 1, 0, 0, 0]], np.int32),
  "valid": np.array([[1, 1, 0, 1, 1], [1, 1, 1, 0, 1]], np.int32),
}
WHOLE = np.tile(np.float32([0, 0, 16, 16]), (B, R, 1))
ROIS = {
  "features": vectors(B, 4, 4, 2),
  "boxes": WHOLE,
  "levels": np.zeros((B, R), np.int32),
}

CASES = {
  "losses.detection.smooth_l1_loss": [
    Case(
      {"predictions": vectors(R, 4), "targets": boxes(R), "where": KEPT},
      {"beta": beta},
      unseen=MASK,
    )
    for beta in (0.5, 0.0)
  ],
  "losses.detection.giou_loss": [
    Case(
      {"boxes": boxes(R), "targets": boxes(R, seed=2), "where": KEPT},
      unseen=MASK,
    )
  ],
  "losses.detection.rpn_loss": [
    Case(
      {
        "objectness": vectors(B, R),
        "deltas": vectors(B, R, 4),
        "labels": OBJECTS,
        "target_deltas": vectors(B, R, 4, seed=1),
        "sampled": SOME,
      },
      {"beta": 0.5},
      classes=("labels",),
    )
  ],
  "losses.detection.box_head_loss": [
    Case(
      {
        "logits": vectors(B, R, C),
        "deltas": vectors(B, R, C, 4)[:, :, :of],
        "labels": np.where(CLASSES, C - 1, 0) if of == C else CLASSES,
        "target_deltas": vectors(B, R, 4, seed=1),
        "sampled": SOME,
      },
      {"beta": 0.5},
      classes=("labels",),
      fits={"logits": WIDTHS if of == 1 else ()},
      unseen={"deltas": "those of the labelled class are read"}
      if of > 1
      else {},
    )
    for of in (C, 1)
  ],
  "losses.detection.mask_loss": [
    Case(
      {
        "logits": vectors(B, R, 2, 2, C),
        "labels": np.array([[0, 0, 2], [3, 0, 3]], np.int32),
        "targets": (vectors(B, R, 2, 2, seed=1) > 0).astype(np.float32),
        "positive": SOME,
      },
      classes=("labels",),
      fits={"logits": WIDTHS},
    )
  ],
  "metrics.detection.CocoAveragePrecision.add": [
    Case(FOUND, call=coco, host=True)
  ],
  "metrics.image_objects.encode_mask": [
    Case(
      {"mask": vectors(3, 4) > 0},
      call=decoded,
      host=True,
      empty_is_error=True,
      fits={"mask": ANY_VECTORS},
    )
  ],
  "ops.anchors.cell_anchors": [
    Case(
      {
        "sizes": np.array([4.0, 8.0], np.float32),
        "aspect_ratios": np.array([0.5, 1.0, 2.0], np.float32),
      },
      host=True,
      batch=(),
      fits={"sizes": ANY_VECTORS, "aspect_ratios": ANY_VECTORS},
    )
  ],
  "ops.anchors.grid_anchors": [
    Case(
      {"cell": boxes(R)},
      {"grid": (2, 2), "stride": (4, 4)},
      host=True,
      batch=(),
      fits={"cell": ANY_ROWS},
    )
  ],
  "ops.anchors.pyramid_anchors": [
    Case(
      {"aspect_ratios": np.array([0.5, 1.0, 2.0], np.float32)},
      {
        "image_size": (16, 16),
        "grids": ((4, 4), (2, 2)),
        "sizes": ((4.0, 5.0), (8.0,)),
      },
      host=True,
      batch=(),
      fits={"aspect_ratios": ANY_VECTORS},
    )
  ],
  "ops.boxes.box_area": [
    Case({"boxes": boxes(R)}, fits={"boxes": (*ANY_ROWS, *BROADCAST)})
  ],
  "ops.boxes.clip_boxes": [
    Case({"boxes": boxes(B, R), "size": np.full((B, 2), 6, np.float32)})
  ],
  "ops.boxes.encode_boxes": [
    Case(
      {"boxes": boxes(R), "anchors": boxes(R, seed=2)},
      {"weights": (10.0, 10.0, 5.0, 5.0)},
      fits={"boxes": BROADCAST, "anchors": BROADCAST},
    )
  ],
  "ops.boxes.decode_boxes": [
    Case(
      {"deltas": vectors(R, 4), "anchors": boxes(R, seed=2)},
      {"weights": (10.0, 10.0, 5.0, 5.0)},
      fits={"deltas": BROADCAST, "anchors": BROADCAST},
    )
  ],
  "ops.boxes.paired_giou": [
    Case(
      {"boxes": boxes(R), "others": boxes(R, seed=2)},
      fits={"boxes": BROADCAST, "others": BROADCAST},
    )
  ],
  "ops.boxes.pairwise_iou": [
    Case(
      {
        "boxes": boxes(B, R),
        "others": boxes(B, 2, seed=2),
        "crowd": np.array([[0, 1], [1, 0]], np.int32),
      },
      fits={"boxes": BROADCAST},
    )
  ],
  "ops.masks.mask_targets": [
    Case(
      {
        "masks": abs(vectors(B, R, 3, 3)) / 4,
        "truth": boxes(B, R),
        "boxes": boxes(B, R, seed=2),
        "image_sizes": np.full((B, 2), 16, np.float32),
      },
      {"output_size": 2},
    )
  ],
  "ops.masks.paste_masks": [
    Case(
      {"masks": abs(vectors(R, 3, 3)) / 4, "boxes": boxes(R)},
      {"size": (16, 16), "threshold": threshold},
      host=True,
      batch=(),
    )
    for threshold in (0.25, None)
  ],
  "ops.matching.match": [
    Case(
      {"overlaps": abs(vectors(B, R, 5)) / 4, "valid": SOME},
      {"high": 0.5, "low": 0.25, "keep_best": True},
      fits={"overlaps": WIDTHS},
      unseen={"overlaps": INDEX},
    )
  ],
  "ops.matching.balanced_sample": [
    Case(
      {"positive": vectors(B, 5) > 0, "negative": vectors(B, 5) <= 0},
      {"size": 3, "positive_fraction": 0.5},
      sampled,
    )
  ],
  "ops.nms.nms": [
    Case(SUPPRESSED, {"threshold": 0.3, "max_outputs": 4}, ids=("groups",))
  ],
  "ops.nms.soft_nms": [
    Case(
      SUPPRESSED,
      {"max_outputs": 4, "method": method, "threshold": 0.3, "sigma": 0.5},
      ids=("groups",),
    )
    for method in ("linear", "gaussian")
  ],
  "ops.roi_align.assign_levels": [
    Case(
      {"boxes": boxes(R)},
      {"num_levels": 3, "canonical_size": 5.0},
      fits={"boxes": (*ANY_ROWS, *BROADCAST)},
      unseen={"boxes": "an index; the features of such a box are NaN"},
    )
  ],
  "ops.roi_align.roi_align": [
    Case(
      ROIS,
      {"output_size": 4, "method": method},
      pooled,
      classes=("levels",),
      fits={"features": WIDTHS},
    )
    for method in ("gather", "matmul")
  ],
}

# By name, why there is nothing to try.
EXEMPT = {
  "metrics.detection.CocoAveragePrecision.compute": "tried with `add`",
  "metrics.detection.CocoAveragePrecision.detections": "gives what was added",
  "metrics.detection.CocoAveragePrecision.gather": "of processes, not arrays",
  "metrics.detection.CocoAveragePrecision.merge": "of states, not of arrays",
}
