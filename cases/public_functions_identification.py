"""Cases of rankings, verification and few-shot trials."""

import numpy as np

from cases.public_functions import Case
from cases.public_functions_metric_learning import (
  ANY_ROWS,
  ANY_SHAPE,
  ANY_VECTORS,
  EPISODES,
  IDS,
  LABELS,
  MASK,
  PAIRS,
  WHERE,
  WIDTHS,
  B,
  D,
  vectors,
)
from segsiam_jax.metrics import (
  EpisodeAccuracy,
  Ranking,
  ScoreHistogram,
  bootstrap_interval,
  mean_average_precision_at_r,
  pair_scores,
  precision_at_1,
  r_precision,
  recall_at_k,
  retrieval_metrics,
  t_interval,
  wilson_interval,
)


def number(function, name: str) -> Case:
  """An interval of one number."""

  def call(confidence, **given):
    # Arguments of the host that are no arrays, but may come from one.
    return function(**{k: v[()] for k, v in given.items()}, **rest(confidence))

  def rest(confidence):
    trials = {"trials": 5} if function is wilson_interval else {}
    return {**trials, "confidence": confidence}

  return Case(
    {name: np.full((), 0.5, np.float32)},
    {"confidence": 0.9},
    call=call,
    host=True,
    batch=(),
  )


def ranked(function, **options) -> Case:
  """A measure of a ranking."""
  return Case(
    {
      "relevant": np.array([[1, 0, 1], [0, 1, 0]], bool),
      "num_relevant": np.array([1, 1]),
    },
    options,
    call=lambda relevant, num_relevant, **options: function(
      Ranking(relevant, num_relevant), **options
    ),
    host=True,
    fits={"relevant": WIDTHS},
  )


def scored(**options) -> Case:
  """A measure of scores of pairs."""
  return Case(PAIRS, options, host=True, empty_is_error=True)


CASES = {
  "metrics.few_shot.top_1_with_ties": [
    Case(
      {"scores": vectors(B, 4), "labels": np.array([0, 1, 2, 3, 3, 0])},
      classes=("labels",),
      fits={"scores": WIDTHS},
    )
  ],
  "metrics.few_shot.episode_accuracy": [
    Case(EPISODES, {"metric": metric, "rule": rule})
    for metric, rule in (("sq_euclidean", "prototype"), ("l1", "nearest"))
  ],
  "metrics.few_shot.n_way_k_shot_accuracy": [
    Case(EPISODES, {"confidence": 0.9}, host=True, rtol=1e-4)
  ],
  "metrics.few_shot.EpisodeAccuracy.of": [
    Case(
      {"accuracies": abs(vectors(B)), "where": WHERE},
      call=lambda accuracies, where: EpisodeAccuracy.of(accuracies, 5, where),
      unseen=MASK,
    )
  ],
  "metrics.few_shot.EpisodeAccuracy.result": [
    Case(
      {"accuracies": np.float32([0.5, 0.25, 1.0])},
      {"confidence": 0.9},
      call=lambda accuracies, confidence: EpisodeAccuracy.of(
        accuracies, 5
      ).result(confidence),
      host=True,
      fits={"accuracies": ANY_SHAPE},
    )
  ],
  "metrics.few_shot.EpisodeAccuracy.compute": [
    Case(
      {"accuracies": np.float32([0.5, 0.25, 1.0])},
      call=lambda accuracies: EpisodeAccuracy.of(accuracies, 5).compute(),
      host=True,
      fits={"accuracies": ANY_SHAPE},
    )
  ],
  "metrics.folds.k_fold_verification": [
    Case(
      {**PAIRS, "folds": np.arange(B, dtype=np.int32) // 2},
      {"far": 0.5},
      host=True,
      ids=("folds",),
      empty_is_error=True,
    )
  ],
  "metrics.folds.pair_scores": [
    Case(
      {"embeddings": vectors(3, D), "pairs": np.array([[0, 2], [1, 0]])},
      {"metric": "cosine"},
      call=lambda embeddings, pairs, metric: pair_scores(
        embeddings, np.arange(3), pairs, metric=metric
      ),
      host=True,
      batch=("pairs",),
      fits={"embeddings": WIDTHS, "pairs": ANY_ROWS},
    )
  ],
  "metrics.intervals.wilson_interval": [number(wilson_interval, "successes")],
  "metrics.intervals.t_interval": [
    number(lambda mean, **options: t_interval(mean, 0.2, 5, **options), "mean"),
    number(lambda std, **options: t_interval(0.5, std, 5, **options), "std"),
  ],
  "metrics.intervals.bootstrap_interval": [
    Case(
      {"arrays": vectors(B), "groups": LABELS},
      {"confidence": 0.9},
      call=lambda arrays, groups, confidence: bootstrap_interval(
        lambda x, y: np.mean(
          np.float64(x) * y.reshape(-1, *[1] * (x.ndim - 1))
        ),
        arrays,
        np.arange(B),
        groups=groups,
        num_resamples=20,
        confidence=confidence,
      ),
      host=True,
      ids=("groups",),
      empty_is_error=True,
      fits={"arrays": ("extra axis",)},
    )
  ],
  "metrics.nearest.nearest": [
    Case(
      {
        "queries": vectors(B, D),
        "gallery": vectors(B, D, seed=1),
        "query_ids": IDS,
        "gallery_ids": IDS[::-1].copy(),
      },
      {"k": 3, "metric": "euclidean", "query_block": 4, "gallery_block": 4},
      host=True,
      rtol=0.0,
    )
  ],
  "metrics.retrieval.rank_gallery": [
    Case(
      {"queries": vectors(B, D), "query_labels": LABELS, "query_ids": IDS},
      host=True,
      ids=("query_labels", "query_ids"),
      fits={"queries": WIDTHS},
      rtol=0.0,
    ),
    Case(
      {
        "queries": vectors(B, D),
        "query_labels": LABELS,
        "gallery": vectors(B, D, seed=1),
        "gallery_labels": LABELS,
      },
      {"metric": "sq_euclidean", "k": 2},
      host=True,
      ids=("query_labels", "gallery_labels"),
      rtol=0.0,
    ),
  ],
  "metrics.retrieval.precision_at_1": [ranked(precision_at_1)],
  "metrics.retrieval.recall_at_k": [ranked(recall_at_k, k=1, fraction=True)],
  "metrics.retrieval.r_precision": [ranked(r_precision)],
  "metrics.retrieval.mean_average_precision_at_r": [
    ranked(mean_average_precision_at_r)
  ],
  "metrics.retrieval.retrieval_metrics": [
    ranked(retrieval_metrics, recall_at=(1,))
  ],
  "metrics.verification.roc": [scored()],
  "metrics.verification.roc_auc": [scored()],
  "metrics.verification.equal_error_rate": [scored()],
  "metrics.verification.tar_at_far": [scored(far=0.5)],
  "metrics.verification.best_threshold": [
    scored(),
    Case(
      {**PAIRS, "candidates": np.float32([-1.0, 0.0, 0.5])},
      {"criterion": "balanced_accuracy"},
      host=True,
      empty_is_error=True,
      fits={"candidates": ANY_VECTORS},
    ),
  ],
  "metrics.score_histogram.ScoreHistogram.of": [
    Case(
      {**PAIRS, "where": WHERE},
      call=lambda **pairs: ScoreHistogram.empty(num_bins=4).of(**pairs),
      unseen={"same": "a mask", "scores": "counted; compute raises", **MASK},
      rtol=0.0,
    )
  ],
  "metrics.score_histogram.ScoreHistogram.compute": [
    Case(
      PAIRS,
      call=lambda **pairs: (
        ScoreHistogram.empty(num_bins=4).of(**pairs).compute()
      ),
      host=True,
      unseen={"same": "a mask"},
    )
  ],
}

EXEMPT = {
  "metrics.checks.check_no_nan": "the check itself",
  "metrics.checks.check_finite": "the check itself",
  "metrics.gather.gather": "any objects of the host; test_distributed.py",
  "metrics.few_shot.EpisodeAccuracy.empty": "no arrays",
  "metrics.roc_curves.check_far": "no arrays",
  "metrics.roc_curves.curve_of": "a part of `roc`, tried there",
  "metrics.roc_curves.equal_error_of": "a part of `equal_error_rate`",
  "metrics.roc_curves.operating_point": "a part of `tar_at_far`",
  "metrics.score_histogram.ScoreHistogram.empty": "no arrays",
}
