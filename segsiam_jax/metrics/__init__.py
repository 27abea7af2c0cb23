"""Metrics: mergeable states for loops, one-shot functions for scripts."""

from segsiam_jax.metrics.segmentation import ConfusionMatrix as ConfusionMatrix
