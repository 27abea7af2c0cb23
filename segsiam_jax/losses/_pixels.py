"""What all segmentation losses share: checked inputs and pixel averages."""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp

from segsiam_jax.ops.labels import to_classes
from segsiam_jax.ops.pixels import expand_trailing, valid_pixels
from segsiam_jax.ops.shapes import check_shapes

# A weight per class: any sequence of K numbers or a (K,) array.
ClassWeights = Sequence[float] | jax.Array
# "softmax" for exclusive classes, "sigmoid" for classes on their own.
Activation = Literal["softmax", "sigmoid"]
# What a sum over the pixels of an image is divided by; see `average`.
Normalize = Literal["weights", "pixels", "none"]


class Pixels(NamedTuple):
  """Float32 inputs of a loss, with everything ignored set to zero.

  Attributes:
    logits: `(B, *S, K)`.
    targets: `(B, *S, K)`, one-hot or multi-hot labels.
    valid: `(B, *S, 1)` bool, or `(B, *S, K)` when every class has its own
      ignored pixels.
  """

  logits: jax.Array
  targets: jax.Array
  valid: jax.Array


def prepare(
  logits: jax.Array,
  labels: jax.Array,
  *,
  ignore_label: int | None,
  where: jax.Array | None,
  activation: Activation,
) -> Pixels:
  """Checks shapes, masks, and turns labels into targets.

  Zeroing ignored logits, and not only the loss there, keeps the gradient
  finite when they are NaN or infinite. A label that is neither a class nor
  the ignore label makes the loss NaN: compiled code cannot raise, and a silent
  zero would hide a wrong number of classes.

  Args:
    logits: `(B, *S, K)`, any float type.
    labels: `(B, *S)` integers; or, with "sigmoid", `(B, *S, K)` of 0 and 1
      (multilabel). With K = 1 a `(B, *S)` label is 1 for the foreground.
    ignore_label: see `ops.pixels.valid_pixels`.
    where: see `ops.pixels.valid_pixels`.
    activation: what will be applied to the logits.

  Returns:
    The masked inputs.

  Raises:
    ValueError: shapes that do not fit, or images with an axis of length 0.
    TypeError: labels that are not integers.
  """
  logits, labels = jnp.asarray(logits), jnp.asarray(to_classes(labels))
  check_shapes(logits=(logits, "B *S+ K+"))
  num_classes = logits.shape[-1]
  if activation not in get_args(Activation):
    raise ValueError(
      f"activation is {activation!r}; give one of {get_args(Activation)}"
    )
  exclusive = activation == "softmax"
  if jnp.issubdtype(labels.dtype, jnp.inexact):
    raise TypeError(f"labels are {labels.dtype}; give integers")
  multilabel = labels.shape == logits.shape and not exclusive
  if not multilabel and labels.shape != logits.shape[:-1]:
    expected = f"{logits.shape[:-1]}"
    if not exclusive:
      expected += f", or {logits.shape} for multilabel"
    raise ValueError(
      f"labels have shape {labels.shape}, but logits {logits.shape} need "
      f"{expected}"
    )
  if exclusive and num_classes == 1:
    raise ValueError(
      "logits: a softmax over one class is always 1; for binary ones of shape "
      "(B, *S, 1) use sigmoid_cross_entropy, or activation='sigmoid' in the "
      "other losses"
    )
  valid = valid_pixels(labels, ignore_label=ignore_label, where=where)
  labels = labels.astype(jnp.int32)
  if multilabel or num_classes == 1:
    targets, largest = labels, 1
  else:
    targets = jax.nn.one_hot(labels, num_classes)
    largest = num_classes - 1
  known = (labels >= 0) & (labels <= largest)
  if not multilabel:
    valid, known = valid[..., None], known[..., None]
    targets = targets.reshape(logits.shape)

  def mask(array: jax.Array) -> jax.Array:
    array = jnp.where(known, array.astype(jnp.float32), jnp.nan)
    return jnp.where(valid, array, 0.0)

  return Pixels(logits=mask(logits), targets=mask(targets), valid=valid)


def probabilities(pixels: Pixels, activation: Activation) -> jax.Array:
  """`(B, *S, K)` probabilities, 0 where ignored."""
  activate = jax.nn.softmax if activation == "softmax" else jax.nn.sigmoid
  return jnp.where(pixels.valid, activate(pixels.logits), 0.0)


def weigh(weights: jax.Array, values: jax.Array) -> jax.Array:
  """`weights * values` where 0 times infinity is 0; 0 times NaN is NaN.

  So a class ruled out by a logit of -inf adds no loss where it has no target.
  """
  return weights * jnp.where((weights == 0) & jnp.isinf(values), 0.0, values)


def as_class_weights(
  class_weights: ClassWeights | None, num_classes: int
) -> jax.Array:
  """`(K,)` float32 weights; ones if None."""
  if class_weights is None:
    return jnp.ones(num_classes, jnp.float32)
  weights = jnp.asarray(class_weights, jnp.float32)
  if weights.shape != (num_classes,):
    raise ValueError(
      f"class_weights: shape {weights.shape}; give one for each of the "
      f"{num_classes} classes"
    )
  return weights


def safe_divide(
  numerator: jax.Array, denominator: jax.Array, default: float = 0.0
) -> jax.Array:
  """Quotient, or `default` (with zero gradient) where the denominator is 0.

  NaN over 0 stays NaN, whether the input has weight or not.
  """
  zero = denominator == 0
  quotient = numerator / jnp.where(zero, 1.0, denominator)
  return jnp.where(zero & ~jnp.isnan(numerator), default, quotient)


def average(
  losses: jax.Array,
  weights: jax.Array,
  valid: jax.Array,
  *,
  pixel_weights: jax.Array | None,
  normalize: Normalize,
  hardest_fraction: float | None = None,
) -> jax.Array:
  """Averages losses over the valid entries of each image.

  Args:
    losses: `(B, *S)` or `(B, *S, K)`, already multiplied by class weights.
    weights: the class weights they were multiplied by, broadcastable.
    valid: bool, broadcastable.
    pixel_weights: further weights, aligned with the leading axes.
    normalize: divide the sum by the sum of weights ("weights"), by the number
      of entries kept ("pixels"), or not at all ("none").
    hardest_fraction: keep only this fraction of the valid entries, those of
      the largest weighted losses (at least one); None keeps all.

  Returns:
    `(B,)` float32; 0 for an image without valid entries.

  Raises:
    ValueError: `pixel_weights` does not have the leading axes of `losses`.
  """
  if pixel_weights is not None:
    pixel_weights = expand_trailing(
      "pixel_weights", pixel_weights, losses.shape
    )
    pixel_weights = pixel_weights.astype(jnp.float32)
    losses, weights = weigh(pixel_weights, losses), weights * pixel_weights
  flat = (losses.shape[0], math.prod(losses.shape[1:]))
  valid = jnp.broadcast_to(valid, losses.shape).reshape(flat)
  weights = jnp.broadcast_to(weights, losses.shape).reshape(flat)
  losses = losses.reshape(flat)
  if hardest_fraction is not None and not 0 < hardest_fraction <= 1:
    raise ValueError(
      f"hardest_fraction is {hardest_fraction}; give a number in (0, 1]"
    )
  if hardest_fraction not in (None, 1):
    at_most = max(1, round(hardest_fraction * losses.shape[1]))
    losses = jnp.where(valid, losses, -jnp.inf)
    # Some NaN are below all numbers in the order of `top_k`.
    hardness = jnp.where(jnp.isnan(losses), jnp.inf, losses)
    order = jax.lax.top_k(hardness, at_most)[1]
    losses = jnp.take_along_axis(losses, order, axis=1)
    keep = jnp.maximum(1, jnp.round(hardest_fraction * valid.sum(1)))
    valid = jnp.take_along_axis(valid, order, axis=1)
    valid &= jnp.arange(at_most) < keep[:, None]
    weights = jnp.take_along_axis(weights, order, axis=1)
  # Factors that are NumPy's float64 make it wider with x64.
  total = jnp.where(valid, losses, 0.0).sum(1).astype(jnp.float32)
  if normalize == "none":
    return total
  if normalize == "weights":
    return safe_divide(total, jnp.where(valid, weights, 0.0).sum(1))
  if normalize == "pixels":
    return safe_divide(total, valid.sum(1).astype(jnp.float32))
  raise ValueError(
    f"normalize is {normalize!r}; give one of {get_args(Normalize)}"
  )
