"""Region proposal network (Ren et al. 2015, arXiv:1506.01497)."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from segsiam_jax.losses.detection import RpnLoss, rpn_loss
from segsiam_jax.models import layers
from segsiam_jax.models.fpn import ConvNorm
from segsiam_jax.ops.boxes import (
  clip_boxes,
  decode_boxes,
  encode_boxes,
  pairwise_iou,
)
from segsiam_jax.ops.matching import BACKGROUND, balanced_sample, match
from segsiam_jax.ops.nms import nms

# Smaller proposals are dropped; sides in pixels, as in torchvision.
MIN_SIDE = 1e-3


class Scored(NamedTuple):
  """What the head says of the anchors of each level.

  Attributes:
    objectness: (B, A) logits, float32, one array a level.
    deltas: (B, A, 4) offsets, float32.
  """

  objectness: tuple[jax.Array, ...]
  deltas: tuple[jax.Array, ...]


class RPNHead(nn.Module):
  """The same convolutions on every level.

  Attributes:
    num_anchors: of a cell.
    num_convs: 3x3 convolutions before the predictions.
    norm: see `layers.make_norm`.
    dtype: compute dtype; parameters are float32.
    axis_name: see `layers.make_norm`.
  """

  num_anchors: int
  num_convs: int = 1
  norm: str = "none"
  dtype: Any = jnp.float32
  axis_name: str | None = None

  @nn.compact
  def __call__(self, pyramid: Sequence[jax.Array], train: bool) -> Scored:
    """Scores of levels (B, H, W, C); anchors as `grid_anchors` orders them."""
    channels = pyramid[0].shape[-1]
    convs = [
      ConvNorm(
        channels,
        norm=self.norm,
        dtype=self.dtype,
        axis_name=self.axis_name,
        name=f"conv{index}",
      )
      for index in range(self.num_convs)
    ]
    predictors = [
      nn.Dense(
        outputs * self.num_anchors,
        dtype=self.dtype,
        dot_general=layers.dot_to_float32,
        kernel_init=layers.normal(0.01),
        name=name,
      )
      for name, outputs in (("objectness", 1), ("deltas", 4))
    ]
    objectness, deltas = [], []
    for x in pyramid:
      for conv in convs:
        x = conv(x, train)
      logits, offsets = (dense(x) for dense in predictors)
      objectness.append(logits.reshape(x.shape[0], -1))
      deltas.append(offsets.reshape(x.shape[0], -1, 4))
    return Scored(tuple(objectness), tuple(deltas))


class Proposals(NamedTuple):
  """Boxes that may hold an object, the likeliest first.

  Attributes:
    boxes: (B, P, 4) float32 in pixels, within the image.
    valid: (B, P) bool.
  """

  boxes: jax.Array
  valid: jax.Array


def propose(
  scored: Scored,
  anchors: Sequence[np.ndarray],
  sizes: jax.Array,
  *,
  pre_nms: int,
  post_nms: int,
  threshold: float,
) -> Proposals:
  """The best anchors of each level, moved, without those that overlap better.

  Args:
    scored: of the head.
    anchors: (A, 4) of each level.
    sizes: (B, 2) heights and widths of the images.
    pre_nms: anchors to take from each level, at most.
    post_nms: P, proposals to return of an image, at most.
    threshold: of the suppression within a level.

  Returns:
    `Proposals`; no gradient passes.
  """
  boxes, scores, levels = [], [], []
  for level, (logits, deltas, of_level) in enumerate(
    zip(*scored, anchors, strict=True)
  ):
    logits, deltas = map(jax.lax.stop_gradient, (logits, deltas))
    best, index = jax.lax.top_k(logits, min(pre_nms, logits.shape[1]))
    deltas = jnp.take_along_axis(deltas, index[..., None], axis=1)
    boxes.append(decode_boxes(deltas, jnp.asarray(of_level)[index]))
    # Where probabilities tie, logits need not, and torchvision compares the
    # former.
    scores.append(jax.nn.sigmoid(best))
    levels.append(jnp.full(best.shape, level))
  boxes = clip_boxes(jnp.concatenate(boxes, axis=1), sizes)
  sides = boxes[..., 2:] - boxes[..., :2]
  kept = nms(
    boxes,
    jnp.concatenate(scores, axis=1),
    threshold,
    max_outputs=post_nms,
    groups=jnp.concatenate(levels, axis=1),
    valid=(sides >= MIN_SIDE).all(-1),
  )
  boxes = jnp.take_along_axis(boxes, kept.index[..., None], axis=1)
  return Proposals(boxes, kept.valid)


def proposal_losses(
  scored: Scored,
  anchors: Sequence[np.ndarray],
  truth: jax.Array,
  valid: jax.Array,
  keys: jax.Array,
  *,
  high: float,
  low: float,
  samples: int,
  positive_fraction: float,
) -> RpnLoss:
  """Losses of a random sample of the anchors.

  Args:
    scored: of the head.
    anchors: (A, 4) of each level.
    truth: (B, N, 4) true boxes.
    valid: (B, N), nonzero for true boxes that are there.
    keys: (B,) typed keys.
    high: overlap from which on an anchor is on an object.
    low: overlap below which it is background.
    samples: anchors of an image to learn from.
    positive_fraction: of them, at most.
  """
  all_anchors = jnp.asarray(np.concatenate(anchors))
  overlaps = pairwise_iou(truth, all_anchors)
  matches = match(overlaps, valid, high=high, low=low, keep_best=True)
  sample = balanced_sample(
    keys,
    matches >= 0,
    matches == BACKGROUND,
    size=samples,
    positive_fraction=positive_fraction,
  )
  at = lambda x: jnp.take_along_axis(x, sample.index, axis=1)  # noqa: E731
  own = jnp.maximum(at(matches), 0)
  boxes = jnp.take_along_axis(truth, own[..., None], axis=1)
  deltas = jnp.concatenate(scored.deltas, axis=1)
  return rpn_loss(
    at(jnp.concatenate(scored.objectness, axis=1)),
    jnp.take_along_axis(deltas, sample.index[..., None], axis=1),
    sample.positive,
    encode_boxes(boxes, all_anchors[sample.index]),
    sampled=sample.valid,
  )
