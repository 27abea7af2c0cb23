"""What the benchmarks of whole models run, the same for every contender."""

from typing import NamedTuple

import numpy as np


class Row(NamedTuple):
  """One model at one size of batch.

  Attributes:
    title: in tables.
    model: a function of `models_ours` and of `models_peers`.
    shape: (B, *S, C) of the images.
    classes: of the outputs.
    objects: of each image, where objects are found.
  """

  title: str
  model: str
  shape: tuple[int, ...]
  classes: int = 3
  objects: int = 0

  def inputs(self) -> tuple[np.ndarray, np.ndarray]:
    """Images of the shape and labels of every pixel; always the same ones."""
    rng = np.random.default_rng(0)
    images = rng.normal(size=self.shape).astype(np.float32)
    return images, rng.integers(0, self.classes, self.shape[:-1])


ROWS = {
  "unet": Row("U-Net, base 32, 4 x 128 x 128", "unet", (4, 128, 128, 3)),
  "unet_resnet34": Row(
    "U-Net on ResNet-34, 4 x 128 x 128", "unet_resnet34", (4, 128, 128, 3)
  ),
  "unet_resnet34_256": Row(
    "U-Net on ResNet-34, 2 x 256 x 256", "unet_resnet34", (2, 256, 256, 3)
  ),
  "unet_3d": Row(
    "3-D U-Net, base 16, 1 x 32 x 96 x 96", "unet_3d", (1, 32, 96, 96, 1)
  ),
  "fcn": Row("FCN-ResNet-50, 2 x 256 x 256", "fcn", (2, 256, 256, 3), 21),
  "koch": Row("Koch, 16 pairs of 105 x 105", "koch", (32, 105, 105, 1)),
  "batch_hard": Row(
    "ResNet-18, batch-hard, 32 x 96 x 96", "batch_hard", (32, 96, 96, 3)
  ),
  "mask_rcnn_8": Row(
    "Mask R-CNN R50, 8 objects, 2 x 256 x 256",
    "mask_rcnn",
    (2, 256, 256, 3),
    91,
    8,
  ),
  "mask_rcnn_128": Row(
    "Mask R-CNN R50, 128 objects, 2 x 256 x 256",
    "mask_rcnn",
    (2, 256, 256, 3),
    91,
    128,
  ),
}
# For tests: the same code in seconds.
TINY = {
  "unet": (1, 32, 32, 3),
  "unet_resnet34": (1, 32, 32, 3),
  "unet_resnet34_256": (1, 64, 64, 3),
  "unet_3d": (1, 16, 16, 16, 1),
  "fcn": (1, 32, 32, 3),
  "koch": (4, 105, 105, 1),
  "batch_hard": (8, 32, 32, 3),
  "mask_rcnn_8": (1, 64, 64, 3),
  "mask_rcnn_128": (1, 64, 64, 3),
}


def find(name: str, tiny: bool = False, factor: int = 1) -> Row:
  """A row by name, at its size or a test's, with `factor` times the batch."""
  row = ROWS[name]
  batch, *rest = TINY[name] if tiny else row.shape
  return row._replace(shape=(batch * factor, *rest))


def objects(row: Row) -> tuple[np.ndarray, np.ndarray]:
  """Boxes (B, N, 4) and classes (B, N) of a row's objects, squares all."""
  rng = np.random.default_rng(1)
  batch, size = row.shape[0], row.shape[1]
  side = size // 4
  corners = rng.integers(0, size - side, (batch, row.objects, 2))
  boxes = np.concatenate([corners, corners + side], -1).astype(np.float32)
  classes = rng.integers(1, row.classes, (batch, row.objects))
  return boxes, classes.astype(np.int32)
