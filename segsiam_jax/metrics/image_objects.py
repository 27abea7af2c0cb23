"""Objects of an image, known and found: what COCO's metrics compare."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from segsiam_jax.metrics.checks import check_no_nan
from segsiam_jax.ops.shapes import check_shapes

# A run-length encoded mask: {"size": [h, w], "counts": str}.
Rle = Mapping[str, Any]


def encode_mask(mask: np.ndarray) -> dict[str, Any]:
  """COCO run-length encoding of a mask.

  Args:
    mask: `(H, W)`, nonzero inside.

  Returns:
    `{"size": [H, W], "counts": str}`, ready for JSON.

  Raises:
    ValueError: another shape, an axis of length 0, or NaN.

  >>> encode_mask(np.ones((2, 3), bool))
  {'size': [2, 3], 'counts': '06'}
  """
  from pycocotools import mask as coco_mask

  mask = np.asarray(mask)
  check_shapes(mask=(mask, "H+ W+"))
  check_no_nan("row", mask=mask)
  rle = coco_mask.encode(np.asfortranarray(mask != 0, dtype=np.uint8))
  return {"size": list(rle["size"]), "counts": rle["counts"].decode()}


@dataclasses.dataclass(frozen=True)
class GroundTruth:
  """What is in an image.

  Attributes:
    boxes: `(N, 4)` (x1, y1, x2, y2) in pixels of the original image.
    classes: `(N,)` integers.
    masks: N run-length encoded masks, or None for boxes only.
    is_crowd: `(N,)` bool, or None where nothing is.
    areas: `(N,)` for the split by size, or None: of the masks, else of the
      boxes.
    covered: `(N,)` in [0, 1], how much of the object others cover, for the
      split by overlap, or None for no such split.
  """

  boxes: np.ndarray
  classes: np.ndarray
  masks: Sequence[Rle] | None = None
  is_crowd: np.ndarray | None = None
  areas: np.ndarray | None = None
  covered: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class Detections:
  """What was found in an image.

  Attributes:
    boxes: `(M, 4)` (x1, y1, x2, y2) in pixels of the original image.
    classes: `(M,)` integers.
    scores: `(M,)`.
    masks: M run-length encoded masks, or None for boxes only.
  """

  boxes: np.ndarray
  classes: np.ndarray
  scores: np.ndarray
  masks: Sequence[Rle] | None = None
