"""Segmentation metrics that are made of pixel counts."""

import math
from collections.abc import Sequence
from typing import Literal, Self, get_args

import flax
import jax
import jax.numpy as jnp
import numpy as np

from segsiam_jax.metrics.base import MetricState
from segsiam_jax.metrics.class_mean import (
  as_class_names,
  mean_of_defined,
  ratio,
)
from segsiam_jax.ops.labels import to_classes
from segsiam_jax.ops.pixels import valid_pixels
from segsiam_jax.ops.shapes import check_integer, check_shapes

# Float32 sums of ones are exact up to this count.
_EXACT_FLOAT32 = 2**24

# What the score of a class is where it does not occur; see `ConfusionMatrix`.
Absent = Literal["skip", "skip_unlabelled", "zero", "one"]


def confusion_matrices(
  predictions: jax.Array,
  labels: jax.Array,
  num_classes: int,
  *,
  ignore_label: int | None = 255,
  where: jax.Array | None = None,
) -> jax.Array:
  """One exact confusion matrix per image.

  Args:
    predictions: `(B, *S)` integers. A prediction outside `[0, K)` is not
      counted.
    labels: `(B, *S)` integers. A label outside `[0, K)` is not counted.
    num_classes: K.
    ignore_label: label of pixels that do not count; None if there is none.
    where: `(B,)` example mask or `(B, *S)` pixel mask, nonzero = count.

  Returns:
    `(B, K, K)` int32, rows are labels, columns predictions.

  Raises:
    ValueError: shapes that do not fit, or images with an axis of length 0.

  >>> labels = jnp.array([[0, 0, 1, 255]])
  >>> predictions = jnp.array([[0, 1, 1, 1]])
  >>> confusion_matrices(predictions, labels, 2).tolist()
  [[[1, 1], [0, 1]]]
  """
  predictions, labels = as_labels(predictions, labels)
  valid = valid_pixels(labels, ignore_label=ignore_label, where=where)
  num_classes = check_integer("num_classes", num_classes, 1)
  flat = (labels.shape[0], math.prod(labels.shape[1:]))
  predictions = predictions.astype(jnp.int32).reshape(flat)
  labels = jnp.where(valid, labels.astype(jnp.int32), -1).reshape(flat)
  return jax.lax.platform_dependent(
    predictions,
    labels,
    cpu=lambda p, y: _count_by_scatter(p, y, num_classes),
    default=lambda p, y: _count_by_matmul(p, y, num_classes),
  )


def as_labels(
  predictions: jax.Array, labels: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Both as arrays, after checking that they are integers of one shape.

  Args:
    predictions: `(B, *S)` integers.
    labels: `(B, *S)` integers.

  Returns:
    Both; of 64 bits in 32, with numbers that do not fit out of range.

  Raises:
    ValueError: shapes that differ, or images with an axis of length 0.
    TypeError: floats.
  """
  predictions, labels = (
    jnp.asarray(to_classes(array)) for array in (predictions, labels)
  )
  if predictions.shape != labels.shape:
    raise ValueError(
      f"predictions {predictions.shape} and labels {labels.shape} need the "
      "same shape (B, *S); take the argmax of logits first"
    )
  check_shapes(labels=(labels, "B *S+"))
  for name, array in (("predictions", predictions), ("labels", labels)):
    if jnp.issubdtype(array.dtype, jnp.inexact):
      raise TypeError(f"{name} are {array.dtype}; give integers")
  return predictions, labels


def _count_by_scatter(
  predictions: jax.Array, labels: jax.Array, num_classes: int
) -> jax.Array:
  """Adds ones at their bin: what a CPU does well."""
  batch, bins = labels.shape[0], num_classes * num_classes
  known = (labels >= 0) & (labels < num_classes)
  known &= (predictions >= 0) & (predictions < num_classes)
  # One more bin for what is not counted, so that no index is out of bounds.
  codes = jnp.where(known, labels * num_classes + predictions, bins)
  # One scatter into all images costs two thirds of one scatter by image.
  codes += (bins + 1) * jnp.arange(batch)[:, None]
  counts = jnp.zeros(batch * (bins + 1), jnp.int32)
  counts = counts.at[codes.reshape(-1)].add(1, mode="promise_in_bounds")
  counts = counts.reshape(batch, bins + 1)[:, :bins]
  return counts.reshape(batch, num_classes, num_classes)


def _count_by_matmul(
  predictions: jax.Array, labels: jax.Array, num_classes: int
) -> jax.Array:
  """Multiplies one-hot matrices: a scatter would serialise on few bins.

  0 and 1 are exact in bfloat16 and so is their float32 sum over a block.
  """
  counts = jnp.zeros((), jnp.int32)
  for start in range(0, labels.shape[1], _EXACT_FLOAT32):
    block = slice(start, start + _EXACT_FLOAT32)
    products = jnp.einsum(
      "bnk,bnl->bkl",
      jax.nn.one_hot(labels[:, block], num_classes, dtype=jnp.bfloat16),
      jax.nn.one_hot(predictions[:, block], num_classes, dtype=jnp.bfloat16),
      preferred_element_type=jnp.float32,
    )
    counts += products.astype(jnp.int32)
  return counts


def _iou(intersection, labelled, predicted, absent: Absent, xp):
  """IoU from counts, in NumPy (host) or jax.numpy (`xp`)."""
  scores = ratio(intersection, labelled + predicted - intersection, xp)
  return _fill_absent(scores, labelled, absent, xp)


def _dice(intersection, labelled, predicted, absent: Absent, xp):
  """Dice coefficient from counts, in NumPy or jax.numpy (`xp`)."""
  scores = ratio(2 * intersection, labelled + predicted, xp)
  return _fill_absent(scores, labelled, absent, xp)


def _fill_absent(scores, labelled, absent: Absent, xp):
  """Applies the convention for absent classes; undefined scores are NaN."""
  if absent == "skip":
    return scores
  if absent == "skip_unlabelled":
    return xp.where(labelled == 0, xp.nan, scores)
  if absent in ("zero", "one"):
    return xp.where(xp.isnan(scores), float(absent == "one"), scores)
  raise ValueError(f"absent is {absent!r}; give one of {get_args(Absent)}")


def image_iou(
  predictions: jax.Array,
  labels: jax.Array,
  num_classes: int,
  *,
  ignore_label: int | None = 255,
  where: jax.Array | None = None,
  absent: Absent = "skip",
) -> jax.Array:
  """IoU of every class in every image.

  Args:
    predictions: `(B, *S)` integers.
    labels: `(B, *S)` integers.
    num_classes: K.
    ignore_label: label of pixels that do not count; None if there is none.
    where: `(B,)` example mask or `(B, *S)` pixel mask, nonzero = count.
    absent: see `ConfusionMatrix`.

  Returns:
    `(B, K)` float32, NaN where undefined; `ClassMean.of` streams them.

  >>> labels = jnp.array([[0, 0, 1, 255]])
  >>> image_iou(jnp.array([[0, 1, 1, 1]]), labels, 3).tolist()
  [[0.5, 0.5, nan]]
  """
  counts = confusion_matrices(
    predictions, labels, num_classes, ignore_label=ignore_label, where=where
  )
  intersection, labelled, predicted = _marginals(counts)
  iou = _iou(intersection, labelled, predicted, absent, jnp)
  return iou.astype(jnp.float32)


def image_dice(
  predictions: jax.Array,
  labels: jax.Array,
  num_classes: int,
  *,
  ignore_label: int | None = 255,
  where: jax.Array | None = None,
  absent: Absent = "skip",
) -> jax.Array:
  """Dice coefficient (F1) of every class in every image.

  Args:
    predictions: `(B, *S)` integers.
    labels: `(B, *S)` integers.
    num_classes: K.
    ignore_label: label of pixels that do not count; None if there is none.
    where: `(B,)` example mask or `(B, *S)` pixel mask, nonzero = count.
    absent: see `ConfusionMatrix`.

  Returns:
    `(B, K)` float32, NaN where undefined; `ClassMean.of` streams them.

  >>> labels = jnp.array([[0, 0, 0, 1]])
  >>> image_dice(jnp.array([[0, 1, 1, 1]]), labels, 2).tolist()
  [[0.5, 0.5]]
  """
  counts = confusion_matrices(
    predictions, labels, num_classes, ignore_label=ignore_label, where=where
  )
  intersection, labelled, predicted = _marginals(counts)
  dice = _dice(intersection, labelled, predicted, absent, jnp)
  return dice.astype(jnp.float32)


def _marginals(counts):
  """Intersection, labelled and predicted pixels, `(..., K)` each."""
  return counts.diagonal(0, -2, -1), counts.sum(-1), counts.sum(-2)


@flax.struct.dataclass
class ConfusionMatrix(MetricState):
  """Streaming confusion matrix: IoU and its relatives over a whole data set.

  Counts are int32 on the device: fetch them (`metrics.base.widen`) before
  2^31 pixels of one kind have been added, say 8000 images of 512 x 512.

  Attributes:
    counts: `(K, K)` int32, rows are labels, columns predictions.
    class_names: K names for the table.
    absent: the score of a class that does not occur. "skip": NaN in the table
      and left out of the mean if it has neither labels nor predictions
      (mmsegmentation, scenic). "skip_unlabelled": the same if it has no
      labels, even when predicted (detectron2, MONAI). "zero" and "one":
      counted with that value if it has neither (TensorFlow Model Garden
      counts 0).
  """

  counts: jax.Array
  class_names: tuple[str, ...] = flax.struct.field(pytree_node=False)
  absent: Absent = flax.struct.field(pytree_node=False, default="skip")

  @classmethod
  def empty(
    cls, classes: int | Sequence[str], *, absent: Absent = "skip"
  ) -> Self:
    """State without pixels.

    Args:
      classes: number of classes, or their names.
      absent: see the class.

    Returns:
      The neutral element of `merge`.
    """
    names = as_class_names(classes)
    counts = jnp.zeros((len(names), len(names)), jnp.int32)
    return cls(counts=counts, class_names=names, absent=absent)

  @classmethod
  def of(
    cls,
    predictions: jax.Array,
    labels: jax.Array,
    *,
    classes: int | Sequence[str],
    ignore_label: int | None = 255,
    where: jax.Array | None = None,
    absent: Absent = "skip",
  ) -> Self:
    """State of a batch.

    Args:
      predictions: `(B, *S)` integers.
      labels: `(B, *S)` integers.
      classes: number of classes, or their names.
      ignore_label: label of pixels that do not count; None if there is none.
      where: `(B,)` example mask or `(B, *S)` pixel mask, nonzero = count.
      absent: see the class.

    Returns:
      The state; merge it with others.

    >>> state = ConfusionMatrix.of(
    ...   jnp.array([[0, 0, 1, 1]]), jnp.array([[0, 1, 1, 255]]),
    ...   classes=("sky", "road", "car"))
    >>> values = state.merge(state).compute()
    >>> values["mean_iou"], values["iou/road"], values["iou/car"]
    (0.5, 0.5, nan)
    """
    names = as_class_names(classes)
    counts = confusion_matrices(
      predictions,
      labels,
      len(names),
      ignore_label=ignore_label,
      where=where,
    )
    return cls(
      counts=counts.sum(0, dtype=jnp.int32), class_names=names, absent=absent
    )

  def compute(self) -> dict[str, float]:
    """Scores over all pixels counted so far.

    Returns:
      `mean_iou`, `mean_dice`, `pixel_accuracy`, `mean_accuracy` (the mean
      over labelled classes of the recall), `frequency_weighted_iou`, and for
      every class `iou/<class>`, `dice/<class>`, `accuracy/<class>`. What is
      not defined is NaN.
    """
    counts = np.asarray(self.counts).astype(np.int64)
    intersection, labelled, predicted = _marginals(counts)
    iou = _iou(intersection, labelled, predicted, self.absent, np)
    dice = _dice(intersection, labelled, predicted, self.absent, np)
    accuracy = ratio(intersection, labelled, np)
    # Classes without labels have frequency 0, whatever their IoU.
    weighted = np.where(labelled > 0, labelled * iou, 0.0).sum()
    values = {
      "mean_iou": mean_of_defined(iou, ~np.isnan(iou)),
      "mean_dice": mean_of_defined(dice, ~np.isnan(dice)),
      "pixel_accuracy": ratio(intersection.sum(), counts.sum(), np),
      "mean_accuracy": mean_of_defined(accuracy, labelled > 0),
      "frequency_weighted_iou": ratio(weighted, counts.sum(), np),
    }
    for name, scores in (("iou", iou), ("dice", dice), ("accuracy", accuracy)):
      for class_name, score in zip(self.class_names, scores, strict=True):
        values[f"{name}/{class_name}"] = score
    return {name: float(value) for name, value in values.items()}
