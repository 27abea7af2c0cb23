"""Losses: pure functions of arrays, one value per example."""

from segsiam_jax.losses.overlap import dice_loss as dice_loss
from segsiam_jax.losses.segmentation import (
  softmax_cross_entropy as softmax_cross_entropy,
)
