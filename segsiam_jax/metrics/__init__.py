"""Metrics: mergeable states for loops, one-shot functions for scripts."""

from segsiam_jax.metrics.class_mean import ClassMean as ClassMean
from segsiam_jax.metrics.detection import (
  CocoAveragePrecision as CocoAveragePrecision,
)
from segsiam_jax.metrics.few_shot import EpisodeAccuracy as EpisodeAccuracy
from segsiam_jax.metrics.few_shot import FewShotResult as FewShotResult
from segsiam_jax.metrics.few_shot import episode_accuracy as episode_accuracy
from segsiam_jax.metrics.few_shot import (
  n_way_k_shot_accuracy as n_way_k_shot_accuracy,
)
from segsiam_jax.metrics.few_shot import top_1_with_ties as top_1_with_ties
from segsiam_jax.metrics.folds import FoldResult as FoldResult
from segsiam_jax.metrics.folds import k_fold_verification as k_fold_verification
from segsiam_jax.metrics.folds import pair_scores as pair_scores
from segsiam_jax.metrics.image_objects import Detections as Detections
from segsiam_jax.metrics.image_objects import GroundTruth as GroundTruth
from segsiam_jax.metrics.image_objects import encode_mask as encode_mask
from segsiam_jax.metrics.intervals import Interval as Interval
from segsiam_jax.metrics.intervals import (
  bootstrap_interval as bootstrap_interval,
)
from segsiam_jax.metrics.intervals import t_interval as t_interval
from segsiam_jax.metrics.intervals import wilson_interval as wilson_interval
from segsiam_jax.metrics.multilabel import MultilabelCounts as MultilabelCounts
from segsiam_jax.metrics.panoptic import PanopticQuality as PanopticQuality
from segsiam_jax.metrics.panoptic import panoptic_quality as panoptic_quality
from segsiam_jax.metrics.rand import RandScores as RandScores
from segsiam_jax.metrics.rand import (
  foreground_rand_score as foreground_rand_score,
)
from segsiam_jax.metrics.retrieval import Ranking as Ranking
from segsiam_jax.metrics.retrieval import (
  mean_average_precision_at_r as mean_average_precision_at_r,
)
from segsiam_jax.metrics.retrieval import precision_at_1 as precision_at_1
from segsiam_jax.metrics.retrieval import r_precision as r_precision
from segsiam_jax.metrics.retrieval import rank_gallery as rank_gallery
from segsiam_jax.metrics.retrieval import recall_at_k as recall_at_k
from segsiam_jax.metrics.retrieval import retrieval_metrics as retrieval_metrics
from segsiam_jax.metrics.score_histogram import ScoreHistogram as ScoreHistogram
from segsiam_jax.metrics.segmentation import ConfusionMatrix as ConfusionMatrix
from segsiam_jax.metrics.segmentation import (
  confusion_matrices as confusion_matrices,
)
from segsiam_jax.metrics.segmentation import image_dice as image_dice
from segsiam_jax.metrics.segmentation import image_iou as image_iou
from segsiam_jax.metrics.surface import boundary_iou as boundary_iou
from segsiam_jax.metrics.surface import hausdorff_distance as hausdorff_distance
from segsiam_jax.metrics.surface import surface_dice as surface_dice
from segsiam_jax.metrics.verification import best_threshold as best_threshold
from segsiam_jax.metrics.verification import (
  equal_error_rate as equal_error_rate,
)
from segsiam_jax.metrics.verification import roc as roc
from segsiam_jax.metrics.verification import roc_auc as roc_auc
from segsiam_jax.metrics.verification import tar_at_far as tar_at_far
