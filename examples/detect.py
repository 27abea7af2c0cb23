"""Trains a tiny Mask R-CNN on digit scenes, and finds objects with it.

python -m examples.detect WORKDIR
"""

import sys

import numpy as np

import segsiam_jax
from configs import maskrcnn_digits
from segsiam_jax import train
from segsiam_jax.prediction.model import Objects


def main(workdir: str) -> Objects:
  """The objects of an image, whatever their score."""
  train.train_and_evaluate(maskrcnn_digits.get_config("debug"), workdir)
  model = segsiam_jax.load(workdir)
  image = np.random.default_rng(0).integers(0, 256, (96, 96, 3), np.uint8)
  found = model.predict(image, min_score=0.0)
  for box, label, score in zip(
    found.boxes[:5], found.classes, found.scores, strict=False
  ):
    print(model.classes[label], f"{score:.2f}", box.round().tolist())
  return found


if __name__ == "__main__":
  main(sys.argv[1])
