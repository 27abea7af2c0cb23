"""Handwritten digits: scikit-learn's 8x8 scans with fixed splits.

The 1797 images are real scans (UCI "Optical Recognition of Handwritten
Digits", test part) that ship in scikit-learn's wheel, so that this data set
needs no download.
"""

import functools
import io

import numpy as np
import sklearn.datasets
import tensorflow_datasets as tfds
from PIL import Image

# Index ranges in scikit-learn's order. No digit is in two splits.
SPLITS = {"train": (0, 1257), "validation": (1257, 1437), "test": (1437, 1797)}

CITATION = """@misc{optdigits, author = {Alpaydin, E. and Kaynak, C.},
title = {Optical Recognition of Handwritten Digits}, year = {1998},
howpublished = {UCI Machine Learning Repository}}"""


def png(image: np.ndarray) -> bytes:
  """PNG bytes of a (H, W), (H, W, 1) or (H, W, 3) uint8 image."""
  if image.ndim == 3 and image.shape[-1] == 1:
    image = image[..., 0]
  buffer = io.BytesIO()
  Image.fromarray(image).save(buffer, "PNG")
  return buffer.getvalue()


@functools.cache
def load_digits() -> tuple[np.ndarray, np.ndarray]:
  """All digits: images (1797, 8, 8) float32 in [0, 1], classes (1797,)."""
  bunch = sklearn.datasets.load_digits()
  return bunch.images.astype(np.float32) / 16.0, bunch.target


class Digits(tfds.core.GeneratorBasedBuilder):
  """The digits with their class."""

  VERSION = tfds.core.Version("1.0.0")

  def _info(self) -> tfds.core.DatasetInfo:
    return tfds.core.DatasetInfo(
      builder=self,
      description=__doc__,
      features=tfds.features.FeaturesDict(
        {
          "image": tfds.features.Image(shape=(8, 8, 1)),
          "label": tfds.features.ClassLabel(num_classes=10),
          "id": np.int32,
        }
      ),
      citation=CITATION,
      disable_shuffling=True,
    )

  def _split_generators(self, dl_manager):
    del dl_manager
    return {
      name: self._generate_examples(*bounds) for name, bounds in SPLITS.items()
    }

  def _generate_examples(self, start, stop):
    images, classes = load_digits()
    for index in range(start, stop):
      yield (
        index,
        {
          "image": png(np.rint(images[index] * 255).astype(np.uint8)),
          "label": int(classes[index]),
          "id": index,
        },
      )
