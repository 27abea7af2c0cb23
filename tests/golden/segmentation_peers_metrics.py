"""Metrics of scikit-learn, torchmetrics, MONAI, segmentation-models-pytorch."""

import monai.metrics
import numpy as np
import sklearn.metrics
import torch
import torchmetrics.classification
import torchmetrics.functional.segmentation
from segmentation_models_pytorch import metrics as smp_metrics
from segmentation_peers_rows import VOID, Rows
from torchmetrics.detection import PanopticQuality


def add_rows(rows: Rows) -> None:
  """All comparisons of metrics."""
  counts(rows)
  surfaces(rows)
  panoptic(rows)


def counts(rows: Rows) -> None:
  """Confusion matrices of scikit-learn, torchmetrics and SMP."""
  labels, predicted = rows.inputs["regions"], rows.inputs["predicted"]
  arrays = ["predicted", "regions"]
  flat = labels.ravel(), predicted.ravel()
  state = {"classes": 4}
  for key, peer, value in (
    (
      "mean_iou",
      "jaccard_score(average='macro')",
      sklearn.metrics.jaccard_score(*flat, average="macro"),
    ),
    (
      "mean_dice",
      "f1_score(average='macro')",
      sklearn.metrics.f1_score(*flat, average="macro"),
    ),
    ("pixel_accuracy", "accuracy_score", sklearn.metrics.accuracy_score(*flat)),
    (
      "mean_accuracy",
      "balanced_accuracy_score",
      sklearn.metrics.balanced_accuracy_score(*flat),
    ),
    (
      "frequency_weighted_iou",
      "jaccard_score(average='weighted')",
      sklearn.metrics.jaccard_score(*flat, average="weighted"),
    ),
  ):
    rows.add(
      f"ConfusionMatrix/{key}", arrays, state, f"sklearn.metrics.{peer}", value
    )

  def jaccard(num_classes, labels, **options):
    index = torchmetrics.classification.MulticlassJaccardIndex(
      num_classes, **options
    )
    return float(index(torch.tensor(predicted), torch.tensor(labels).long()))

  rows.add(
    "ConfusionMatrix/mean_iou",
    ["predicted", "regions_ignored"],
    state,
    "torchmetrics MulticlassJaccardIndex(4, ignore_index=255)",
    jaccard(4, rows.inputs["regions_ignored"], ignore_index=VOID),
  )
  rows.add(
    "ConfusionMatrix/mean_iou",
    arrays,
    {"classes": 5},
    "torchmetrics MulticlassJaccardIndex(5), class 4 in neither",
    jaccard(5, labels),
    note="torchmetrics leaves classes in neither out of the macro average, "
    "which is our 'skip'.",
  )
  preds, target = torch.tensor(predicted).long(), torch.tensor(labels).long()
  by_class = torchmetrics.functional.segmentation.mean_iou(
    preds, target, num_classes=4, input_format="index", per_class=True
  )
  rows.add(
    "image_iou",
    arrays,
    {"num_classes": 4},
    "torchmetrics mean_iou(per_class=True), -1 read as NaN",
    np.where(by_class.numpy() < 0, np.nan, by_class.numpy()),
  )
  rows.add(
    "ConfusionMatrix/mean_iou",
    arrays,
    state,
    "torchmetrics.segmentation.MeanIoU(4)",
    torchmetrics.functional.segmentation.mean_iou(
      preds, target, num_classes=4, input_format="index"
    ).mean(),
    equal=False,
    note="torchmetrics' MeanIoU is a mean over images of each image's mean "
    "over its classes, not the data set's mIoU of the benchmarks.",
  )
  one_hot = torch.nn.functional.one_hot
  y_pred = one_hot(preds, 4).movedim(-1, 1)
  y = one_hot(target, 4).movedim(-1, 1)
  for ours, peer in (
    ("image_iou", monai.metrics.compute_iou),
    ("image_dice", monai.metrics.compute_dice),
  ):
    rows.add(
      ours,
      arrays,
      {"num_classes": 4, "absent": "skip_unlabelled"},
      f"monai.metrics.{peer.__name__}(ignore_empty=True)",
      peer(y_pred, y),
    )
  tp, fp, fn, tn = smp_metrics.get_stats(
    preds, target, mode="multiclass", num_classes=4
  )
  rows.add(
    "image_iou",
    arrays,
    {"num_classes": 4, "absent": "one"},
    "smp.metrics.iou_score(reduction='none', zero_division=1)",
    smp_metrics.iou_score(tp, fp, fn, tn, reduction="none", zero_division=1.0),
  )


def surfaces(rows: Rows) -> None:
  """Distances of MONAI and torchmetrics."""
  arrays = ["predicted", "regions"]
  one_hot = torch.nn.functional.one_hot
  preds = torch.tensor(rows.inputs["predicted"]).long()
  target = torch.tensor(rows.inputs["regions"]).long()
  y_pred = one_hot(preds, 4).movedim(-1, 1)
  y = one_hot(target, 4).movedim(-1, 1)
  for percentile in (None, 95):
    for spacing in (None, [2.0, 0.5]):
      rows.add(
        "hausdorff_distance",
        arrays,
        {"num_classes": 4, "percentile": percentile or 100, "spacing": spacing},
        f"monai.metrics.compute_hausdorff_distance({percentile=}, {spacing=}, "
        "include_background=True)",
        monai.metrics.compute_hausdorff_distance(
          y_pred,
          y,
          include_background=True,
          percentile=percentile,
          spacing=spacing,
        ),
      )
  for shape in ("", "_square"):
    names = [f"predicted{shape}", f"regions{shape}"]
    values = torchmetrics.functional.segmentation.hausdorff_distance(
      *(
        one_hot(torch.tensor(rows.inputs[name]).long(), 4).movedim(-1, 1)[:, :3]
        for name in names
      ),
      num_classes=3,
      include_background=True,
    )
    rows.add(
      "hausdorff_distance",
      names,
      {"num_classes": 3},
      f"torchmetrics hausdorff_distance(include_background=True){shape}",
      values,
      equal=bool(shape),
      note="Classes in both only: torchmetrics raises for others."
      if shape
      else "torchmetrics is wrong unless images are square: its distance "
      "transform indexes row x height + column instead of row x width. MONAI "
      "and SciPy agree with ours.",
    )
  missing = torch.zeros_like(target)
  value = monai.metrics.compute_hausdorff_distance(
    one_hot(missing, 4).movedim(-1, 1), y, include_background=True
  )
  rows.add(
    "hausdorff_distance",
    ["nothing", "regions"],
    {"num_classes": 4},
    "monai.metrics.compute_hausdorff_distance, nothing predicted",
    value,
    note="Infinite where only one mask is empty, as ours by default.",
  )
  tolerances = [1.0, 0.5, 2.0, 1.5]
  rows.add(
    "surface_dice",
    arrays,
    {"num_classes": 4, "tolerance": tolerances},
    f"monai.metrics.compute_surface_dice({tolerances}, "
    "include_background=True)",
    monai.metrics.compute_surface_dice(
      y_pred, y, tolerances, include_background=True
    ),
  )


def panoptic(rows: Rows) -> None:
  """torchmetrics' panoptic quality of one image."""
  inputs = rows.inputs
  preds = np.stack([inputs["predicted"][:1], inputs["predicted_things"]], -1)
  target = np.stack([inputs["regions"][:1], inputs["things"]], -1)
  metric = PanopticQuality(
    things={1},
    stuffs={0, 2, 3},
    return_sq_and_rq=True,
    return_per_class=True,
  )
  values = metric(
    torch.tensor(preds).long(), torch.tensor(target).long()
  ).numpy()
  # torchmetrics lists things first: 1, 0, 2, 3.
  for index, name in enumerate(("pq", "sq", "rq")):
    for category, row in zip((1, 0, 2, 3), values, strict=True):
      rows.add(
        f"PanopticQuality/{name}/{category}",
        ["predicted_one", "predicted_things", "regions_one", "things"],
        {"classes": 4, "things": [1]},
        "torchmetrics PanopticQuality(things={1}, stuffs={0, 2, 3})",
        row[index],
      )
