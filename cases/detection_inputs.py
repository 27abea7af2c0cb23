"""What the detectors of the golden files are fed with; NumPy alone."""

import re

import numpy as np

from cases.filled import fill, image

# Heights and widths; the second and third are padded to multiples of 32.
SIZES = ((96, 128), (128, 100), (120, 200))
LOSS_SIZE = (96, 128)
DETECTIONS = 20
SMALL_CLASSES = 6
# Side of all true boxes, so that a cell of a cropped mask is a pixel.
MASK_SIDE = 32
# Factors of weights by keys, so that boxes and classes differ from each other.
GAINS = {
  "v1": {r"cls_score\.weight": 1.1, r"bbox_pred": 0.3},
  "v2": {
    r"head\.\d\.1\.weight": 2.0,
    r"cls_logits\.weight": 5.0,
    r"cls_score\.weight": 1.3,
    r"bbox_pred": 0.3,
  },
  "small": {
    r"cls_score\.weight": 0.5,
    r"bbox_pred": 0.3,
    r"mask_fcn_logits\.weight": 0.5,
  },
}


def fill_detector(model: str, key: str, shape: tuple[int, ...]) -> np.ndarray:
  """The values of one entry of the state dict of 'v1', 'v2' or 'small'."""
  gains = (g for part, g in GAINS[model].items() if re.search(part, key))
  return fill(key, shape) * np.float32(next(gains, 1.0))


def picture(height: int, width: int) -> np.ndarray:
  """(H, W, 3) float32: normalised, with bright rectangles here and there."""
  pixels = image(height, width)[0]
  random = np.random.RandomState(height * 1000 + width)
  for _ in range(6):
    y, x = random.randint(0, height - 24), random.randint(0, width - 24)
    h, w = random.randint(12, 60, 2)
    pixels[y : y + h, x : x + w] += random.normal(0, 2, 3).astype(np.float32)
  return pixels


def loss_inputs(num_classes: int) -> dict[str, np.ndarray]:
  """Two images with three and one objects: square boxes, random masks.

  Returns:
    images (2, H, W, 3), boxes (2, 3, 4), classes and valid (2, 3), crops
    (2, 3, MASK_SIDE, MASK_SIDE) uint8 that fill the boxes.
  """
  random = np.random.RandomState(0)
  height, width = LOSS_SIZE
  corners = np.array(
    [[[5, 9], [60, 40], [96, 64]], [[30, 31], [0, 0], [0, 0]]], np.float32
  )
  coarse = random.rand(2, 3, 4, 4) < 0.6
  first = picture(height, width)
  return {
    "images": np.stack([first, first[::-1, ::-1] * np.float32(0.8)]),
    "boxes": np.concatenate([corners, corners + MASK_SIDE], -1),
    "classes": random.randint(1, num_classes, (2, 3)).astype(np.int32),
    "valid": np.array([[True, True, True], [True, False, False]]),
    "crops": coarse.repeat(8, 2).repeat(8, 3).astype(np.uint8),
  }


def op_inputs() -> dict[str, np.ndarray]:
  """Inputs of the box ops and of the detection losses."""
  random = np.random.RandomState(1)

  def boxes(count, size, low=0.0, most=None):
    corner = random.uniform(low, size, (count, 2))
    side = random.uniform(1, most or size, (count, 2))
    return np.concatenate([corner, corner + side], -1).astype(np.float32)

  # Whole numbers, so that overlaps tie; scores tie, too.
  crowded = np.round(boxes(200, 12, most=10))
  return {
    "features": random.standard_normal((2, 9, 12, 3)).astype(np.float32),
    # Inside, across the edges and outside; the map is 48 x 36 pixels.
    "rois": np.stack([boxes(12, 50, low=-20, most=30) for _ in range(2)]),
    "roi_weights": random.standard_normal((2, 12, 3, 3, 3)).astype(np.float32),
    "boxes": crowded,
    "scores": (random.randint(0, 40, 200) / 40).astype(np.float32),
    "groups": random.randint(0, 3, 200),
    "masks": random.rand(5, 28, 28).astype(np.float32),
    "mask_boxes": np.array(
      [[3.2, 4.7, 30, 33.3], [-9, -8, 12, 60], [48, 38, 70, 70]]
      + [[10, 10, 10.4, 10.3], [0, 0, 50, 40]],
      np.float32,
    ),
    "pairs": boxes(10, 9),
    "other_pairs": boxes(10, 9),
    "logits": random.normal(0, 3, (2, 6, 4)).astype(np.float32),
    "labels": random.randint(0, 2, (2, 6, 4)),
  }
