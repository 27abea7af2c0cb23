"""Trains a tiny U-Net on digit scenes, and labels an image with it.

python -m examples.segment WORKDIR
"""

import sys

import numpy as np

import segsiam_jax
from configs import unet_digits
from segsiam_jax import train


def main(workdir: str) -> np.ndarray:
  """Labels of an image that the network has not seen."""
  train.train_and_evaluate(unet_digits.get_config("debug"), workdir)
  model = segsiam_jax.load(workdir)
  image = np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8)
  found = model.predict(image, probabilities=True)
  for index, name in enumerate(model.classes):
    share = (found.labels == index).mean()
    print(f"{name}: {share:.1%} of the pixels")
  return found.labels


if __name__ == "__main__":
  main(sys.argv[1])
