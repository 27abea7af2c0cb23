"""Segmentation losses that compare regions: Dice, Jaccard, Tversky.

All take the arguments of `dice_loss`, for any number of spatial axes, and
return one value per image. They differ in how they weigh the soft counts of
`regions.soft_counts`: true positives (TP), false positives, false negatives.
"""

from typing import Any

import jax
import jax.numpy as jnp

from segsiam_jax.losses._pixels import Activation, ClassWeights, safe_divide
from segsiam_jax.losses._regions import (
  Absent,
  SoftCounts,
  class_mean,
  region_weights,
  soft_counts,
)

__all__ = ["dice_loss", "focal_tversky_loss", "jaccard_loss", "tversky_loss"]


def dice_loss(
  logits: jax.Array,
  labels: jax.Array,
  *,
  ignore_label: int | None = 255,
  class_weights: ClassWeights | None = None,
  where: jax.Array | None = None,
  activation: Activation = "softmax",
  smooth: float = 1e-5,
  squared: bool = False,
  generalised: bool = False,
  include_background: bool = True,
  absent: Absent = "skip",
  batch: bool = False,
  axis_name: str | None = None,
) -> jax.Array:
  """One minus the soft Dice coefficient.

  `1 - (2 TP + smooth) / (predicted + labelled + smooth)`, averaged over
  classes, or with `generalised` numerator and denominator first summed over
  classes with weights `1 / labelled^2`.

  Args:
    logits: `(B, *S, K)`.
    labels: `(B, *S)` integers in `[0, K)` or `ignore_label`; or, with
      activation "sigmoid", `(B, *S, K)` of 0 and 1 for classes that overlap.
      Binary masks are K = 1 with "sigmoid" and `(B, *S)` labels 0 and 1.
    ignore_label: label of pixels that do not count; None if there is none.
    class_weights: `(K,)` weights of the mean over classes.
    where: `(B,)` example mask or `(B, *S)` pixel mask, nonzero = count.
    activation: "softmax" for exclusive classes, "sigmoid" otherwise.
    smooth: added to the numerator and the denominator.
    squared: squared probabilities in the denominator, as V-Net.
    generalised: the generalised Dice loss; `smooth` is then in pixels of the
      rarest class, and an absent class that counts weighs as much as that.
    include_background: whether class 0 counts.
    absent: a class without labelled pixels is left out of the mean ("skip"),
      or counts like any other ("count"): its loss is then near 1 as soon as
      a few pixels are predicted, which only a larger `smooth` tempers.
    batch: count over all images of the batch instead of per image; every
      image then gets the loss of the batch.
    axis_name: with `batch`, the pmap axis to sum the counts over. Under jit
      the batch is global already.

  Returns:
    `(B,)` float32.

  References:
    Milletari et al., V-Net, arXiv:1606.04797 (squared denominator).
    Sudre et al., Generalised Dice overlap, arXiv:1707.03237.

  >>> logits = jnp.array([[[9.0, -9.0], [-9.0, 9.0], [9.0, -9.0]]])
  >>> labels = jnp.array([[0, 1, 1]])
  >>> print(f"{dice_loss(logits, labels)[0]:.4f}")  # Dice of 2/3 and 2/3
  0.3333
  """
  counts, weights = _counts_and_weights(
    logits,
    labels,
    ignore_label=ignore_label,
    class_weights=class_weights,
    where=where,
    activation=activation,
    squared=squared,
    include_background=include_background,
    absent=absent,
    batch=batch,
    axis_name=axis_name,
  )
  numerator = 2 * counts.true_positive
  denominator = counts.predicted + counts.labelled
  if generalised:
    weights *= _rarity(counts.labelled, weights > 0)
    numerator = (weights * numerator).sum(-1)
    denominator = (weights * denominator).sum(-1)
    losses = 1 - _score(numerator, denominator, smooth)
  else:
    losses = class_mean(1 - _score(numerator, denominator, smooth), weights)
  return _of_images(losses, len(logits))


def jaccard_loss(
  logits: jax.Array,
  labels: jax.Array,
  *,
  ignore_label: int | None = 255,
  class_weights: ClassWeights | None = None,
  where: jax.Array | None = None,
  activation: Activation = "softmax",
  smooth: float = 1e-5,
  include_background: bool = True,
  absent: Absent = "skip",
  batch: bool = False,
  axis_name: str | None = None,
) -> jax.Array:
  """One minus the soft Jaccard index (IoU), averaged over classes.

  `1 - (TP + smooth) / (TP + FP + FN + smooth)`.

  Args:
    (all): as `dice_loss`.

  Returns:
    `(B,)` float32.

  References:
    Rahman and Wang, Optimizing Intersection-Over-Union in Deep Neural
    Networks for Image Segmentation, ISVC 2016.

  >>> logits = jnp.array([[[9.0, -9.0], [-9.0, 9.0], [9.0, -9.0]]])
  >>> labels = jnp.array([[0, 1, 1]])
  >>> print(f"{jaccard_loss(logits, labels)[0]:.4f}")  # IoU of 1/2 and 1/2
  0.5000
  """
  return tversky_loss(
    logits,
    labels,
    alpha=1.0,
    beta=1.0,
    ignore_label=ignore_label,
    class_weights=class_weights,
    where=where,
    activation=activation,
    smooth=smooth,
    include_background=include_background,
    absent=absent,
    batch=batch,
    axis_name=axis_name,
  )


def tversky_loss(
  logits: jax.Array,
  labels: jax.Array,
  *,
  alpha: float = 0.3,
  beta: float = 0.7,
  ignore_label: int | None = 255,
  class_weights: ClassWeights | None = None,
  where: jax.Array | None = None,
  activation: Activation = "softmax",
  smooth: float = 1e-5,
  include_background: bool = True,
  absent: Absent = "skip",
  batch: bool = False,
  axis_name: str | None = None,
) -> jax.Array:
  """One minus the soft Tversky index, averaged over classes.

  `1 - (TP + smooth) / (TP + alpha FP + beta FN + smooth)`. Jaccard is
  alpha = beta = 1, Dice alpha = beta = 1/2 with half its smooth.

  Args:
    alpha: weight of false positives.
    beta: weight of false negatives; above alpha it favours recall.
    (others): as `dice_loss`.

  Returns:
    `(B,)` float32.

  References:
    Salehi et al., Tversky loss function for image segmentation using 3D fully
    convolutional deep networks, arXiv:1706.05721.

  >>> logits = jnp.array([[[9.0, -9.0], [-9.0, 9.0], [9.0, -9.0]]])
  >>> labels = jnp.array([[0, 1, 1]])
  >>> print(f"{tversky_loss(logits, labels, alpha=0.0, beta=1.0)[0]:.4f}")
  0.2500
  """
  return focal_tversky_loss(
    logits,
    labels,
    alpha=alpha,
    beta=beta,
    gamma=1.0,
    ignore_label=ignore_label,
    class_weights=class_weights,
    where=where,
    activation=activation,
    smooth=smooth,
    include_background=include_background,
    absent=absent,
    batch=batch,
    axis_name=axis_name,
  )


def focal_tversky_loss(
  logits: jax.Array,
  labels: jax.Array,
  *,
  alpha: float = 0.3,
  beta: float = 0.7,
  gamma: float = 0.75,
  ignore_label: int | None = 255,
  class_weights: ClassWeights | None = None,
  where: jax.Array | None = None,
  activation: Activation = "softmax",
  smooth: float = 1e-5,
  include_background: bool = True,
  absent: Absent = "skip",
  batch: bool = False,
  axis_name: str | None = None,
) -> jax.Array:
  """Tversky loss of each class to the power gamma, averaged over classes.

  Args:
    alpha: weight of false positives.
    beta: weight of false negatives.
    gamma: exponent of `1 - index`. The paper writes it `1 / gamma` with
      gamma = 4/3; below 1 it keeps a gradient for nearly right classes, above
      1 it fades them.
    (others): as `dice_loss`.

  Returns:
    `(B,)` float32.

  References:
    Abraham and Khan, A Novel Focal Tversky Loss Function, arXiv:1810.07842.

  >>> logits = jnp.array([[[9.0, -9.0], [-9.0, 9.0], [9.0, -9.0]]])
  >>> labels = jnp.array([[0, 1, 1]])
  >>> loss = focal_tversky_loss(
  ...   logits, labels, alpha=0.0, beta=1.0, gamma=2.0)
  >>> print(f"{loss[0]:.4f}")
  0.1250
  """
  counts, weights = _counts_and_weights(
    logits,
    labels,
    ignore_label=ignore_label,
    class_weights=class_weights,
    where=where,
    activation=activation,
    include_background=include_background,
    absent=absent,
    batch=batch,
    axis_name=axis_name,
  )
  # TP + alpha FP + beta FN without differences, which would cancel.
  denominator = (1 - alpha - beta) * counts.true_positive
  denominator += alpha * counts.predicted + beta * counts.labelled
  losses = 1 - _score(counts.true_positive, denominator, smooth)
  if gamma != 1:
    # A power below 1 has an infinite slope at 0, a perfect match.
    perfect = losses <= 0
    powers = jnp.where(perfect, 1.0, losses) ** gamma
    losses = jnp.where(perfect, 0.0, powers)
  return _of_images(class_mean(losses, weights), len(logits))


def _of_images(losses: jax.Array, size: int) -> jax.Array:
  """`(B,)` float32, of the loss of each image or of the batch."""
  # Factors that are NumPy's float64 make it wider with x64.
  return jnp.broadcast_to(losses, (size,)).astype(jnp.float32)


def _counts_and_weights(
  logits: jax.Array,
  labels: jax.Array,
  *,
  class_weights: ClassWeights | None,
  include_background: bool,
  absent: Absent,
  **count_options: Any,
) -> tuple[SoftCounts, jax.Array]:
  """Counts, and the `(B, K)` weights of the mean over classes."""
  counts = soft_counts(logits, labels, **count_options)
  weights = region_weights(
    counts.labelled, class_weights, include_background, absent
  )
  return counts, weights


def _rarity(labelled: jax.Array, counted: jax.Array) -> jax.Array:
  """`1 / labelled^2` relative to the rarest class, which gets weight 1.

  Relative, because `smooth` would otherwise swamp sums weighted by 1e-10.
  """
  present = counted & (labelled > 0)
  rarest = jnp.where(present, labelled, jnp.inf).min(-1, keepdims=True)
  ratio = rarest / jnp.where(present, labelled, 1.0)
  return jnp.where(present, jnp.square(ratio), 1.0)


def _score(
  numerator: jax.Array, denominator: jax.Array, smooth: float
) -> jax.Array:
  """Smoothed ratio; nothing against nothing (0 / 0) is a perfect match."""
  return safe_divide(numerator + smooth, denominator + smooth, default=1.0)
