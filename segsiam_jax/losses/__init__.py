"""Losses: pure functions of arrays, one value per example."""

from segsiam_jax.losses.batch_pairs import (
  batch_contrastive_loss as batch_contrastive_loss,
)
from segsiam_jax.losses.boundary import boundary_loss as boundary_loss
from segsiam_jax.losses.boundary import (
  signed_distance_maps as signed_distance_maps,
)
from segsiam_jax.losses.boundary import unet_weight_map as unet_weight_map
from segsiam_jax.losses.combine import (
  SEGMENTATION_LOSSES as SEGMENTATION_LOSSES,
)
from segsiam_jax.losses.combine import combine as combine
from segsiam_jax.losses.detection import BoxHeadLoss as BoxHeadLoss
from segsiam_jax.losses.detection import RpnLoss as RpnLoss
from segsiam_jax.losses.detection import box_head_loss as box_head_loss
from segsiam_jax.losses.detection import giou_loss as giou_loss
from segsiam_jax.losses.detection import mask_loss as mask_loss
from segsiam_jax.losses.detection import rpn_loss as rpn_loss
from segsiam_jax.losses.detection import smooth_l1_loss as smooth_l1_loss
from segsiam_jax.losses.episodes import prototypical_loss as prototypical_loss
from segsiam_jax.losses.in_batch import batch_triplet_loss as batch_triplet_loss
from segsiam_jax.losses.in_batch import (
  multi_similarity_loss as multi_similarity_loss,
)
from segsiam_jax.losses.in_batch import nt_xent_loss as nt_xent_loss
from segsiam_jax.losses.in_batch import (
  supervised_contrastive_loss as supervised_contrastive_loss,
)
from segsiam_jax.losses.lovasz import (
  lovasz_softmax_loss as lovasz_softmax_loss,
)
from segsiam_jax.losses.overlap import dice_loss as dice_loss
from segsiam_jax.losses.overlap import focal_tversky_loss as focal_tversky_loss
from segsiam_jax.losses.overlap import jaccard_loss as jaccard_loss
from segsiam_jax.losses.overlap import tversky_loss as tversky_loss
from segsiam_jax.losses.pairs import (
  binary_similarity_loss as binary_similarity_loss,
)
from segsiam_jax.losses.pairs import contrastive_loss as contrastive_loss
from segsiam_jax.losses.pairs import triplet_loss as triplet_loss
from segsiam_jax.losses.proxies import arcface_loss as arcface_loss
from segsiam_jax.losses.proxies import cosface_loss as cosface_loss
from segsiam_jax.losses.proxies import proxy_anchor_loss as proxy_anchor_loss
from segsiam_jax.losses.segmentation import focal_loss as focal_loss
from segsiam_jax.losses.segmentation import (
  sigmoid_cross_entropy as sigmoid_cross_entropy,
)
from segsiam_jax.losses.segmentation import (
  softmax_cross_entropy as softmax_cross_entropy,
)
from segsiam_jax.losses.weighted import WeightedLoss as WeightedLoss
