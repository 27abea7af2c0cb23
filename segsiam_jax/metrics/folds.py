"""Verification over folds, as on Labeled Faces in the Wild (LFW).

Each fold is classified with the threshold chosen on all others. The folds are
part of the protocol: they come from its file and are never made up here, and
a pair that cannot be scored is an error. Evaluations that skip such pairs and
then cut the rest into ten report folds that are not the protocol's.
"""

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np

from segsiam_jax.metrics.checks import check_no_nan
from segsiam_jax.metrics.verification import (
  Criterion,
  best_threshold,
  tar_at_far,
)
from segsiam_jax.ops.distances import Metric, paired_distances
from segsiam_jax.ops.shapes import check_shapes


class FoldResult(NamedTuple):
  """Accuracy of each fold, `(K,)` arrays, and what papers print of it.

  Attributes:
    accuracies: measured on each fold.
    thresholds: chosen on the others.
    mean: of the accuracies.
    std: their standard deviation, with K - 1 in its denominator (facenet
      prints the one with K).
    standard_error: `std / sqrt(K)`, the "+-" of LFW's and FaceNet's tables.
    tars: true accept rate of each fold at the threshold that keeps the asked
      `far` on the others; None if none was asked for.
    fars: false accept rate of each fold at that threshold; None likewise.
  """

  accuracies: np.ndarray
  thresholds: np.ndarray
  mean: float
  std: float
  standard_error: float
  tars: np.ndarray | None
  fars: np.ndarray | None


def k_fold_verification(
  scores: np.ndarray,
  same: np.ndarray,
  folds: np.ndarray,
  *,
  num_pairs: int | None = None,
  criterion: Criterion = "accuracy",
  candidates: Sequence[float] | np.ndarray | None = None,
  far: float | None = None,
) -> FoldResult:
  """Accuracy of each fold at the best threshold of the other folds.

  Huang et al. 2007, "Labeled Faces in the Wild", View 2: ten folds of 300 same
  and 300 different pairs.

  Args:
    scores: `(P,)`, larger for more similar pairs.
    same: `(P,)` 1 for the same identity.
    folds: `(P,)` the protocol's fold of each pair, any integers.
    num_pairs: number of pairs of the protocol (6000 for LFW): fewer scores
      are an error. None trusts the arrays.
    criterion: of `best_threshold`.
    candidates: of `best_threshold`.
    far: also measure TAR and FAR at the threshold that `tar_at_far` finds on
      the other folds. On one fold of LFW the FAR is a multiple of 1/300.

  Returns:
    Accuracies, thresholds, and their summary.

  Raises:
    ValueError: NaN or missing scores, less than two folds, the pairs outside
      of a fold are all of one kind, or those of a fold are and `far` or the
      balanced accuracy needs both.

  >>> result = k_fold_verification(
  ...   scores=np.array([0.9, 0.1, 0.8, 0.3]),
  ...   same=np.array([1, 0, 1, 0]),
  ...   folds=np.array([0, 0, 1, 1]),
  ... )
  >>> result.accuracies.tolist(), result.mean
  ([1.0, 1.0], 1.0)
  """
  scores, same, folds = (np.asarray(x) for x in (scores, same, folds))
  if not scores.shape == same.shape == folds.shape:
    raise ValueError(
      "scores, same and folds must be (P,) arrays of one length; got shapes "
      f"{scores.shape}, {same.shape} and {folds.shape}"
    )
  missing = np.isnan(scores)
  if missing.any():
    first = missing.argmax()
    raise ValueError(
      f"{missing.sum()} of {len(scores)} pairs have no score (first: pair "
      f"{first} of fold {folds[first]}): scores that are NaN; without them the "
      "result is not the protocol's"
    )
  check_no_nan("pair", same=same, folds=folds)
  same = same != 0
  # A threshold is compared as it is, not rounded to the type of the scores.
  wide = scores.astype(np.float64)
  if num_pairs is not None and len(scores) != num_pairs:
    raise ValueError(
      f"the protocol has {num_pairs} pairs; got scores for {len(scores)}"
    )
  names = np.unique(folds)
  if len(names) < 2:
    raise ValueError(f"k_fold_verification needs two folds; got {len(names)}")
  accuracies, thresholds, tars, fars = [], [], [], []
  for name in names:
    test = folds == name
    if (far is not None or criterion == "balanced_accuracy") and (
      same[test].all() or not same[test].any()
    ):
      raise ValueError(f"folds: fold {name} has pairs of one kind only")
    threshold = best_threshold(
      scores[~test], same[~test], criterion=criterion, candidates=candidates
    ).threshold
    accepted = wide[test] >= threshold
    thresholds.append(threshold)
    accuracies.append(_accuracy(accepted, same[test], criterion))
    if far is not None:
      point = tar_at_far(scores[~test], same[~test], far)
      accepted = wide[test] >= point.threshold
      tars.append(accepted[same[test]].mean())
      fars.append(accepted[~same[test]].mean())
  std = float(np.std(accuracies, ddof=1))
  return FoldResult(
    accuracies=np.array(accuracies),
    thresholds=np.array(thresholds),
    mean=float(np.mean(accuracies)),
    std=std,
    standard_error=std / np.sqrt(len(names)),
    tars=None if far is None else np.array(tars),
    fars=None if far is None else np.array(fars),
  )


def pair_scores(
  embeddings: np.ndarray,
  ids: Sequence[Hashable],
  pairs: Sequence[tuple[Hashable, Hashable]],
  *,
  metric: Metric = "cosine",
) -> np.ndarray:
  """Score of each pair of a protocol, from embeddings by id.

  Args:
    embeddings: `(N, D)`.
    ids: N names or numbers of the embedded examples.
    pairs: P pairs of them.
    metric: a metric of `paired_distances`.

  Returns:
    `(P,)` float32, negated distances.

  Raises:
    ValueError: a pair names an id that was not embedded, ids repeat, or shapes
      that do not fit.

  >>> embeddings = np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)
  >>> pair_scores(embeddings, ["a", "b"], [("b", "a")]).tolist()
  [-1.0]
  """
  check_shapes(embeddings=(embeddings, f"{len(ids)} D+"))
  embeddings = np.asarray(embeddings)
  if isinstance(pairs, np.ndarray):
    check_shapes(pairs=(pairs, "P 2"))
  try:
    pairs = [(first, second) for first, second in pairs]
  except (TypeError, ValueError) as error:
    raise ValueError(f"pairs: expected shape (P, 2); {error}") from error
  rows = {name: row for row, name in enumerate(ids)}
  if len(rows) != len(ids):
    raise ValueError(
      f"ids must be unique; got {len(rows)} distinct of {len(ids)} ids"
    )
  missing = sorted({str(i) for pair in pairs for i in pair if i not in rows})
  if missing:
    raise ValueError(
      f"pairs name {len(missing)} examples that were not embedded: "
      f"{', '.join(missing[:5])}{', ...' if len(missing) > 5 else ''}; embed "
      "them, since dropping pairs changes the protocol"
    )
  left = np.array([rows[first] for first, _ in pairs], int)
  right = np.array([rows[second] for _, second in pairs], int)
  block = 1 << 16  # pairs gathered at a time
  scores = [
    -np.asarray(
      paired_distances(
        embeddings[left[start : start + block]],
        embeddings[right[start : start + block]],
        metric,
      )
    )
    for start in range(0, len(left), block)
  ]
  return np.concatenate(scores) if scores else np.zeros(0, np.float32)


def _accuracy(
  accepted: np.ndarray, same: np.ndarray, criterion: Criterion
) -> float:
  right = accepted == same
  if criterion == "accuracy":
    return float(right.mean())
  return float((right[same].mean() + right[~same].mean()) / 2)
