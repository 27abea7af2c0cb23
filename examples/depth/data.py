"""Scenes of digits at random distances, drawn on the fly."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import ml_collections
import numpy as np
import sklearn.datasets

from segsiam_jax.inputs import Opened

# The wall behind the digits, in metres.
FARTHEST = 8.0


class DepthScenes:
  """Images with the distance of every pixel; nearer digits are larger.

  Example `index` is always the same. The digits of the splits differ.
  """

  class_names = ()

  def __init__(self, split: str, count: int, size: tuple[int, int]):
    digits = sklearn.datasets.load_digits().images / 16.0
    middle = len(digits) * 3 // 4
    self._digits = digits[:middle] if split == "train" else digits[middle:]
    self._split, self._count, self._size = split, count, size

  def __len__(self) -> int:
    return self._count

  def keys(self) -> list[str]:
    return [f"{self._split}/{index}" for index in range(self._count)]

  def __getitem__(self, index: int) -> dict[str, Any]:
    rng = np.random.default_rng((index, self._split == "train"))
    image = np.full(self._size, 0.2, np.float32)
    depth = np.full(self._size, FARTHEST, np.float32)
    # The farthest first: nearer ones cover it.
    for distance in sorted(rng.uniform(1.0, 6.0, 3), reverse=True):
      times = max(1, round(6.0 / distance))
      digit = self._digits[rng.integers(len(self._digits))]
      digit = np.kron(digit, np.ones((times, times)))
      height, width = np.minimum(digit.shape, self._size)
      top = rng.integers(self._size[0] - height + 1)
      left = rng.integers(self._size[1] - width + 1)
      where = np.s_[top : top + height, left : left + width]
      ink = digit[:height, :width] > 0.3
      image[where] = np.where(ink, 1.2 / distance, image[where])
      depth[where] = np.where(ink, distance, depth[where])
    pixels = (255 * np.clip(image, 0, 1)).astype(np.uint8)
    return {"image": np.repeat(pixels[..., None], 3, -1), "depth": depth}


class DepthRows(NamedTuple):
  """Examples are rows as they are."""

  size: tuple[int, int]

  def spec(self) -> dict[str, jax.ShapeDtypeStruct]:
    return {
      "image": jax.ShapeDtypeStruct((*self.size, 3), np.uint8),
      "depth": jax.ShapeDtypeStruct(self.size, np.float32),
    }

  def __call__(
    self, example: Mapping[str, Any], rng: np.random.Generator
  ) -> Mapping[str, np.ndarray]:
    del rng
    return example


def open_split(config: ml_collections.ConfigDict, train: bool) -> Opened:
  """The scenes of the training or the evaluation split."""
  data, size = config.data, tuple(config.data.image_size)
  count = data.train_scenes if train else data.eval_scenes
  split = data.train_split if train else data.eval_split
  return Opened(DepthScenes(split, count, size), DepthRows(size))
