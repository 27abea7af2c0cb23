"""Segmentation losses that are averages over pixels.

All take `logits (B, *S, K)` and integer `labels (B, *S)` for any number of
spatial axes, leave out pixels labelled `ignore_label` or masked by `where`,
compute in float32 and return one value per image, `(B,)` float32. An image
with nothing left to count has loss 0 and gradient 0; a label that is neither
a class nor the ignore label makes the loss NaN.

Training minimises the mean of these values over the images of a batch, so
that every image weighs the same, and one with nothing left to count takes part
in it as 0. `torch.nn.CrossEntropyLoss` of a batch is the mean over the valid
pixels of all images: the two differ if images have different numbers of valid
pixels (or sums of class weights).
"""

import jax
import jax.numpy as jnp

from segsiam_jax.losses._pixels import (
  Activation,
  ClassWeights,
  Normalize,
  Pixels,
  as_class_weights,
  average,
  prepare,
  weigh,
)

__all__ = ["focal_loss", "sigmoid_cross_entropy", "softmax_cross_entropy"]


def softmax_cross_entropy(
  logits: jax.Array,
  labels: jax.Array,
  *,
  ignore_label: int | None = 255,
  class_weights: ClassWeights | None = None,
  where: jax.Array | None = None,
  label_smoothing: float = 0.0,
  pixel_weights: jax.Array | None = None,
  hardest_fraction: float | None = None,
  normalize: Normalize = "weights",
) -> jax.Array:
  r"""Cross-entropy of a softmax over exclusive classes.

  A pixel with label y contributes `-sum_k q_k w_k log p_k` where
  `q = (1 - s) onehot(y) + s / K`, s is the label smoothing and w the class
  weights; its weight in the mean is `w_y`. This is
  `torch.nn.CrossEntropyLoss` applied to each image.

  Args:
    logits: `(B, *S, K)`.
    labels: `(B, *S)` integers in `[0, K)` or `ignore_label`.
    ignore_label: label of pixels that do not count; None if there is none.
    class_weights: `(K,)` weights; None for equal ones.
    where: `(B,)` example mask or `(B, *S)` pixel mask, nonzero = count.
    label_smoothing: s, in [0, 1] (Szegedy et al., arXiv:1512.00567).
    pixel_weights: `(B, *S)` weight map, such as `unet_weight_map`.
    hardest_fraction: average only this fraction of an image's valid pixels,
      those with the largest losses (online hard example mining; Wu et al.,
      arXiv:1605.06885; "TopK" in nnU-Net with 0.1).
    normalize: divide the sum over an image by the sum of its weights
      ("weights"), by its number of valid pixels ("pixels", as U-Net weight
      maps and class-balanced recipes expect), or by nothing ("none", as the
      original FCN).

  Returns:
    `(B,)` float32.

  >>> logits = jnp.array([[[2.0, 0.0], [0.0, 2.0], [5.0, 0.0]]])
  >>> labels = jnp.array([[0, 1, 255]])
  >>> print(f"{softmax_cross_entropy(logits, labels)[0]:.4f}")
  0.1269
  """
  pixels = prepare(
    logits, labels, ignore_label=ignore_label, where=where, activation="softmax"
  )
  num_classes = logits.shape[-1]
  class_weights = as_class_weights(class_weights, num_classes)
  smoothed = (1 - label_smoothing) * pixels.targets
  smoothed = (smoothed + label_smoothing / num_classes) * class_weights
  # sum_k -q_k w_k log p_k without an array of log p: half the time on CPU.
  largest = pixels.logits.max(-1, keepdims=True)
  shifted = pixels.logits - jax.lax.stop_gradient(largest)
  log_sum = jnp.log(jnp.exp(shifted).sum(-1))
  return average(
    smoothed.sum(-1) * log_sum - weigh(smoothed, shifted).sum(-1),
    weights=(pixels.targets * class_weights).sum(-1),
    valid=pixels.valid[..., 0],
    pixel_weights=pixel_weights,
    hardest_fraction=hardest_fraction,
    normalize=normalize,
  )


def sigmoid_cross_entropy(
  logits: jax.Array,
  labels: jax.Array,
  *,
  ignore_label: int | None = 255,
  class_weights: ClassWeights | None = None,
  where: jax.Array | None = None,
  positive_weight: ClassWeights | float = 1.0,
  pixel_weights: jax.Array | None = None,
  normalize: Normalize = "weights",
) -> jax.Array:
  """Binary cross-entropy of every class on its own.

  A pixel and class contribute
  `-w_k (v_k y log sigmoid(x) + (1 - y) log sigmoid(-x))`, with class weights
  w and positive weights v: `torch.nn.BCEWithLogitsLoss` on each image.

  Args:
    logits: `(B, *S, K)`.
    labels: `(B, *S)` of 0 and 1 for binary logits (K = 1); `(B, *S, K)` of 0
      and 1 for multilabel ones, where each entry may be `ignore_label`; or
      `(B, *S)` in `[0, K)`, one class against the rest.
    ignore_label: label of what does not count; None if there is none.
    class_weights: `(K,)` weights; None for equal ones.
    where: `(B,)` example mask or `(B, *S)` pixel mask, nonzero = count.
    positive_weight: factor of the positive term, a number or `(K,)`.
    pixel_weights: `(B, *S)` or `(B, *S, K)` weights.
    normalize: see `softmax_cross_entropy`; "pixels" counts pixels x classes.

  Returns:
    `(B,)` float32.

  >>> logits = jnp.array([[[0.0], [3.0], [3.0]]])
  >>> labels = jnp.array([[1, 0, 255]])
  >>> print(f"{sigmoid_cross_entropy(logits, labels)[0]:.4f}")
  1.8709
  """
  pixels = prepare(
    logits, labels, ignore_label=ignore_label, where=where, activation="sigmoid"
  )
  class_weights = as_class_weights(class_weights, logits.shape[-1])
  positive_weight = jnp.asarray(positive_weight, jnp.float32)
  if positive_weight.shape not in ((), class_weights.shape):
    raise ValueError(
      f"positive_weight: expected a number or shape {class_weights.shape}; got "
      f"shape {positive_weight.shape}"
    )
  log_p = jax.nn.log_sigmoid(_signed(pixels))
  scale = class_weights * (1 + (positive_weight - 1) * pixels.targets)
  return average(
    -weigh(scale, log_p),
    weights=class_weights,
    valid=pixels.valid,
    pixel_weights=pixel_weights,
    normalize=normalize,
  )


def focal_loss(
  logits: jax.Array,
  labels: jax.Array,
  *,
  ignore_label: int | None = 255,
  class_weights: ClassWeights | None = None,
  where: jax.Array | None = None,
  activation: Activation = "softmax",
  gamma: float = 2.0,
  alpha: float | None = None,
  pixel_weights: jax.Array | None = None,
  normalize: Normalize = "weights",
) -> jax.Array:
  """Cross-entropy that fades for pixels already well classified.

  `-(1 - p)^gamma log p` where p is the probability given to the truth: of the
  labelled class (softmax), or of "yes" or "no" for every class (sigmoid, the
  original). `gamma = 0` is cross-entropy.

  Args:
    logits: `(B, *S, K)`.
    labels: as `softmax_cross_entropy`, or with "sigmoid" as
      `sigmoid_cross_entropy`.
    ignore_label: label of what does not count; None if there is none.
    class_weights: `(K,)` weights; with "softmax" the paper's alpha per class.
    where: `(B,)` example mask or `(B, *S)` pixel mask, nonzero = count.
    activation: "softmax" or "sigmoid".
    gamma: at least 0; the paper's best is 2.
    alpha: with "sigmoid", the factor of positives, `1 - alpha` being that of
      negatives; the paper uses 0.25. None for no such factors.
    pixel_weights: `(B, *S)` weights.
    normalize: see `softmax_cross_entropy`. Detectors use "none" and divide by
      the number of positive anchors themselves.

  Returns:
    `(B,)` float32.

  References:
    Lin et al., Focal Loss for Dense Object Detection, arXiv:1708.02002.

  >>> logits = jnp.array([[[2.0, 0.0], [0.0, 2.0]]])
  >>> print(f"{focal_loss(logits, jnp.array([[0, 0]]))[0]:.4f}")
  0.8259
  """
  pixels = prepare(
    logits,
    labels,
    ignore_label=ignore_label,
    where=where,
    activation=activation,
  )
  class_weights = as_class_weights(class_weights, logits.shape[-1])
  # The factor is exp(gamma log(1 - p)): a power of 1 - p has no finite
  # derivative at p = 1 when gamma < 1.
  if activation == "softmax":
    if alpha is not None:
      raise ValueError("alpha is for 'sigmoid'; give class_weights instead")
    valid = pixels.valid[..., 0]
    log_probs = jax.nn.log_softmax(pixels.logits)
    log_p = weigh(pixels.targets, log_probs).sum(-1)
    others = pixels.targets != 1
    log_not_p = jax.nn.logsumexp(log_probs, axis=-1, where=others)
    weights = scale = (pixels.targets * class_weights).sum(-1)
  else:
    valid, signed = pixels.valid, _signed(pixels)
    log_p, log_not_p = jax.nn.log_sigmoid(signed), jax.nn.log_sigmoid(-signed)
    weights = scale = class_weights
    if alpha is not None:
      scale *= 1 - alpha + (2 * alpha - 1) * pixels.targets
  fading = jnp.exp(weigh(jnp.float32(gamma), log_not_p))
  return average(
    -weigh(scale, weigh(fading, log_p)),
    weights=weights,
    valid=valid,
    pixel_weights=pixel_weights,
    normalize=normalize,
  )


def _signed(pixels: Pixels) -> jax.Array:
  """Logits of the truth: x for a target of 1, -x for a target of 0."""
  return (2 * pixels.targets - 1) * pixels.logits
