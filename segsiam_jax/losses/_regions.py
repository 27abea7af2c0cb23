"""What losses by region share: soft counts and the mean over classes."""

from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp

from segsiam_jax.losses._pixels import (
  Activation,
  ClassWeights,
  as_class_weights,
  prepare,
  probabilities,
  safe_divide,
)

# A class without labelled pixels is left out of the mean over classes, or
# counts like any other.
Absent = Literal["skip", "count"]


class SoftCounts(NamedTuple):
  """Expected pixel counts per image and class, each `(B, K)` float32.

  Attributes:
    true_positive: predicted probability inside the label.
    predicted: predicted probability anywhere (TP + FP).
    labelled: labelled pixels (TP + FN).
  """

  true_positive: jax.Array
  predicted: jax.Array
  labelled: jax.Array


def soft_counts(
  logits: jax.Array,
  labels: jax.Array,
  *,
  ignore_label: int | None = 255,
  where: jax.Array | None = None,
  activation: Activation = "softmax",
  squared: bool = False,
  batch: bool = False,
  axis_name: str | None = None,
) -> SoftCounts:
  """Counts that Dice, Jaccard and Tversky are made of.

  Args:
    squared: sum squared probabilities into `predicted`.
    (others): as `dice_loss`.

  Returns:
    The counts; `(1, K)` if `batch`.
  """
  pixels = prepare(
    logits,
    labels,
    ignore_label=ignore_label,
    where=where,
    activation=activation,
  )
  probs = probabilities(pixels, activation)
  axes = tuple(range(1, probs.ndim - 1))
  counts = SoftCounts(
    true_positive=(probs * pixels.targets).sum(axes),
    predicted=(jnp.square(probs) if squared else probs).sum(axes),
    labelled=pixels.targets.sum(axes),
  )
  if batch:
    counts = jax.tree.map(lambda count: count.sum(0, keepdims=True), counts)
  if axis_name is not None:
    if not batch:
      raise ValueError("axis_name sums over the batch; give batch=True too")
    counts = jax.lax.psum(counts, axis_name)
  return counts


def region_weights(
  labelled: jax.Array,
  class_weights: ClassWeights | None,
  include_background: bool,
  absent: Absent,
) -> jax.Array:
  """Weights of the mean over classes: as given, background, absent.

  Args:
    labelled: `(B, K)` labelled pixels.
    class_weights: as `dice_loss`, like the others.
    include_background: whether class 0 counts.
    absent: how to treat classes without labelled pixels.

  Returns:
    `(B, K)` float32.
  """
  num_classes = labelled.shape[-1]
  weights = as_class_weights(class_weights, num_classes)
  if not include_background:
    if num_classes == 1:
      raise ValueError(
        "the only class of binary logits (B, *S, 1) is the foreground; leave "
        "include_background=True"
      )
    weights = weights.at[0].set(0.0)
  weights = jnp.broadcast_to(weights, labelled.shape)
  if absent == "skip":
    return jnp.where(labelled == 0, 0.0, weights)
  if absent == "count":
    return weights
  raise ValueError(f"absent is {absent!r}; give one of {get_args(Absent)}")


def class_mean(losses: jax.Array, weights: jax.Array) -> jax.Array:
  """Weighted mean over the last axis; 0 if nothing weighs, NaN of NaN."""
  return safe_divide((weights * losses).sum(-1), weights.sum(-1))
