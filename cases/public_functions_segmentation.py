"""Cases of the functions of segmentation."""

import numpy as np

from cases.public_functions import Case
from cases.public_functions_metric_learning import (
  ANY_VECTORS,
  KEY,
  MASK,
  WIDTHS,
  vectors,
)
from segsiam_jax.losses import combine, weighted_sum
from segsiam_jax.metrics import (
  ClassMean,
  ConfusionMatrix,
  MultilabelCounts,
  PanopticQuality,
)
from segsiam_jax.metrics.base import Mean
from segsiam_jax.metrics.rand import RandScores
from segsiam_jax.ops.augment import Augmentation
from segsiam_jax.ops.distort import Distortion, turn

B, H, W, K = 3, 4, 5, 4
# All classes in every image.
LABELS = (
  np.random.default_rng(0)
  .permuted(np.arange(H * W) % K, axis=None)
  .reshape(H, W)
)
LABELS = np.stack([LABELS, LABELS[::-1], LABELS[:, ::-1]]).astype(np.int32)
PREDICTIONS = np.roll(LABELS, 1, axis=2)
# The first and the last row count.
WHERE = np.array([1, 0, 1], np.float32)
WEIGHTS = np.array([0.5, 1.0, 2.0, 1.5], np.float32)
IMAGES = ("logits", "labels", "where")
PAIRS = {"predictions": PREDICTIONS, "labels": LABELS, "where": WHERE}


def of_pixels(more=None, fits=None, **options) -> Case:
  """Of a loss of logits and labels."""
  more = more or {}
  return Case(
    {
      "logits": vectors(B, H, W, K),
      "labels": LABELS,
      "where": WHERE,
      "class_weights": WEIGHTS,
      **more,
    },
    options,
    classes=("labels",),
    batch=(*IMAGES, *(name for name, x in more.items() if len(x) == B)),
    fits=fits or {},
    unseen=MASK,
  )


def of_pairs(call=None, **options) -> list[Case]:
  """Of a metric of predictions and labels."""
  return [
    Case(
      PAIRS,
      options,
      call,
      classes=("predictions", "labels"),
      unseen=MASK,
    )
  ]


def moved(call=None, **options) -> Case:
  """Of an augmentation of an image and its label."""
  settings = Augmentation(
    flip_left_right=True,
    flip_up_down=True,
    scale=(0.5, 0.6),
    rotate=10.0,
    elastic_sigma=0.1,
    brightness=0.2,
    contrast=(0.8, 1.2),
    noise=0.1,
    invert=0.5,
  )
  return Case(
    {"image": abs(vectors(H, W, 2)) / 4, "label": LABELS[0]},
    {"key": KEY, "settings": settings, **options},
    call,
    empty_is_error=True,
    fits={"image": WIDTHS},
    # A value at 0 or 1 may be cut off in one dtype.
    rtol=1e-4,
  )


def at_places(name: str, array: np.ndarray, *shape: int) -> list[Case]:
  """Of sampling an image or a label."""
  rows, columns = abs(vectors(*shape)), abs(vectors(*shape, seed=1))
  if len(shape) == 1:
    columns = columns[:-1]
  # From the first corner to the last one.
  for places, length in ((rows, H), (columns, W)):
    places.flat[0], places.flat[-1] = 0, length - 1
  alone = ANY_VECTORS if len(shape) == 1 else ()
  nowhere = "a label is an integer; the image there is NaN"
  return [
    Case(
      {name: array, "ys": rows, "xs": columns},
      batch=(name,),
      empty_is_error=True,
      fits={name: ANY_VECTORS, "ys": alone, "xs": alone},
      unseen={} if name == "image" else {"ys": nowhere, "xs": nowhere},
    )
  ]


def rand_scores(label, mask, probabilities):
  scores = RandScores(1)
  scores.add({"label": label, "mask": mask}, {"probabilities": probabilities})
  return scores.compute()


MAPS = abs(vectors(B, H, W, K, seed=2))
PIXELS = abs(vectors(B, H, W, seed=3))
IDS = {"prediction_instances": PREDICTIONS % 2, "label_instances": LABELS % 2}
SCORES = abs(vectors(B, 2))
IMAGE = vectors(H, W, 2)

CASES = {
  "losses.boundary.boundary_loss": [
    of_pixels({"distance_maps": MAPS}),
    of_pixels(activation="sigmoid"),
  ],
  "losses.boundary.cl_dice_loss": [
    of_pixels(include_background=True),
    of_pixels(activation="sigmoid", include_background=True),
  ],
  "losses.boundary.soft_skeleton": [
    Case(
      {"probabilities": MAPS},
      {"iterations": 2},
      fits={
        "probabilities": (
          *ANY_VECTORS,
          "extra axis",
          "leading axis",
          "fewer axes",
        )
      },
    )
  ],
  "losses.boundary.signed_distance_maps": [
    Case(
      {"regions": LABELS[..., None] == np.arange(K)},
      fits={
        "regions": (*ANY_VECTORS, "extra axis", "leading axis", "fewer axes")
      },
    )
  ],
  "losses.boundary.unet_weight_map": [
    Case(
      {"instances": LABELS[0]},
      {"w0": 5.0, "sigma": 1.5},
      host=True,
      empty_is_error=True,
      fits={
        "instances": (*ANY_VECTORS, "extra axis", "leading axis", "fewer axes")
      },
    )
  ],
  "losses.combine.combine": [
    Case(
      {"logits": vectors(B, H, W, K), "labels": LABELS, "where": WHERE},
      {"weight": 0.5},
      lambda weight, **arrays: combine(
        {"softmax_cross_entropy": weight, "dice_loss": 1.0}
      )(arrays.pop("logits"), arrays.pop("labels"), **arrays),
      classes=("labels",),
      fits={"logits": ("longer last axis",)},
      unseen=MASK,
    )
  ],
  "losses.combine.weighted_sum": [
    Case(
      {"first": vectors(B), "second": vectors(B)},
      {"weight": 0.5},
      lambda weight, first, second: weighted_sum(
        {"first": first, "second": second}, {"first": weight, "second": 1.0}
      ),
    )
  ],
  "losses.lovasz.lovasz_softmax_loss": [
    of_pixels(),
    of_pixels(batch=True, absent="count"),
  ],
  "losses.overlap.dice_loss": [
    of_pixels(smooth=1.0),
    of_pixels(generalised=True, squared=True),
    of_pixels(batch=True, activation="sigmoid"),
  ],
  "losses.overlap.jaccard_loss": [of_pixels(smooth=1.0)],
  "losses.overlap.tversky_loss": [of_pixels(alpha=0.3, beta=0.7)],
  "losses.overlap.focal_tversky_loss": [of_pixels(gamma=0.75)],
  "losses._pixels.as_class_weights": [
    Case({"class_weights": WEIGHTS}, {"num_classes": K}, batch=())
  ],
  "losses._regions.soft_counts": [
    Case(
      {"logits": vectors(B, H, W, K), "labels": LABELS, "where": WHERE},
      classes=("labels",),
      fits={"logits": ("longer last axis",)},
      unseen=MASK,
    )
  ],
  "losses.segmentation.softmax_cross_entropy": [
    of_pixels({"pixel_weights": PIXELS}, label_smoothing=0.1),
    of_pixels(hardest_fraction=0.5, normalize="pixels"),
  ],
  "losses.segmentation.sigmoid_cross_entropy": [
    of_pixels({"pixel_weights": MAPS}, positive_weight=2.0),
    of_pixels(
      {"positive_weight": WEIGHTS}, fits={"positive_weight": ("fewer axes",)}
    ),
  ],
  "losses.segmentation.focal_loss": [
    of_pixels(gamma=2.0),
    of_pixels(activation="sigmoid", alpha=0.25),
  ],
  "metrics.base.Mean.of": [
    Case(
      {"values": vectors(B), "where": WHERE},
      call=Mean.of,
      fits={"values": ("extra axis",)},
    )
  ],
  "metrics.class_mean.ClassMean.of": [
    Case(
      {"scores": SCORES, "where": WHERE},
      call=ClassMean.of,
      fits={"scores": WIDTHS},
      unseen=MASK | {"scores": "NaN says that a score is not defined"},
    )
  ],
  "metrics.panoptic.PanopticQuality.of": [
    Case(
      {**PAIRS, **IDS},
      {"classes": K, "things": (1, 2), "max_segments": 8},
      PanopticQuality.of,
      ids=tuple(IDS),
      classes=("predictions", "labels"),
      unseen=MASK,
    )
  ],
  "metrics.rand.foreground_rand_score": [
    Case(
      {"segments": PREDICTIONS[0], "truth": LABELS[0]},
      host=True,
      empty_is_error=True,
    )
  ],
  "metrics.rand.RandScores.add": [
    Case(
      {
        "label": LABELS,
        "mask": np.ones(B, np.int32),
        "probabilities": abs(vectors(B, H, W, K)) / 4,
      },
      call=rand_scores,
      host=True,
      batch=(),
      fits={"probabilities": ("longer last axis",)},
    )
  ],
  "metrics.segmentation.as_labels": [
    Case({"predictions": PREDICTIONS, "labels": LABELS})
  ],
  "metrics.segmentation.confusion_matrices": of_pairs(num_classes=K),
  "metrics.segmentation.image_iou": of_pairs(num_classes=K, absent="one"),
  "metrics.segmentation.image_dice": of_pairs(num_classes=K, absent="zero"),
  "metrics.segmentation.ConfusionMatrix.of": of_pairs(
    ConfusionMatrix.of, classes=K
  ),
  "metrics.multilabel.MultilabelCounts.of": [
    Case(
      {
        "predictions": PREDICTIONS[..., None] % 2,
        "labels": LABELS[..., None] % 2,
        "where": WHERE,
      },
      {"classes": 1},
      MultilabelCounts.of,
      classes=("predictions", "labels"),
      unseen=MASK,
    )
  ],
  "metrics.surface.boundary_iou": of_pairs(num_classes=K, dilation=0.1),
  "metrics.surface.hausdorff_distance": of_pairs(
    num_classes=K, percentile=95.0, missing=9.0
  ),
  "metrics.surface.surface_dice": of_pairs(
    num_classes=K, tolerance=1.0, spacing=(0.5, 1.0)
  ),
  "ops.augment.augment": [
    moved(),
    Case(
      moved().arrays | {"weights": PIXELS[0]},
      {"key": KEY, "settings": Augmentation(flip_left_right=True)},
      empty_is_error=True,
      fits={"image": WIDTHS},
    ),
  ],
  "ops.augment.warp": [moved()],
  "ops.augment.adjust": [
    Case(
      {"image": abs(vectors(H, W, 2)) / 4},
      moved().options,
      empty_is_error=True,
      fits={"image": ANY_VECTORS},
      rtol=1e-4,
    )
  ],
  "ops.augment.sample": at_places("image", IMAGE, 2, 3),
  "ops.augment.sample_nearest": at_places("label", LABELS[0], 2, 3),
  "ops.augment.sample_separable": at_places("image", IMAGE, 3),
  "ops.augment.sample_separable_nearest": at_places("label", LABELS[0], 3),
  "ops.distance_transform.distance_transform": [
    Case(
      {"seeds": LABELS == 1},
      fits={
        "seeds": (*ANY_VECTORS, "extra axis", "leading axis", "fewer axes")
      },
    )
  ],
  "ops.distort.distort": [
    Case(
      {"image": abs(vectors(H, W, 2)) / 4},
      {
        "key": KEY,
        "settings": Distortion(
          flip_left_right=True,
          rotate=10.0,
          shear=0.1,
          scale=(0.5, 0.6),
          translate=0.1,
          elastic_sigma=0.1,
          thickness=0.5,
          contrast=(0.8, 1.2),
          noise=0.1,
        ),
      },
      empty_is_error=True,
      fits={"image": ANY_VECTORS},
      rtol=1e-4,
    )
  ],
  "ops.distort.turn": [
    Case(
      {"image": vectors(4, 4, 2)},
      {"key": KEY},
      # The pixels stay as they are, whatever their dtype.
      lambda key, image: turn(key, image.astype(np.float32)),
      empty_is_error=True,
      fits={"image": WIDTHS},
    )
  ],
  "ops.pixels.valid_pixels": [
    Case(
      {"labels": LABELS, "where": WHERE},
      classes=("labels",),
      fits={"labels": (*WIDTHS, "extra axis")},
      unseen=MASK,
    )
  ],
}

_LOSSES = "a part of the segmentation losses, tried there"
_STATES = "reads a state that `of` made; tests/metrics/test_states.py"

# By name, why there is nothing to try.
EXEMPT = {
  "losses._pixels.average": _LOSSES,
  "losses._pixels.prepare": _LOSSES,
  "losses._pixels.probabilities": _LOSSES,
  "losses._pixels.safe_divide": _LOSSES,
  "losses._pixels.weigh": _LOSSES,
  "losses._regions.class_mean": _LOSSES,
  "losses._regions.region_weights": _LOSSES,
  "metrics.base.Mean.compute": _STATES,
  "metrics.base.Mean.empty": "no arguments",
  "metrics.base.MetricState.compute": _STATES,
  "metrics.base.MetricState.merge": _STATES,
  "metrics.base.compute_all": _STATES,
  "metrics.base.merge_all": _STATES,
  "metrics.base.widen": "any state, as it is",
  "metrics.class_mean.ClassMean.compute": _STATES,
  "metrics.class_mean.ClassMean.empty": "no arrays",
  "metrics.class_mean.as_class_names": "no arrays",
  "metrics.class_mean.mean_of_defined": _STATES,
  "metrics.class_mean.ratio": "a part of the metrics, tried there",
  "metrics.panoptic.PanopticQuality.compute": _STATES,
  "metrics.panoptic.PanopticQuality.empty": "no arrays",
  "metrics.panoptic.panoptic_quality": "`of` and `compute` in one call",
  "metrics.rand.RandScores.add_image": "tried with `add`",
  "metrics.rand.RandScores.compute": "tried with `add`",
  "metrics.rand.RandScores.gather": "of processes, not of arrays",
  "metrics.multilabel.MultilabelCounts.compute": _STATES,
  "metrics.multilabel.MultilabelCounts.empty": "no arrays",
  "metrics.segmentation.ConfusionMatrix.compute": _STATES,
  "metrics.segmentation.ConfusionMatrix.empty": "no arrays",
  "ops.augment.elastic_field": "no arrays",
  "ops.augment.positions": "a part of `warp` and `distort`, tried there",
  "ops.augment.rotation": "a part of `warp` and `distort`, tried there",
  "ops.multilabel.pack": "of masks that a reader has made",
  "ops.multilabel.count": "of labels that `pack` has made",
  "ops.multilabel.unpack": "of labels that `pack` has made",
  "ops.pixels.expand_trailing": "the check of `where`, tried with the losses",
}
