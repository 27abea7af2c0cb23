"""Scores of classes that may overlap, each a yes or a no for every pixel."""

from collections.abc import Sequence
from typing import Self

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
from segsiam_jax.ops.shapes import check_shapes


@flax.struct.dataclass
class MultilabelCounts(MetricState):
  """Streaming counts of true and false positives and negatives of each class.

  Counts are int32 on the device, see `ConfusionMatrix`.

  Attributes:
    counts: `(K, 4)` int32: true positives, false positives, false negatives,
      true negatives.
    class_names: K names for the table.
  """

  counts: jax.Array
  class_names: tuple[str, ...] = flax.struct.field(pytree_node=False)

  @classmethod
  def empty(cls, classes: int | Sequence[str]) -> Self:
    """State without pixels; `classes` is their number, or their names."""
    names = as_class_names(classes)
    return cls(jnp.zeros((len(names), 4), jnp.int32), names)

  @classmethod
  def of(
    cls,
    predictions: jax.Array,
    labels: jax.Array,
    *,
    classes: int | Sequence[str],
    ignore_label: int | None = 255,
    where: jax.Array | None = None,
  ) -> Self:
    """State of a batch.

    Args:
      predictions: `(B, *S, K)` of 0 and 1, or bool.
      labels: `(B, *S, K)` integers of 0, 1 and `ignore_label`; others are not
        counted.
      classes: their number, or their names.
      ignore_label: label of what does not count; None if there is none.
      where: `(B,)` example mask or `(B, *S)` pixel mask, nonzero = count.

    Returns:
      The state; merge it with others.

    Raises:
      ValueError: shapes that do not fit.
      TypeError: floats, such as probabilities.

    >>> state = MultilabelCounts.of(
    ...   jnp.array([[[1, 0], [1, 1]]]), jnp.array([[[1, 0], [0, 255]]]),
    ...   classes=("lung", "heart"))
    >>> state.counts.tolist()
    [[1, 1, 0, 0], [0, 0, 0, 1]]
    """
    names = as_class_names(classes)
    check_shapes(predictions=(predictions, "B *S K"), labels=(labels, "B *S K"))
    if labels.shape[-1] != len(names):
      raise ValueError(
        f"labels: {labels.shape[-1]} classes in the last axis; there are "
        f"{len(names)} names"
      )
    predictions, labels = (
      jnp.asarray(to_classes(array)) for array in (predictions, labels)
    )
    for name, array in (("predictions", predictions), ("labels", labels)):
      if jnp.issubdtype(array.dtype, jnp.inexact):
        raise TypeError(f"{name} are {array.dtype}; give 0 and 1")
    valid = valid_pixels(labels, ignore_label=ignore_label, where=where)
    valid &= (labels == 0) | (labels == 1)
    yes, true = predictions != 0, labels == 1
    kinds = (yes & true, yes & ~true, ~yes & true, ~yes & ~true)
    axes = tuple(range(labels.ndim - 1))
    counts = [(kind & valid).sum(axes, dtype=jnp.int32) for kind in kinds]
    return cls(jnp.stack(counts, axis=-1), names)

  def compute(self) -> dict[str, float]:
    """Scores over all pixels counted so far.

    Returns:
      For every class `iou/<class>`, `dice/<class>` (F1), `precision/<class>`
      and `recall/<class>`, and the means over the classes where they are
      defined, `mean_iou`, `mean_dice`, `mean_precision`, `mean_recall`;
      `pixel_accuracy`, the share of right answers. What is not defined is NaN:
      a class that is neither labelled nor predicted has no IoU.
    """
    counts = np.asarray(self.counts).astype(np.int64)
    hits, false, missed, _ = counts.T
    scores = {
      "iou": (hits, hits + false + missed),
      "dice": (2 * hits, 2 * hits + false + missed),
      "precision": (hits, hits + false),
      "recall": (hits, hits + missed),
    }
    means, of_classes = {}, {}
    for name, (part, whole) in scores.items():
      values = ratio(part, whole, np)
      means[f"mean_{name}"] = mean_of_defined(values, whole > 0)
      for class_name, value in zip(self.class_names, values, strict=True):
        of_classes[f"{name}/{class_name}"] = value
    right = counts[:, 0].sum() + counts[:, 3].sum()
    means["pixel_accuracy"] = ratio(right, counts.sum(), np)
    return {name: float(value) for name, value in (means | of_classes).items()}
