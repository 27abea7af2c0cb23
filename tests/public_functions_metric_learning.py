"""Cases of the functions of metric learning."""

import numpy as np

from tests.public_functions import Case

B, D = 6, 3
METRICS = ("euclidean", "sq_euclidean", "cosine", "l1")


def vectors(*shape: int, seed: int = 0) -> np.ndarray:
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


# Changes of the shape of one array that stands alone.
ANY_ROWS = ("one row", "more rows")
ANY_VECTORS = (*ANY_ROWS, "longer last axis", "last axis of 1")
ANY_SHAPE = (*ANY_VECTORS, "extra axis", "leading axis", "fewer axes")

CASES = {
  "ops.distances.l2_normalize": [
    Case({"x": vectors(B, D)}, fits={"x": ANY_SHAPE})
  ],
  "ops.distances.pairwise_distances": [
    Case({"x": vectors(B, D)}, fits={"x": ANY_VECTORS}),
    *(
      Case(
        {"x": vectors(B, D), "y": vectors(B, D, seed=1)},
        {"metric": metric},
        fits={"x": ANY_ROWS, "y": ANY_ROWS},
      )
      for metric in METRICS
    ),
  ],
  "ops.distances.paired_distances": [
    Case(
      {"x": vectors(B, D), "y": vectors(B, D, seed=1)},
      {"metric": metric},
      # Documented to broadcast.
      fits={
        name: ("one row", "leading axis", "fewer axes") for name in ("x", "y")
      },
    )
    for metric in METRICS
  ],
  "ops.distances.pairwise_cosine_similarities": [
    Case(
      {"x": vectors(B, D), "y": vectors(B, D, seed=1)},
      fits={"x": ANY_ROWS, "y": ANY_ROWS},
    )
  ],
}

# By name, why there is nothing to try.
EXEMPT = {
  "ops.shapes.check_shapes": "the check itself; tests/ops/test_shapes.py",
  "ops.shapes.check_pairs": "the check itself; tests/ops/test_shapes.py",
  "metrics.checks.check_no_nan": "the check itself",
}

# To be moved into one of the above.
NOT_YET = {
  "losses.batch_pairs.batch_contrastive_loss",
  "losses.episodes.prototypical_loss",
  "losses.in_batch.batch_triplet_loss",
  "losses.in_batch.nt_xent_loss",
  "losses.in_batch.supervised_contrastive_loss",
  "losses.in_batch.multi_similarity_loss",
  "losses.masking.zero_padding",
  "losses.masking.masked_logsumexp",
  "losses.pairs.contrastive_loss",
  "losses.pairs.triplet_loss",
  "losses.pairs.binary_similarity_loss",
  "losses.proxies.arcface_loss",
  "losses.proxies.cosface_loss",
  "losses.proxies.proxy_anchor_loss",
  "losses.weighted.WeightedLoss.mean",
  "metrics.few_shot.top_1_with_ties",
  "metrics.few_shot.episode_accuracy",
  "metrics.few_shot.n_way_k_shot_accuracy",
  "metrics.few_shot.EpisodeAccuracy.empty",
  "metrics.few_shot.EpisodeAccuracy.of",
  "metrics.few_shot.EpisodeAccuracy.result",
  "metrics.few_shot.EpisodeAccuracy.compute",
  "metrics.folds.k_fold_verification",
  "metrics.folds.pair_scores",
  "metrics.gather.gather",
  "metrics.intervals.wilson_interval",
  "metrics.intervals.t_interval",
  "metrics.intervals.bootstrap_interval",
  "metrics.retrieval.rank_gallery",
  "metrics.retrieval.precision_at_1",
  "metrics.retrieval.recall_at_k",
  "metrics.retrieval.r_precision",
  "metrics.retrieval.mean_average_precision_at_r",
  "metrics.retrieval.retrieval_metrics",
  "metrics.verification.roc",
  "metrics.verification.roc_auc",
  "metrics.verification.equal_error_rate",
  "metrics.verification.tar_at_far",
  "metrics.verification.best_threshold",
  "metrics.verification.ScoreHistogram.empty",
  "metrics.verification.ScoreHistogram.of",
  "metrics.verification.ScoreHistogram.compute",
  "ops.collectives.all_gather_batch",
  "ops.deformable.deformable_distances",
  "ops.deformable.deformable_similarity",
  "ops.deformable.deformable_similarities",
  "ops.density.equalize",
  "ops.mining.pair_masks",
  "ops.mining.mine_hard",
  "ops.mining.mine_semi_hard",
  "ops.mining.mine_distance_weighted",
  "ops.mining.mine_multi_similarity",
  "ops.similarity.similarity",
  "ops.labels.renumber",
  "ops.labels.to_ids",
  "ops.labels.to_classes",
}
