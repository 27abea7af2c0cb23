"""Trains a Siamese network on digits, and compares images with it.

python -m examples.compare_images WORKDIR
"""

import sys

import sklearn.datasets

import segsiam_jax
from configs import siamese_digits
from segsiam_jax import train
from segsiam_jax.prediction.model import Match


def main(workdir: str) -> list[Match]:
  """A seven with another seven, and with a five."""
  train.train_and_evaluate(siamese_digits.get_config("debug"), workdir)
  model = segsiam_jax.load(workdir)
  digits = sklearn.datasets.load_digits()
  images = (digits.images * 15.9375).astype("uint8")
  sevens, fives = (images[digits.target == number] for number in (7, 5))
  matches = [model.same(sevens[0], other) for other in (sevens[1], fives[0])]
  for match in matches:
    print(f"score {match.score:.3f}, same: {match.same}")
  return matches


if __name__ == "__main__":
  main(sys.argv[1])
