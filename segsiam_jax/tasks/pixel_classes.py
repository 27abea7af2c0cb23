"""What a pixel's classes are: one of several, or any of them.

The two kinds differ in the activation of the logits, in what a label is, in
what is counted and in how labels are drawn; all of it is here.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from segsiam_jax.metrics import ConfusionMatrix, MultilabelCounts
from segsiam_jax.ops import multilabel
from segsiam_jax.report import overlays

# Pixels that are counted at a time on the host.
_PIECE = 2**20


class ExclusiveClasses:
  """Every pixel has one class: a softmax, and labels that are class indices.

  Attributes:
    names: of the classes, by index.
  """

  dtype = np.uint8

  def __init__(self, names: Sequence[str]):
    self.names = tuple(names)

  @property
  def legend(self) -> tuple[str, ...]:
    """See `overlays.legend`."""
    return self.names

  def probabilities(self, logits: jax.Array) -> jax.Array:
    """`(B, *S, K)` float32."""
    return jax.nn.softmax(logits)

  def label(self, probabilities: jax.Array) -> jax.Array:
    """`(B, *S)` of `dtype`, on the device."""
    # Of probabilities: a softmax may round logits to equal ones.
    return probabilities.argmax(-1).astype(self.dtype)

  def label_band(self, band: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels `(*S)` of `(*S, K)` probabilities, and how sure they are."""
    # Class by class: a tenth of the time that argmax takes of the last axis.
    highest = np.array(band[..., 0])
    label = np.zeros(highest.shape, self.dtype)
    for index in range(1, band.shape[-1]):
      label[band[..., index] > highest] = index
      np.maximum(highest, band[..., index], out=highest)
    return label, highest

  def has(self, label: np.ndarray, index: int) -> np.ndarray:
    """Which pixels are of a class."""
    return label == index

  def counts(
    self, probabilities: jax.Array, labels: jax.Array, where: jax.Array
  ) -> Any:
    """What the metrics are computed from, of the rows of a batch."""
    return ConfusionMatrix.of(
      self.label(probabilities), labels, classes=self.names, where=where
    )

  def no_counts(self) -> Any:
    return ConfusionMatrix.empty(self.names)

  def counts_of_file(self, label: np.ndarray, truth: np.ndarray) -> Any:
    """The same of an image, on the host in int64.

    Args:
      label: (*S,) in [0, K).
      truth: (*S,) in [0, K), or 255 for pixels that do not count.
    """
    classes = len(self.names)
    counts = np.zeros(classes**2, np.int64)
    for piece in _pieces(label):
      codes = truth[piece].astype(np.int32) * classes + label[piece]
      # Codes of ignored pixels are larger than all others.
      found = np.bincount(codes.ravel(), minlength=len(counts))
      counts += found[: len(counts)]
    return ConfusionMatrix(counts.reshape(classes, classes), self.names)

  def overlay(self, image: np.ndarray, label: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8: the image with the classes but the first tinted."""
    return overlays.overlay(image, label, len(self.names))


class OverlappingClasses(ExclusiveClasses):
  """A pixel has any of the classes: a sigmoid, and labels of bits."""

  dtype = np.int32

  @property
  def legend(self) -> tuple[str, ...]:
    return ("", *self.names)

  def probabilities(self, logits: jax.Array) -> jax.Array:
    return jax.nn.sigmoid(logits)

  def label(self, probabilities: jax.Array) -> jax.Array:
    bits = (probabilities > 0.5).astype(self.dtype)
    return (bits << jnp.arange(len(self.names))).sum(-1, dtype=self.dtype)

  def label_band(self, band: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    sure = np.maximum(band, 1 - band).mean(-1)
    return multilabel.pack(band > 0.5), sure

  def has(self, label: np.ndarray, index: int) -> np.ndarray:
    return (label != multilabel.IGNORE) & ((label >> index & 1) == 1)

  def counts(
    self, probabilities: jax.Array, labels: jax.Array, where: jax.Array
  ) -> Any:
    return MultilabelCounts.of(
      probabilities > 0.5,
      multilabel.unpack(labels, len(self.names)),
      classes=self.names,
      where=where,
    )

  def no_counts(self) -> Any:
    return MultilabelCounts.empty(self.names)

  def counts_of_file(self, label: np.ndarray, truth: np.ndarray) -> Any:
    counts = np.zeros((len(self.names), 4), np.int64)
    for piece in _pieces(label):
      valid = truth[piece] != multilabel.IGNORE
      for index, row in enumerate(counts):
        yes, true = (self.has(each[piece], index) for each in (label, truth))
        codes = (2 - 2 * yes + (true != yes))[valid]
        # Yes and right, yes and wrong, no and wrong, no and right.
        row += np.bincount(codes, minlength=4)[[0, 1, 3, 2]]
    return MultilabelCounts(counts, self.names)

  def overlay(self, image: np.ndarray, label: np.ndarray) -> np.ndarray:
    return overlays.overlay_masks(
      image, [self.has(label, index) for index in range(len(self.names))]
    )


def _pieces(label: np.ndarray) -> list[slice]:
  step = max(1, _PIECE // label[0].size)
  return [slice(row, row + step) for row in range(0, len(label), step)]


def of_config(config: ml_collections.ConfigDict) -> ExclusiveClasses:
  """The kind of a config whose `data.class_names` are known."""
  kind = OverlappingClasses if config.data.multilabel else ExclusiveClasses
  return kind(config.data.class_names)
