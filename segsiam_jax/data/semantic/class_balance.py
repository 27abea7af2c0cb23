"""How often the classes of semantic segmentation occur, and their weights."""

import logging
from concurrent import futures
from typing import Literal

import numpy as np

from segsiam_jax.data.images import count_values
from segsiam_jax.data.semantic.sources import SemanticSource
from segsiam_jax.errors import UserError
from segsiam_jax.ops import multilabel

_logger = logging.getLogger(__name__)

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

  def count(index: int) -> np.ndarray:
    return _count(source.label(index), len(source.class_names))

  with futures.ThreadPoolExecutor() as pool:
    return sum(pool.map(count, range(len(source))))


def classes_seen(source: SemanticSource) -> np.ndarray:
  """Classes that label a pixel, ascending: two of them, or all if counted."""
  if source.pixels is not None:
    return np.flatnonzero(source.pixels)
  seen = np.zeros(len(source.class_names), bool)
  for index in range(len(source)):
    seen |= _count(source.label(index), len(seen)) > 0
    if seen.sum() > 1:
      break
  return np.flatnonzero(seen)


def _count(label: np.ndarray, num_classes: int) -> np.ndarray:
  """(K,) int64, pixels of each class."""
  if label.dtype == np.uint8:
    return count_values(label)[:num_classes]
  return multilabel.count(label, num_classes)


def check_classes_differ(
  source: SemanticSource, where: str, train: bool, fewest: int = 2
) -> None:
  """Tells where masks have no foreground, and of classes without a pixel.

  Args:
    source: of a split.
    where: its name, for the message.
    train: whether it is trained on, which makes that an error.
    fewest: classes there must be; 1 where classes may overlap.

  Raises:
    UserError: one class has all the pixels to learn from, or none has any.
  """
  seen = classes_seen(source)
  if len(seen) >= fewest:
    absent = [
      name for index, name in enumerate(source.class_names) if index not in seen
    ]
    if absent and source.pixels is not None:
      _logger.warning("%s: no pixel is of class %s", where, ", ".join(absent))
    return
  problem = "no pixel is of a class"
  if fewest > 1:
    problem = "all pixels are ignored (255)"
  if len(seen):
    problem = f"all pixels are of class {source.class_names[seen[0]]!r}"
  if train:
    raise UserError(
      f"{where}: {problem}, so there is nothing to learn; check the masks "
      "and config.data.class_names, or choose other examples"
    )
  _logger.warning("%s: %s; scores mean little", where, problem)


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
