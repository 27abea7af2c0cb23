"""How often the classes of semantic segmentation occur, and their weights."""

from concurrent import futures
from typing import Literal

import numpy as np

from segsiam_jax.data.images import count_values
from segsiam_jax.data.sources import SemanticSource

# No class weighs more than this many times another.
MOST = 50.0


def class_pixels(source: SemanticSource) -> np.ndarray:
  """Pixels of each class in all examples of a source.

  No example is left out: a rare class would look absent in a sample. Labels
  are read without their images, unless the source has counted them already.

  Returns:
    (K,) int64.
  """
  if source.pixels is not None:
    return source.pixels
  num_classes = len(source.class_names)

  def count(index: int) -> np.ndarray:
    return count_values(source.label(index))[:num_classes]

  with futures.ThreadPoolExecutor() as pool:
    return sum(pool.map(count, range(len(source))))


def class_weights(
  pixels: np.ndarray, rule: Literal["inverse", "inverse_sqrt"]
) -> tuple[float, ...]:
  """Weights of the classes from their pixels: rare ones weigh more.

  A weight is 1 / n, or 1 / sqrt n (Mahajan et al., "Exploring the limits of
  weakly supervised pretraining", 2018), but at most `MOST` times the smallest:
  the range that ENet keeps its weights to (Paszke et al., arXiv:1606.02147).
  They have the mean 1 over the classes that occur, so each is within
  [1 / MOST, MOST].

  Args:
    pixels: (K,) int, of each class in the training set.
    rule: see above.

  Returns:
    K floats of four digits; 0 for classes that do not occur.

  >>> class_weights(np.array([900, 100, 0]), "inverse")
  (0.2, 1.8, 0.0)
  """
  present = pixels > 0
  weights = np.zeros(len(pixels))
  power = {"inverse": 1.0, "inverse_sqrt": 0.5}[rule]
  rarity = (pixels[present].max(initial=1) / pixels[present]) ** power
  weights[present] = np.minimum(rarity, MOST)
  weights[present] /= weights[present].mean()
  return tuple(float(f"{weight:.4g}") for weight in weights)
