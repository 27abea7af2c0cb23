"""Verification and retrieval measures of other libraries, one row each."""

import numpy as np
import torch
from metric_learning_peers_rows import Rows
from pytorch_metric_learning import distances
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
from pytorch_metric_learning.utils.inference import CustomKNN
from scipy.interpolate import interp1d
from scipy.optimize import brentq
from sklearn import metrics as sklearn_metrics
from torchmetrics.functional.classification import binary_eer


def add_rows(rows: Rows) -> None:
  add_verification(rows)
  add_retrieval(rows)


def add_verification(rows: Rows) -> None:
  arrays = "scores pair_same"
  scores, same = (rows.inputs[name] for name in arrays.split())
  far, tar, _ = sklearn_metrics.roc_curve(same, scores, drop_intermediate=False)
  for part, values in (("far", far), ("tar", tar)):
    rows.add(
      f"roc/{part}",
      arrays,
      {},
      "sklearn.metrics.roc_curve(drop_intermediate=False)",
      values,
      reduce="values",
    )
  for name in (arrays, "constant_scores pair_same"):
    s = rows.inputs[name.split()[0]]
    rows.add(
      "roc_auc",
      name,
      {},
      "sklearn.metrics.roc_auc_score",
      sklearn_metrics.roc_auc_score(same, s),
      reduce="values",
    )
    f, t, _ = sklearn_metrics.roc_curve(same, s)
    rows.add(
      "equal_error_rate/rate",
      name,
      {},
      "facenet: brentq of 1 - x - interp1d(fpr, tpr)(x)",
      brentq(lambda x, f=f, t=t: 1.0 - x - interp1d(f, t)(x), 0.0, 1.0),
      reduce="values",
    )
  rows.add(
    "equal_error_rate/rate",
    arrays,
    {},
    "torchmetrics binary_eer",
    binary_eer(torch.tensor(scores), torch.tensor(same)),
    reduce="values",
    note="passes scores outside of [0, 1] through a sigmoid in float32, and "
    "takes the mean of both rates at one threshold instead of the crossing",
  )
  for limit in (0.1, 0.33):
    rows.add(
      "tar_at_far/tar",
      arrays,
      {"far": limit},
      "sklearn.metrics.roc_curve, its last point with fpr <= far",
      tar[far <= limit][-1],
      reduce="values",
    )
  # facenet's evaluate: distances below a threshold of a grid are accepted, the
  # first best threshold of nine folds is applied to the tenth.
  folds, grid = rows.inputs["folds"], np.arange(-4, 4, 0.05) + 0.02
  accuracies = []
  for fold in range(10):
    train, test = folds != fold, folds == fold
    right = [((-scores[train] < t) == same[train]).mean() for t in grid]
    best = grid[np.argmax(right)]
    accuracies.append(((-scores[test] < best) == same[test]).mean())
  rows.add(
    "k_fold_verification/accuracies",
    f"{arrays} folds",
    {"candidates": (-grid).tolist()},
    "facenet calculate_roc, accuracy of each fold",
    accuracies,
    reduce="values",
  )
  rows.add(
    "k_fold_verification/std",
    f"{arrays} folds",
    {"candidates": (-grid).tolist()},
    "facenet: np.std(accuracies)",
    np.std(accuracies),
    reduce="values",
    note="divides by K; ours by K - 1, and the "
    "standard error beside it is what FaceNet's paper prints",
  )


def add_retrieval(rows: Rows) -> None:
  names = ("precision_at_1", "r_precision", "mean_average_precision_at_r")
  for labels in ("cluster_labels", "large_labels"):
    x, y = rows.inputs["clusters"], rows.inputs[labels]
    calculator = AccuracyCalculator(
      include=names,
      k="max_bin_count",
      device=torch.device("cpu"),
      knn_func=CustomKNN(distances.CosineSimilarity()),
    )
    values = calculator.get_accuracy(x, y)
    for name in names:
      rows.add(
        name,
        f"clusters {labels}",
        {},
        "pytorch-metric-learning AccuracyCalculator, CosineSimilarity",
        values[name],
        reduce="mean over queries",
        note=""
        if labels == "cluster_labels"
        else "compares labels as float32: 2^24 and 2^24 + 1 are one class",
      )
