"""Losses of detectors: Faster R-CNN and Mask R-CNN.

Static shapes throughout: what the papers' code gathers (sampled anchors,
positive proposals) is marked by masks here. A loss of a batch is a
`WeightedLoss` with one value and one weight per image: `.mean()` divides by the
number sampled in the whole batch, as torchvision and detectron2 do, and stays
exact when the batch is spread over devices.

Arguments all share: B images, A anchors or R proposals, C classes with the
background as class 0; any float dtype, computed with in float32. Shapes that
do not fit are a ValueError; a class outside [0, C), where it counts, makes the
loss NaN.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from segsiam_jax.losses._masking import zero_padding
from segsiam_jax.losses._pixels import weigh
from segsiam_jax.losses.weighted import WeightedLoss
from segsiam_jax.ops.boxes import paired_giou
from segsiam_jax.ops.labels import to_classes
from segsiam_jax.ops.shapes import check_shapes

__all__ = [
  "BoxHeadLoss",
  "RpnLoss",
  "box_head_loss",
  "giou_loss",
  "mask_loss",
  "rpn_loss",
  "smooth_l1_loss",
]


def smooth_l1_loss(
  predictions: jax.Array,
  targets: jax.Array,
  *,
  beta: float = 1.0,
  where: jax.Array | None = None,
) -> jax.Array:
  """Smooth L1 summed over coordinates (Girshick, arXiv:1504.08083, eq. 3).

  `0.5 d^2 / beta` where `|d| < beta`, else `|d| - 0.5 beta`.

  Args:
    predictions: `(*S, D)`, D = 4 for boxes.
    targets: `(*S, D)`.
    beta: where the square turns into a line: 1 in the paper, 1/9 in
      torchvision's Mask R-CNN, 0 (plain L1, of slope 0 at 0) in detectron2.
    where: `(*S)`, nonzero = count.

  Returns:
    `(*S)` float32, one value per box; torch's `smooth_l1_loss(reduction="sum")`
    is its sum.

  >>> smooth_l1_loss(jnp.array([0.0, 3.0]), jnp.array([0.5, 0.0])).item()
  2.625
  """
  check_shapes(
    predictions=(predictions, "*S D+"),
    targets=(targets, "*S D+"),
    where=(where, "*S"),
  )
  if not beta >= 0:
    raise ValueError(f"beta: expected a number of at least 0; got {beta}")
  difference = zero_padding(predictions, where) - zero_padding(targets, where)
  if beta == 0:
    # The derivative of JAX's `abs` is 1 at 0.
    return (difference * jnp.sign(difference)).sum(-1)
  beta = jnp.float32(beta)
  size = jnp.abs(difference)
  curve = 0.5 * jnp.square(difference) / beta
  return jnp.where(size < beta, curve, size - 0.5 * beta).sum(-1)


def giou_loss(
  boxes: jax.Array, targets: jax.Array, *, where: jax.Array | None = None
) -> jax.Array:
  """1 - generalised IoU (Rezatofighi et al., arXiv:1902.09630).

  Args:
    boxes: `(*S, 4)` predicted boxes (x1, y1, x2, y2).
    targets: `(*S, 4)`.
    where: `(*S)`, nonzero = count.

  Returns:
    `(*S)` float32 in [0, 2]: `torchvision.ops.generalized_box_iou_loss`
    without its epsilon. Two equal boxes without area have loss 1.

  >>> box = jnp.array([0.0, 0.0, 2.0, 2.0])
  >>> giou_loss(box, box).item()
  0.0
  """
  check_shapes(
    boxes=(boxes, "*S 4"), targets=(targets, "*S 4"), where=(where, "*S")
  )
  loss = 1.0 - paired_giou(
    zero_padding(boxes, where), zero_padding(targets, where)
  )
  return (
    loss if where is None else jnp.where(jnp.asarray(where) != 0, loss, 0.0)
  )


class RpnLoss(NamedTuple):
  """Both losses of a region proposal network; `(B,)` values and weights."""

  objectness: WeightedLoss
  boxes: WeightedLoss


def rpn_loss(
  objectness: jax.Array,
  deltas: jax.Array,
  labels: jax.Array,
  target_deltas: jax.Array,
  *,
  sampled: jax.Array,
  beta: float = 1 / 9,
) -> RpnLoss:
  """Losses of a region proposal network (Ren et al., arXiv:1506.01497).

  Args:
    objectness: `(B, A)` logits.
    deltas: `(B, A, 4)` predicted offsets.
    labels: `(B, A)` integers or bool, 1 for anchors on an object, 0 for
      background; anything where `sampled` is 0.
    target_deltas: `(B, A, 4)`, read where a label is 1.
    sampled: `(B, A)`, nonzero for the anchors that count (256 per image).
    beta: of smooth L1.

  Returns:
    Binary cross-entropy, averaged over the sampled anchors, and smooth L1 of
    the positive ones, divided by the number *sampled*, as torchvision does.

  >>> loss = rpn_loss(jnp.zeros((1, 3)), jnp.ones((1, 3, 4)),
  ...     jnp.array([[1, 0, 0]]), jnp.zeros((1, 3, 4)),
  ...     sampled=jnp.array([[1, 1, 0]]), beta=0.0)
  >>> round(loss.objectness.mean().item(), 4), loss.boxes.mean().item()
  (0.6931, 2.0)
  """
  check_shapes(
    objectness=(objectness, "B A"),
    deltas=(deltas, "B A 4"),
    labels=(labels, "B A"),
    target_deltas=(target_deltas, "B A 4"),
    sampled=(sampled, "B A"),
  )
  sampled = jnp.asarray(sampled) != 0
  labels, known = _known(labels, 2)
  positive = sampled & (labels == 1)
  entropy = _binary_cross_entropy(
    zero_padding(objectness, sampled), positive.astype(jnp.float32)
  )
  boxes = smooth_l1_loss(deltas, target_deltas, beta=beta, where=positive)
  entropy = jnp.where(known, entropy, jnp.nan)
  return RpnLoss(_per_image(entropy, sampled), _per_image(boxes, sampled))


class BoxHeadLoss(NamedTuple):
  """Both losses of a box head; `(B,)` values and weights."""

  classes: WeightedLoss
  boxes: WeightedLoss


def box_head_loss(
  logits: jax.Array,
  deltas: jax.Array,
  labels: jax.Array,
  target_deltas: jax.Array,
  *,
  sampled: jax.Array,
  beta: float = 1 / 9,
) -> BoxHeadLoss:
  """Losses of Fast R-CNN's box head (Girshick, arXiv:1504.08083).

  Args:
    logits: `(B, R, C)`, class 0 is the background.
    deltas: `(B, R, C, 4)` offsets per class, or `(B, R, 1, 4)` for all classes.
    labels: `(B, R)` classes; anything where `sampled` is 0.
    target_deltas: `(B, R, 4)`, read where a label is above 0.
    sampled: `(B, R)`, nonzero for the proposals that count (512 per image).
    beta: of smooth L1.

  Returns:
    Cross-entropy, averaged over the sampled proposals, and smooth L1 of the
    positive ones' own class, divided by the number *sampled*.

  >>> loss = box_head_loss(jnp.zeros((1, 2, 3)), jnp.ones((1, 2, 3, 4)),
  ...     jnp.array([[2, 0]]), jnp.zeros((1, 2, 4)),
  ...     sampled=jnp.ones((1, 2)), beta=0.0)
  >>> round(loss.classes.mean().item(), 4), loss.boxes.mean().item()
  (1.0986, 2.0)
  """
  per_class = 1 if np.shape(deltas)[2:3] == (1,) else "C"
  check_shapes(
    logits=(logits, "B R C+"),
    deltas=(deltas, f"B R {per_class} 4"),
    labels=(labels, "B R"),
    target_deltas=(target_deltas, "B R 4"),
    sampled=(sampled, "B R"),
  )
  sampled = jnp.asarray(sampled) != 0
  labels, known = _known(labels, logits.shape[-1])
  labels = jnp.where(sampled, labels, 0)
  entropy = optax.softmax_cross_entropy_with_integer_labels(
    zero_padding(logits, sampled), labels
  )
  deltas = jnp.asarray(deltas)
  own = deltas[..., 0, :] if per_class == 1 else _of_class(deltas, labels)
  boxes = smooth_l1_loss(own, target_deltas, beta=beta, where=labels > 0)
  entropy = jnp.where(known, entropy, jnp.nan)
  return BoxHeadLoss(_per_image(entropy, sampled), _per_image(boxes, sampled))


def mask_loss(
  logits: jax.Array,
  labels: jax.Array,
  targets: jax.Array,
  *,
  positive: jax.Array,
) -> WeightedLoss:
  """Mask loss of Mask R-CNN (He et al., arXiv:1703.06870): classes apart.

  Args:
    logits: `(B, R, H, W, C)`.
    labels: `(B, R)` classes; the other classes' masks do not count.
    targets: `(B, R, H, W)` in [0, 1]: soft in torchvision (RoIAlign of the
      mask), thresholded at 0.5 in detectron2.
    positive: `(B, R)`, nonzero for the proposals that count.

  Returns:
    Binary cross-entropy, averaged over pixels and positive proposals; `(B,)`
    values and weights.

  >>> loss = mask_loss(jnp.zeros((1, 2, 4, 4, 3)), jnp.array([[1, 2]]),
  ...     jnp.ones((1, 2, 4, 4)), positive=jnp.array([[1, 0]]))
  >>> round(loss.mean().item(), 4)
  0.6931
  """
  check_shapes(
    logits=(logits, "B R H+ W+ C+"),
    labels=(labels, "B R"),
    targets=(targets, "B R H+ W+"),
    positive=(positive, "B R"),
  )
  positive = jnp.asarray(positive) != 0
  labels, known = _known(labels, logits.shape[-1])
  planes = jnp.moveaxis(logits, -1, 2)
  own = _of_class(planes, jnp.where(positive, labels, 0))
  entropy = _binary_cross_entropy(
    zero_padding(own, positive), zero_padding(targets, positive)
  ).mean((-2, -1))
  return _per_image(jnp.where(known, entropy, jnp.nan), positive)


def _known(labels: jax.Array, num_classes: int) -> tuple[jax.Array, jax.Array]:
  """Labels in int32, 0 where they are not a class, and where they are one."""
  labels = jnp.asarray(to_classes(labels)).astype(jnp.int32)
  known = (labels >= 0) & (labels < num_classes)
  return jnp.where(known, labels, 0), known


def _binary_cross_entropy(logits: jax.Array, targets: jax.Array) -> jax.Array:
  """0, and not NaN, where a logit is infinite and right."""
  yes = weigh(targets, jax.nn.log_sigmoid(logits))
  return -yes - weigh(1.0 - targets, jax.nn.log_sigmoid(-logits))


def _of_class(values: jax.Array, labels: jax.Array) -> jax.Array:
  """`(B, R, C, *rest)` at each proposal's class: `(B, R, *rest)`."""
  index = labels.reshape(labels.shape + (1,) * (values.ndim - 2))
  return jnp.take_along_axis(values, index, axis=2)[:, :, 0]


def _per_image(losses: jax.Array, counted: jax.Array) -> WeightedLoss:
  """Mean over what counts in each image, and how much that is."""
  counts = counted.sum(-1, dtype=jnp.float32)
  total = jnp.where(counted, losses, 0.0).sum(-1)
  return WeightedLoss(total / jnp.maximum(counts, 1.0), counts)
