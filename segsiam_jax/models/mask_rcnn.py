"""Mask R-CNN (He et al. 2017, arXiv:1703.06870) and Faster R-CNN (Ren et al.
2015, arXiv:1506.01497) on a feature pyramid, with static shapes throughout.

Defaults are those of torchvision's `maskrcnn_resnet50_fpn`; `FORMS` has what
its second version and a small one for CPUs do otherwise.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from segsiam_jax.fields.encoders import ENCODERS, PYRAMID_STRIDES
from segsiam_jax.losses.detection import box_head_loss, mask_loss
from segsiam_jax.losses.weighted import WeightedLoss
from segsiam_jax.models import roi_heads, rpn
from segsiam_jax.models.encoders import make_encoder
from segsiam_jax.models.fpn import FPN
from segsiam_jax.models.row_loop import for_rows
from segsiam_jax.ops.anchors import pyramid_anchors
from segsiam_jax.ops.masks import mask_targets
from segsiam_jax.ops.masks import paste_masks as paste_masks
from segsiam_jax.ops.roi_align import assign_levels, roi_align

# Attributes of `MaskRCNN` that differ from its defaults.
FORMS: dict[str, dict[str, Any]] = {
  "v1": {},
  "v2": {
    "norm": "batch",
    "head_norm": "batch",
    "rpn_convs": 2,
    "box_convs": 4,
    "box_widths": (1024,),
  },
  "tiny": {
    "encoder": "resnet10",
    "encoder_width": 32,
    "norm": "batch",
    "width": 64,
    "box_widths": (256,),
    "mask_convs": 2,
    "anchor_sizes": (8, 16, 32, 64, 128),
    "rpn_pre_nms": (256, 256),
    "rpn_post_nms": (128, 64),
    "rpn_samples": 64,
    "roi_samples": 32,
    "max_candidates": 256,
    "max_detections": 32,
  },
}

_BOX_SIZE = 7
_MASK_SIZE = 14


class MaskRCNN(nn.Module):
  """Finds objects: their boxes, classes and masks.

  Attributes:
    num_classes: K, with the background as class 0.
    with_masks: False is Faster R-CNN.
    encoder: one of `fields.encoders.WITH_PYRAMID`.
    encoder_width: channels of its first level; 0 for the published.
    norm: of the encoder, see `layers.make_norm`; 'frozen' needs pretrained
      weights.
    norm_epsilon: of a ResNet's norms. torchvision sets 0 for its COCO
      weights of `maskrcnn_resnet50_fpn` and `fasterrcnn_resnet50_fpn`.
    head_norm: of the pyramid, of the box head's and of the mask head's
      convolutions.
    width: channels of the pyramid.
    rpn_convs: of the region proposal network.
    box_convs: of the box head.
    box_widths: of its dense layers.
    mask_convs: of the mask head.
    anchor_sizes: of the five levels, in pixels.
    aspect_ratios: of the anchors, heights over widths.
    rpn_pre_nms: best anchors of each level, in training and otherwise.
    rpn_post_nms: proposals of an image, in training and otherwise.
    rpn_threshold: of their suppression.
    rpn_overlaps: an anchor is background below the first, on an object from
      the second on.
    rpn_samples: anchors of an image to learn from.
    rpn_positives: share of them on an object, at most.
    roi_overlaps: the same of proposals.
    roi_samples: proposals of an image to learn from.
    roi_positives: share of them on an object, at most.
    canonical_size: of the boxes that belong to stride 16, see `assign_levels`.
    sampling_ratio: see `roi_align`.
    aligned: see `roi_align`.
    roi_method: see `roi_align`.
    roi_chunk: see `roi_align`.
    score_threshold: detections score more.
    nms: 'hard', or 'linear' or 'gaussian' for Soft-NMS, see `nms.soft_nms`.
    nms_threshold: on the overlap of detections of one class.
    max_candidates: see `roi_heads.detect`.
    max_detections: D, of an image.
    remat: compute the ResNet's activations anew in the backward pass.
    dtype: compute dtype; parameters, boxes and scores are float32.
    axis_name: see `layers.make_norm`.
  """

  num_classes: int
  with_masks: bool = True
  encoder: str = "resnet50"
  encoder_width: int = 0
  norm: str = "frozen"
  norm_epsilon: float = 1e-5
  head_norm: str = "none"
  width: int = 256
  rpn_convs: int = 1
  box_convs: int = 0
  box_widths: Sequence[int] = (1024, 1024)
  mask_convs: int = 4
  anchor_sizes: Sequence[float] = (32, 64, 128, 256, 512)
  aspect_ratios: Sequence[float] = (0.5, 1.0, 2.0)
  rpn_pre_nms: tuple[int, int] = (2000, 1000)
  rpn_post_nms: tuple[int, int] = (2000, 1000)
  rpn_threshold: float = 0.7
  rpn_overlaps: tuple[float, float] = (0.3, 0.7)
  rpn_samples: int = 256
  rpn_positives: float = 0.5
  roi_overlaps: tuple[float, float] = (0.5, 0.5)
  roi_samples: int = 512
  roi_positives: float = 0.25
  canonical_size: float = 224.0
  sampling_ratio: int = 2
  aligned: bool = False
  roi_method: str = "gather"
  roi_chunk: int | None = None
  score_threshold: float = 0.05
  nms: str = "hard"
  nms_threshold: float = 0.5
  max_candidates: int = 4000
  max_detections: int = 100
  remat: bool = False
  dtype: Any = jnp.float32
  axis_name: str | None = None

  def setup(self):
    shared = {"dtype": self.dtype, "axis_name": self.axis_name}
    has_epsilon = "epsilon" in ENCODERS[self.encoder].takes
    self.backbone = make_encoder(
      self.encoder,
      base_width=self.encoder_width,
      norm=self.norm,
      remat=self.remat,
      name="encoder",
      **shared,
      **({"epsilon": self.norm_epsilon} if has_epsilon else {}),
    )
    shared["norm"] = self.head_norm
    self.fpn = FPN(self.width, **shared)
    # torchvision's second version has no norm here either.
    self.rpn = rpn.RPNHead(
      len(self.aspect_ratios),
      self.rpn_convs,
      dtype=self.dtype,
      axis_name=self.axis_name,
    )
    self.box_head = roi_heads.BoxHead(
      self.num_classes, self.box_convs, self.width, self.box_widths, **shared
    )
    if self.with_masks:
      self.mask_head = roi_heads.MaskHead(
        self.num_classes, self.mask_convs, self.width, **shared
      )

  def __call__(
    self,
    images: jax.Array,
    sizes: jax.Array,
    targets: Mapping[str, jax.Array] | None = None,
    keys: jax.Array | None = None,
    train: bool = False,
  ) -> dict[str, Any]:
    """Detections or, in training, losses.

    Args:
      images: (B, H, W, C) float, normalised, each at the top left of its
        padding of zeros; H and W multiples of 32.
      sizes: (B, 2) heights and widths without the padding.
      targets: of training: `boxes` (B, N, 4) float32 in pixels, `classes`
        (B, N) int32 of 1 .. K - 1, `valid` (B, N), nonzero for objects that
        are there, and `masks` (B, N, M, M) in [0, 1], each filling its box.
      keys: of training: (B,) typed keys, one per row of the global batch.
      train: which of both; also use batch statistics.

    Returns:
      Detections: `boxes` (B, D, 4) float32 in pixels of the padded image,
      `classes` (B, D) int32, `scores` (B, D) float32, `valid` (B, D) bool and,
      with masks, `masks` (B, D, 28, 28) float32, the probabilities of the
      detected class, filling the box; the highest score first. All scores of
      an image are NaN if the heads' outputs for it are not finite.
      Losses: `WeightedLoss` by name: `rpn_objectness`, `rpn_box`, `roi_class`,
      `roi_box` and, with masks, `mask`. Their weights are how many anchors,
      proposals and masks of an image they are of.
    """
    height, width = images.shape[1:3]
    if height % 32 or width % 32:
      raise ValueError(f"images of {height}x{width}, no multiples of 32")
    features = self.backbone(images, train)[-len(PYRAMID_STRIDES) :]
    pyramid = self.fpn(features, train)
    scored = self.rpn(pyramid, train)
    anchors = pyramid_anchors(
      (height, width),
      [level.shape[1:3] for level in pyramid],
      [(size,) for size in self.anchor_sizes],
      self.aspect_ratios,
    )
    pyramid = pyramid[: len(PYRAMID_STRIDES)]
    mode = 0 if train else 1
    proposals = rpn.propose(
      scored,
      anchors,
      sizes,
      pre_nms=self.rpn_pre_nms[mode],
      post_nms=self.rpn_post_nms[mode],
      threshold=self.rpn_threshold,
    )
    if not train:
      return self._detect(pyramid, proposals, sizes)
    split = jax.vmap(jax.random.split)(keys)
    losses = rpn.proposal_losses(
      scored,
      anchors,
      targets["boxes"],
      targets["valid"],
      split[:, 0],
      low=self.rpn_overlaps[0],
      high=self.rpn_overlaps[1],
      samples=self.rpn_samples,
      positive_fraction=self.rpn_positives,
    )
    of_rois = self._roi_losses(pyramid, proposals, sizes, targets, split[:, 1])
    return {
      "rpn_objectness": losses.objectness,
      "rpn_box": losses.boxes,
      **of_rois,
    }

  def _pool(
    self, pyramid: Sequence[jax.Array], boxes: jax.Array, output_size: int
  ) -> jax.Array:
    levels = assign_levels(
      boxes, len(pyramid), canonical_size=self.canonical_size
    )
    return roi_align(
      pyramid,
      boxes,
      levels,
      output_size=output_size,
      strides=PYRAMID_STRIDES,
      sampling_ratio=self.sampling_ratio,
      aligned=self.aligned,
      method=self.roi_method,
      chunk=self.roi_chunk,
    )

  def _masks(
    self,
    pyramid: Sequence[jax.Array],
    boxes: jax.Array,
    classes: jax.Array,
    there: jax.Array,
    train: bool,
  ) -> jax.Array:
    """Logits (B, R, M, M) of the boxes that are there, which come first.

    Others' may be anything finite.
    """
    whole = (
      # Batch statistics are of all rows; an onlooker expects all, too.
      (train and self.head_norm == "batch")
      or self.is_initializing()
      or self.is_mutable_collection("intermediates")
    )
    if whole:
      pooled = self._pool(pyramid, boxes, _MASK_SIZE)
      return self.mask_head(pooled, classes, train, there)
    head, variables = self.mask_head.unbind()

    def work(shared, rows):
      variables, pyramid = shared
      boxes, classes = rows
      pooled = self._pool(pyramid, boxes, _MASK_SIZE)
      return head.apply(variables, pooled, classes, train)

    count = there.sum(1, dtype=jnp.int32).max()
    return for_rows(work, (variables, pyramid), (boxes, classes), count)

  def _detect(
    self,
    pyramid: Sequence[jax.Array],
    proposals: rpn.Proposals,
    sizes: jax.Array,
  ) -> dict[str, jax.Array]:
    pooled = self._pool(pyramid, proposals.boxes, _BOX_SIZE)
    logits, deltas = self.box_head(pooled, False)
    found = roi_heads.detect(
      logits,
      deltas,
      *proposals,
      sizes,
      min_score=self.score_threshold,
      threshold=self.nms_threshold,
      max_detections=self.max_detections,
      max_candidates=self.max_candidates,
      suppression=self.nms,
    )._asdict()
    finite = jnp.isfinite(logits).all((1, 2))
    if self.with_masks:
      masks = self._masks(
        pyramid, found["boxes"], found["classes"], found["valid"], False
      )
      there = found["valid"][..., None, None]
      found["masks"] = jnp.where(there, jax.nn.sigmoid(masks), 0.0)
      finite &= jnp.isfinite(masks).all((1, 2, 3))
    # Nothing is above a threshold of such an image, which must not look empty.
    found["scores"] = jnp.where(finite[:, None], found["scores"], jnp.nan)
    return found

  def _roi_losses(
    self,
    pyramid: Sequence[jax.Array],
    proposals: rpn.Proposals,
    sizes: jax.Array,
    targets: Mapping[str, jax.Array],
    keys: jax.Array,
  ) -> dict[str, WeightedLoss]:
    truth = targets["boxes"]
    sample = roi_heads.sample_rois(
      *proposals,
      truth,
      targets["classes"],
      targets["valid"],
      keys,
      low=self.roi_overlaps[0],
      high=self.roi_overlaps[1],
      samples=self.roi_samples,
      positive_fraction=self.roi_positives,
    )
    pooled = self._pool(pyramid, sample.boxes, _BOX_SIZE)
    logits, deltas = self.box_head(pooled, True, sample.valid)
    losses = box_head_loss(
      logits, deltas, sample.classes, sample.deltas, sampled=sample.valid
    )
    named = {"roi_class": losses.classes, "roi_box": losses.boxes}
    if not self.with_masks:
      return named
    # Positives come first, and there are no more than this.
    most = int(self.roi_samples * self.roi_positives)
    boxes, classes, own = (
      x[:, :most] for x in (sample.boxes, sample.classes, sample.truth)
    )
    positive = classes > 0
    masks = self._masks(pyramid, boxes, classes, positive, True)
    wanted = mask_targets(
      jnp.take_along_axis(targets["masks"], own[..., None, None], axis=1),
      jnp.take_along_axis(truth, own[..., None], axis=1),
      boxes,
      sizes,
      output_size=masks.shape[-1],
      aligned=self.aligned,
    )
    # The head computes the mask of the right class alone.
    named["mask"] = mask_loss(
      masks[..., None], jnp.zeros_like(classes), wanted, positive=positive
    )
    return named
