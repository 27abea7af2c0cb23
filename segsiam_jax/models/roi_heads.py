"""Box head and mask head of Mask R-CNN (He et al. 2017, arXiv:1703.06870)."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from segsiam_jax.models import layers
from segsiam_jax.models.fpn import ConvNorm
from segsiam_jax.ops.boxes import (
  clip_boxes,
  decode_boxes,
  encode_boxes,
  pairwise_iou,
)
from segsiam_jax.ops.matching import BACKGROUND, balanced_sample, match
from segsiam_jax.ops.nms import nms, soft_nms

# Of the box head's offsets, in torchvision and detectron2.
BOX_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
# Smaller detections are dropped; sides in pixels, as in torchvision.
MIN_SIDE = 1e-2


def _convs(module, x, count, width, train, where):
  for index in range(count):
    x = ConvNorm(
      width,
      norm=module.norm,
      dtype=module.dtype,
      axis_name=module.axis_name,
      name=f"conv{index}",
    )(x, train, where)
  return x


class BoxHead(nn.Module):
  """Classes and offsets of boxes.

  Attributes:
    num_classes: K, with the background as class 0.
    num_convs: 3x3 convolutions first.
    conv_width: their channels.
    dense_widths: of the dense layers after them.
    norm: of the convolutions, see `layers.make_norm`.
    dtype: compute dtype; parameters are float32.
    axis_name: see `layers.make_norm`.
  """

  num_classes: int
  num_convs: int = 0
  conv_width: int = 256
  dense_widths: Sequence[int] = (1024, 1024)
  norm: str = "none"
  dtype: Any = jnp.float32
  axis_name: str | None = None

  @nn.compact
  def __call__(
    self, x: jax.Array, train: bool, where: jax.Array | None = None
  ) -> tuple[jax.Array, jax.Array]:
    """Logits (B, R, K) and offsets (B, R, K, 4), float32.

    Args:
      x: (B, R, S, S, C) features of the boxes.
      train: use batch statistics.
      where: (B, R), nonzero for boxes that are there.
    """
    batch, boxes = x.shape[:2]
    x = x.reshape(-1, *x.shape[2:])
    where = None if where is None else where.reshape(-1)
    x = _convs(self, x, self.num_convs, self.conv_width, train, where)
    x = x.reshape(x.shape[0], -1)
    for index, width in enumerate(self.dense_widths):
      x = nn.Dense(
        width,
        dtype=self.dtype,
        kernel_init=layers.he_normal,
        name=f"dense{index}",
      )(x)
      x = nn.relu(x)
    logits, deltas = (
      nn.Dense(
        outputs * self.num_classes,
        dtype=self.dtype,
        dot_general=layers.dot_to_float32,
        kernel_init=layers.normal(std),
        name=name,
      )(x)
      for name, outputs, std in (("logits", 1, 0.01), ("deltas", 4, 0.001))
    )
    return (
      logits.reshape(batch, boxes, -1),
      deltas.reshape(batch, boxes, -1, 4),
    )


class MaskHead(nn.Module):
  """A mask of each box, for its class alone.

  Attributes:
    num_classes: K, with the background as class 0.
    num_convs: 3x3 convolutions.
    width: channels of everything before the logits.
    norm: of the convolutions, see `layers.make_norm`.
    dtype: compute dtype; parameters are float32.
    axis_name: see `layers.make_norm`.
  """

  num_classes: int
  num_convs: int = 4
  width: int = 256
  norm: str = "none"
  dtype: Any = jnp.float32
  axis_name: str | None = None

  @nn.compact
  def __call__(
    self,
    x: jax.Array,
    classes: jax.Array,
    train: bool,
    where: jax.Array | None = None,
  ) -> jax.Array:
    """Logits (B, R, 2 S, 2 S), float32, of the boxes' classes.

    The other classes' masks, which neither a loss nor a detection needs, are
    never computed.

    Args:
      x: (B, R, S, S, C) features of the boxes.
      classes: (B, R) int32.
      train: use batch statistics.
      where: (B, R), nonzero for boxes that are there.
    """
    batch, boxes = x.shape[:2]
    x = x.reshape(-1, *x.shape[2:])
    where = None if where is None else where.reshape(-1)
    x = _convs(self, x, self.num_convs, self.width, train, where)
    x = nn.relu(layers.UpConv(self.width, dtype=self.dtype, name="up")(x))
    x = x.reshape(batch, boxes, *x.shape[1:])
    kernel, bias = _Predictor(self.num_classes, name="logits")(self.width)
    logits = jnp.einsum(
      "brhwc,cbr->brhw",
      x,
      kernel.astype(self.dtype)[:, classes],
      preferred_element_type=jnp.float32,
    )
    return logits + bias[classes][..., None, None]


class _Predictor(nn.Module):
  """Kernel and bias of a 1x1 convolution of which some outputs are used."""

  num_classes: int

  @nn.compact
  def __call__(self, width: int) -> tuple[jax.Array, jax.Array]:
    shape = (width, self.num_classes)
    kernel = self.param("kernel", layers.normal(0.001), shape)
    return kernel, self.param("bias", nn.initializers.zeros, shape[1:])


class RoiSample(NamedTuple):
  """Boxes that the heads learn from; those on an object come first.

  Attributes:
    boxes: (B, S, 4) float32.
    classes: (B, S) int32, 0 for background.
    truth: (B, S) int32, which true box; 0 where `classes` is 0.
    deltas: (B, S, 4) offsets to that box.
    valid: (B, S) bool.
  """

  boxes: jax.Array
  classes: jax.Array
  truth: jax.Array
  deltas: jax.Array
  valid: jax.Array


def sample_rois(
  boxes: jax.Array,
  valid: jax.Array,
  truth: jax.Array,
  truth_classes: jax.Array,
  truth_valid: jax.Array,
  keys: jax.Array,
  *,
  high: float,
  low: float,
  samples: int,
  positive_fraction: float,
) -> RoiSample:
  """A random sample of the proposals and the true boxes.

  Args:
    boxes: (B, P, 4) proposals.
    valid: (B, P), nonzero for those that are there.
    truth: (B, N, 4) true boxes.
    truth_classes: (B, N) int32, 1 .. K - 1.
    truth_valid: (B, N), nonzero for those that are there.
    keys: (B,) typed keys.
    high: overlap from which on a box is on an object.
    low: overlap below which it is background.
    samples: S, boxes of an image.
    positive_fraction: of them on an object, at most.
  """
  boxes = jnp.concatenate([boxes, truth.astype(jnp.float32)], axis=1)
  valid = jnp.concatenate([valid != 0, truth_valid != 0], axis=1)
  matches = match(
    pairwise_iou(truth, boxes), truth_valid, high=high, low=low, keep_best=False
  )
  sample = balanced_sample(
    keys,
    (matches >= 0) & valid,
    (matches == BACKGROUND) & valid,
    size=samples,
    positive_fraction=positive_fraction,
  )
  at = lambda x, i: jnp.take_along_axis(x, i, axis=1)  # noqa: E731
  boxes = at(boxes, sample.index[..., None])
  own = jnp.where(sample.positive, at(matches, sample.index), 0)
  return RoiSample(
    boxes,
    jnp.where(sample.positive, at(truth_classes, own), 0).astype(jnp.int32),
    own,
    encode_boxes(at(truth, own[..., None]), boxes, BOX_WEIGHTS),
    sample.valid,
  )


class Detections(NamedTuple):
  """What is found, the highest score first.

  Attributes:
    boxes: (B, D, 4) float32 in pixels, within the image.
    classes: (B, D) int32, 1 .. K - 1; 0 where `valid` is False.
    scores: (B, D) float32; 0 where `valid` is False.
    valid: (B, D) bool.
  """

  boxes: jax.Array
  classes: jax.Array
  scores: jax.Array
  valid: jax.Array


def detect(
  logits: jax.Array,
  deltas: jax.Array,
  proposals: jax.Array,
  valid: jax.Array,
  sizes: jax.Array,
  *,
  min_score: float,
  threshold: float,
  max_detections: int,
  max_candidates: int,
  suppression: str,
) -> Detections:
  """Detections of the box head, without those that overlap better ones.

  Every class of a proposal is a candidate, so that a proposal can be detected
  as several classes, and only boxes of one class suppress each other.

  Args:
    logits: (B, P, K) of the box head.
    deltas: (B, P, K, 4) of the box head.
    proposals: (B, P, 4).
    valid: (B, P), nonzero for proposals that are there.
    sizes: (B, 2) heights and widths of the images.
    min_score: detections score more.
    threshold: of the suppression.
    max_detections: D.
    max_candidates: the best so many candidates are looked at. The result is
      that of all candidates if no more of them score `min_score`, or, with
      'hard', if these give D detections.
    suppression: 'hard', or 'linear' or 'gaussian' for Soft-NMS.
  """
  scores = jax.nn.softmax(logits)[..., 1:]
  batch, _, num_classes = scores.shape
  scores = jnp.where(valid[..., None] != 0, scores, 0.0).reshape(batch, -1)
  scores, index = jax.lax.top_k(scores, min(max_candidates, scores.shape[1]))
  proposal, classes = index // num_classes, index % num_classes + 1
  deltas = deltas.reshape(batch, -1, 4)
  of_class = (proposal * (num_classes + 1) + classes)[..., None]
  at = lambda x, i: jnp.take_along_axis(x, i, axis=1)  # noqa: E731
  boxes = decode_boxes(
    at(deltas, of_class), at(proposals, proposal[..., None]), BOX_WEIGHTS
  )
  boxes = clip_boxes(boxes, sizes)
  sides = boxes[..., 2:] - boxes[..., :2]
  candidates = (scores > min_score) & (sides >= MIN_SIDE).all(-1)
  shared = {
    "max_outputs": max_detections,
    "groups": classes,
    "valid": candidates,
  }
  if suppression == "hard":
    kept = nms(boxes, scores, threshold, **shared)
  else:
    kept = soft_nms(
      boxes,
      scores,
      method=suppression,
      threshold=threshold,
      min_score=min_score,
      **shared,
    )
  return Detections(
    jnp.where(kept.valid[..., None], at(boxes, kept.index[..., None]), 0.0),
    jnp.where(kept.valid, at(classes, kept.index), 0).astype(jnp.int32),
    kept.scores,
    kept.valid,
  )
