"""Labels of classes that may overlap: one bit a class in an integer.

Such a label moves, resizes and pads like a class index, so that nothing
between the reader and the loss needs to know of it.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

# `fields.semantic` has it, too. Bit 30 is of the ignore label alone.
MOST_CLASSES = 30
IGNORE = np.iinfo(np.int32).max


def pack(masks: np.ndarray) -> np.ndarray:
  """Binary masks -> labels.

  Args:
    masks: `(*S, K)` bool, whether a pixel is of each class; K up to 30.

  Returns:
    `(*S)` int32.

  Raises:
    ValueError: too many classes.

  >>> pack(np.array([[True, False, True], [False, True, False]]))
  array([5, 2], dtype=int32)
  """
  num_classes = masks.shape[-1]
  if num_classes > MOST_CLASSES:
    raise ValueError(
      f"masks: {num_classes} classes; {MOST_CLASSES} fit into a label"
    )
  label = np.zeros(masks.shape[:-1], np.int32)
  for index in range(num_classes):
    label |= masks[..., index].astype(np.int32) << index
  return label


def count(label: np.ndarray, num_classes: int) -> np.ndarray:
  """(K,) int64, how many pixels are of each class.

  >>> count(np.array([5, 4, IGNORE]), 3)
  array([1, 0, 2])
  """
  bits = unpack(label, num_classes, ignore=0)
  return bits.reshape(-1, num_classes).sum(0, dtype=np.int64)


def unpack(labels: Any, num_classes: int, ignore: int = 255) -> Any:
  """Labels -> what losses of `(B, *S, K)` logits take.

  Args:
    labels: `(*S)` int32, on the host or on a device; `IGNORE` is of no class.
    num_classes: K.
    ignore: what ignored pixels become.

  Returns:
    `(*S, K)` uint8 of 0, 1 and `ignore`.

  >>> unpack(np.array([5, IGNORE]), 3).tolist()
  [[1, 0, 1], [255, 255, 255]]
  """
  xp = jnp if isinstance(labels, jax.Array) else np
  bits = labels[..., None] >> xp.arange(num_classes) & 1
  return xp.where(labels[..., None] == IGNORE, ignore, bits).astype(np.uint8)
