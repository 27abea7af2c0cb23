"""Segmentation losses that are averages over pixels.

All take `logits (B, *S, K)` and integer `labels (B, *S)` for any number of
spatial axes, leave out pixels labelled `ignore_label` or masked by `where`,
compute in float32 and return one value per image, `(B,)` float32. An image
with nothing left to count has loss 0 and gradient 0.
"""

import jax
import jax.numpy as jnp

from segsiam_jax.losses.pixels import (
  ClassWeights,
  Normalize,
  as_class_weights,
  average,
  prepare,
)


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
  >>> softmax_cross_entropy(logits, labels).round(4).tolist()
  [0.12690000236034393]
  """
  pixels = prepare(
    logits, labels, ignore_label=ignore_label, where=where, exclusive=True
  )
  num_classes = logits.shape[-1]
  class_weights = as_class_weights(class_weights, num_classes)
  smoothed = (1 - label_smoothing) * pixels.targets
  smoothed += label_smoothing / num_classes
  log_probs = jax.nn.log_softmax(pixels.logits)
  # A class ruled out by a logit of -inf costs nothing where it has no target.
  terms = jnp.where(smoothed == 0, 0.0, smoothed * class_weights * log_probs)
  return average(
    -terms.sum(-1),
    weights=(pixels.targets * class_weights).sum(-1),
    valid=pixels.valid[..., 0],
    pixel_weights=pixel_weights,
    hardest_fraction=hardest_fraction,
    normalize=normalize,
  )
