"""Panoptic quality, on the device and mergeable."""

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Self

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
from segsiam_jax.metrics.segmentation import as_labels, confusion_matrices
from segsiam_jax.ops.labels import to_ids
from segsiam_jax.ops.pixels import valid_pixels


@flax.struct.dataclass
class PanopticQuality(MetricState):
  """Panoptic, segmentation and recognition quality over a data set.

  A predicted and a labelled segment of one category match if their IoU is
  above 1/2, void pixels (labelled `ignore_label` or outside `[0, K)`) not
  counted in the union. Unmatched predictions that are more than half void are
  not false positives. Crowds have to be labelled void.

  Attributes:
    iou: `(K,)` float32, sum of the IoU of matches. NaN if an image had more
      segments than `max_segments`.
    true_positive: `(K,)` int32, matches.
    false_positive: `(K,)` int32, predicted segments without a match.
    false_negative: `(K,)` int32, labelled segments without a match.
    class_names: K names for the table.
    things: the categories with instances; the others are stuff, one segment
      per image.

  References:
    Kirillov et al., Panoptic Segmentation, arXiv:1801.00868; cocodataset's
    panopticapi.
  """

  iou: jax.Array
  true_positive: jax.Array
  false_positive: jax.Array
  false_negative: jax.Array
  class_names: tuple[str, ...] = flax.struct.field(pytree_node=False)
  things: tuple[int, ...] = flax.struct.field(pytree_node=False)

  @classmethod
  def empty(
    cls, classes: int | Sequence[str], *, things: Sequence[int]
  ) -> Self:
    """State without images.

    Args:
      classes: number of categories, or their names.
      things: the categories with instances.

    Returns:
      The neutral element of `merge`.
    """
    names = as_class_names(classes)
    zeros = jnp.zeros(len(names), jnp.int32)
    return cls(
      iou=zeros.astype(jnp.float32),
      true_positive=zeros,
      false_positive=zeros,
      false_negative=zeros,
      class_names=names,
      things=tuple(things),
    )

  @classmethod
  def of(
    cls,
    predictions: jax.Array,
    prediction_instances: jax.Array,
    labels: jax.Array,
    label_instances: jax.Array,
    *,
    classes: int | Sequence[str],
    things: Sequence[int],
    max_segments: int = 256,
    ignore_label: int | None = 255,
    where: jax.Array | None = None,
  ) -> Self:
    """State of a batch.

    Args:
      predictions: `(B, *S)` predicted categories; a pixel outside `[0, K)`
        belongs to no segment.
      prediction_instances: `(B, *S)` integers that tell instances of a
        category apart; any value where there is stuff. What 32 bits cannot
        hold is renumbered on the host; inside of compiled code it has lost
        its upper bits before it comes here, unless x64 is on.
      labels: `(B, *S)` labelled categories.
      label_instances: `(B, *S)` integers, as `prediction_instances`.
      classes: number of categories, or their names.
      things: the categories with instances.
      max_segments: upper bound of the segments in an image and of its
        distinct instance numbers; 256 holds for COCO and Cityscapes.
      ignore_label: label of void pixels; None if there are none.
      where: `(B,)` example mask or `(B, *S)` pixel mask; masked pixels are
        cut from predictions and labels alike.

    Returns:
      The state; merge it with others.

    Raises:
      ValueError: shapes that do not fit, or images with an axis of length 0.
      TypeError: floats.

    >>> labels = jnp.array([[0, 0, 0, 1, 1, 1, 1, 1]])
    >>> instances = jnp.array([[7, 8, 9, 1, 1, 1, 2, 2]])  # 7, 8, 9: stuff
    >>> split = jnp.array([[0, 0, 0, 1, 1, 1, 2, 3]])  # cuts the second thing
    >>> state = PanopticQuality.of(
    ...   labels, split, labels, instances, classes=2, things=(1,))
    >>> values = state.compute()
    >>> values["pq/0"], values["pq/1"]
    (1.0, 0.4)
    """
    names = as_class_names(classes)
    predictions, labels = as_labels(predictions, labels)
    prediction_instances = _as_instances(
      "prediction_instances", prediction_instances, labels.shape
    )
    label_instances = _as_instances(
      "label_instances", label_instances, labels.shape
    )
    keep = valid_pixels(labels, ignore_label=None, where=where)
    valid = valid_pixels(labels, ignore_label=ignore_label, where=where)
    arrays = (
      keep,
      _in_range(predictions, len(names)) & keep,
      predictions.astype(jnp.int32),
      prediction_instances,
      _in_range(labels, len(names)) & valid,
      labels.astype(jnp.int32),
      label_instances,
    )

    def of_image(
      keep, is_predicted, predictions, predicted_ids, is_labelled, labels, ids
    ):
      number = functools.partial(
        _number_segments, things=tuple(things), max_segments=max_segments
      )
      predicted = number(predictions, predicted_ids, is_predicted)
      labelled = number(labels, ids, is_labelled)
      return _match(predicted, labelled, keep, len(names))

    flat = (labels.shape[0], math.prod(labels.shape[1:]))
    sums = jax.vmap(of_image)(*(jnp.reshape(a, flat) for a in arrays))
    iou, true_positive, false_positive, false_negative = (
      leaf.sum(0, dtype=leaf.dtype) for leaf in sums
    )
    return cls(
      iou=iou,
      true_positive=true_positive,
      false_positive=false_positive,
      false_negative=false_negative,
      class_names=names,
      things=tuple(things),
    )

  def compute(self) -> dict[str, float]:
    """Qualities over all images counted so far.

    Returns:
      `pq`, `sq` (mean IoU of matches) and `rq` (F1 of matching), each the mean
      over categories that occur; `pq_things` and `pq_stuff`; and `pq/<class>`,
      `sq/<class>`, `rq/<class>`. What is not defined is NaN.
    """
    matches = np.asarray(self.true_positive, np.float64)
    misses = np.asarray(self.false_positive) + np.asarray(self.false_negative)
    iou = np.asarray(self.iou, np.float64)
    occurs = matches + misses > 0
    scores = {
      "pq": ratio(iou, matches + misses / 2, np),
      # Without a match the quality of matches is 0, as in panopticapi.
      "sq": np.where(occurs, iou / np.maximum(matches, 1), np.nan),
      "rq": ratio(matches, matches + misses / 2, np),
    }
    is_thing = np.isin(np.arange(len(self.class_names)), self.things)
    values = {
      name: mean_of_defined(by_class, occurs)
      for name, by_class in scores.items()
    }
    values["pq_things"] = mean_of_defined(scores["pq"], occurs & is_thing)
    values["pq_stuff"] = mean_of_defined(scores["pq"], occurs & ~is_thing)
    for name, by_class in scores.items():
      for class_name, score in zip(self.class_names, by_class, strict=True):
        values[f"{name}/{class_name}"] = float(score)
    return values


class _Segments(NamedTuple):
  """The segments of an image, numbered from 0.

  Attributes:
    index: `(N,)` int32, number of the segment of each pixel; `max_segments`
      where there is none.
    category: `(max_segments,)` int32 category of each number in use.
    overflow: () bool, whether there are more than `max_segments`.
  """

  index: jax.Array  # type: ignore[assignment]
  category: jax.Array
  overflow: jax.Array


def _as_instances(
  name: str, instances: jax.Array, shape: tuple[int, ...]
) -> jax.Array:
  """Instance numbers that 32 bits tell apart, of the categories' shape."""
  instances = jnp.asarray(to_ids(instances))
  if instances.shape != shape:
    raise ValueError(
      f"{name}: instance numbers of shape {instances.shape} need the shape of "
      f"the categories {shape}"
    )
  if jnp.issubdtype(instances.dtype, jnp.inexact):
    raise TypeError(f"{name} are {instances.dtype}; give integers")
  # With x64 an array of the device may have 64 bits: they stay.
  wide = instances.dtype.itemsize > 4
  return instances if wide else instances.astype(jnp.int32)


def _in_range(categories: jax.Array, num_classes: int) -> jax.Array:
  return (categories >= 0) & (categories < num_classes)


def _number_segments(
  categories: jax.Array,
  ids: jax.Array,
  mask: jax.Array,
  *,
  things: tuple[int, ...],
  max_segments: int,
) -> _Segments:
  """Numbers the segments among the pixels in `mask`."""
  is_thing = jnp.isin(categories, jnp.asarray(things, jnp.int32))
  ids = jnp.where(is_thing, ids, 0)
  # Ids first: category and id together may not fit into 32 bits.
  ids, _, too_many_ids = _number(ids, mask, max_segments)
  codes = categories * max_segments + ids
  index, codes, too_many = _number(codes, mask, max_segments)
  return _Segments(index, codes // max_segments, too_many | too_many_ids)


def _number(
  values: jax.Array, mask: jax.Array, size: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Replaces the distinct values in `mask` by 0, 1, 2, ..., and by `size`
  outside. Also the `(size,)` values, and whether there were more."""
  last = jnp.iinfo(values.dtype).max
  values = jnp.where(mask, values, last)
  distinct = jnp.unique(values, size=size, fill_value=last)
  index = jnp.searchsorted(distinct, values)
  index = jnp.where(mask, index, size).astype(jnp.int32)
  return index, distinct, (mask & (index == size)).any()


def _match(
  predicted: _Segments, labelled: _Segments, keep: jax.Array, num_classes: int
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
  """The sums of `PanopticQuality` for one image."""
  none = predicted.category.shape[0]
  areas = confusion_matrices(
    predicted.index[None],
    labelled.index[None],
    none + 1,
    ignore_label=None,
    where=keep[None],
  )[0]
  intersection, void = areas[:none, :none], areas[none, :none]
  labelled_area, predicted_area = areas[:none].sum(1), areas[:, :none].sum(0)
  union = labelled_area[:, None] + predicted_area - void - intersection
  match = labelled.category[:, None] == predicted.category
  match &= 2 * intersection > union
  iou = intersection / jnp.maximum(union, 1)
  iou = jnp.where(match, iou, 0.0).astype(jnp.float32)

  def by_class(values: jax.Array, segments: _Segments) -> jax.Array:
    of_class = segments.category[:, None] == jnp.arange(num_classes)
    values = jnp.where(of_class, values[:, None], 0)
    return values.sum(0, dtype=values.dtype)

  missed = (labelled_area > 0) & ~match.any(1)
  invented = (predicted_area > 0) & ~match.any(0) & (2 * void <= predicted_area)
  overflow = predicted.overflow | labelled.overflow
  return (
    jnp.where(overflow, jnp.nan, by_class(iou.sum(1), labelled)),
    by_class(match.sum(1, dtype=jnp.int32), labelled),
    by_class(invented.astype(jnp.int32), predicted),
    by_class(missed.astype(jnp.int32), labelled),
  )


def panoptic_quality(
  predictions: jax.Array,
  prediction_instances: jax.Array,
  labels: jax.Array,
  label_instances: jax.Array,
  *,
  classes: int | Sequence[str],
  things: Sequence[int],
  **options: Any,
) -> dict[str, float]:
  """Panoptic quality of a batch, in one call.

  Args:
    predictions: `(B, *S)` predicted categories.
    prediction_instances: `(B, *S)` predicted instance numbers.
    labels: `(B, *S)` labelled categories.
    label_instances: `(B, *S)` labelled instance numbers.
    classes: number of categories, or their names.
    things: the categories with instances.
    **options: `max_segments`, `ignore_label` and `where` of
      `PanopticQuality.of`.

  Returns:
    The values of `PanopticQuality.compute`.

  Raises:
    ValueError: as `PanopticQuality.of`.

  >>> labels, ids = jnp.array([[0, 1, 1]]), jnp.array([[0, 1, 1]])
  >>> panoptic_quality(labels, ids, labels, ids, classes=2, things=(1,))["pq"]
  1.0
  """
  state = PanopticQuality.of(
    predictions,
    prediction_instances,
    labels,
    label_instances,
    classes=classes,
    things=things,
    **options,
  )
  return state.compute()
