"""Losses of torch, segmentation-models-pytorch, MONAI and optax."""

import jax.numpy as jnp
import monai.losses
import optax
import torch
from segmentation_models_pytorch import losses as smp_losses
from segmentation_peers_rows import VOID, Rows

WEIGHTS = [0.5, 1.0, 2.0, 4.0]


def add_rows(rows: Rows) -> None:
  """All comparisons of losses."""
  cross_entropies(rows)
  focal(rows)
  regions(rows)


def cross_entropies(rows: Rows) -> None:
  """torch and SMP."""
  for options in (
    {},
    {"label_smoothing": 0.1},
    {"class_weights": WEIGHTS},
    {"class_weights": WEIGHTS, "label_smoothing": 0.2},
  ):
    weights = options.get("class_weights")
    smoothing = options.get("label_smoothing", 0.0)
    rows.loss(
      "softmax_cross_entropy",
      ["logits", "ignored"],
      options,
      f"torch.nn.CrossEntropyLoss(ignore_index=255, weight={weights}, "
      f"label_smoothing={smoothing}), per image",
      torch.nn.CrossEntropyLoss(
        weight=weights and torch.tensor(weights),
        ignore_index=VOID,
        label_smoothing=smoothing,
      ),
    )
  smoothed = smp_losses.SoftCrossEntropyLoss(
    ignore_index=VOID, smooth_factor=0.1
  )
  rows.loss(
    "softmax_cross_entropy",
    ["logits", "labels"],
    {"label_smoothing": 0.1},
    "smp.losses.SoftCrossEntropyLoss(smooth_factor=0.1)",
    smoothed,
  )
  rows.loss(
    "softmax_cross_entropy",
    ["logits", "ignored"],
    {"label_smoothing": 0.1},
    "smp.losses.SoftCrossEntropyLoss(smooth_factor=0.1, ignore_index=255)",
    smoothed,
    equal=False,
    note="SMP's mean divides by all pixels, ignored ones too, so the loss "
    "shrinks as more is ignored; ours divides by the valid ones.",
  )
  logits = jnp.asarray(rows.inputs["logits"])
  labels = jnp.asarray(rows.inputs["labels"])
  losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
  rows.add(
    "softmax_cross_entropy",
    ["logits", "labels"],
    {},
    "optax.softmax_cross_entropy_with_integer_labels, mean over pixels",
    losses.mean((1, 2)),
  )
  rows.loss(
    "sigmoid_cross_entropy",
    ["multilabel_logits", "multilabel"],
    {"positive_weight": [2.0, 1.0, 3.0]},
    "torch.nn.BCEWithLogitsLoss(pos_weight=[2, 1, 3]), per image",
    lambda x, y: torch.nn.BCEWithLogitsLoss(
      pos_weight=torch.tensor([2.0, 1.0, 3.0])[:, None, None]
    )(x, y.float()),
  )
  rows.loss(
    "sigmoid_cross_entropy",
    ["multilabel_logits", "multilabel"],
    {"class_weights": [0.5, 1.0, 2.0], "normalize": "pixels"},
    "torch.nn.BCEWithLogitsLoss(weight=[0.5, 1, 2]), per image",
    lambda x, y: torch.nn.BCEWithLogitsLoss(
      weight=torch.tensor([0.5, 1.0, 2.0])[:, None, None]
    )(x, y.float()),
    note="torch divides a weighted BCE by the number of entries.",
  )
  rows.loss(
    "sigmoid_cross_entropy",
    ["binary_logits", "binary_ignored"],
    {},
    "smp.losses.SoftBCEWithLogitsLoss(ignore_index=255)",
    lambda x, y: smp_losses.SoftBCEWithLogitsLoss(ignore_index=VOID)(
      x, y[:, None].float()
    ),
    equal=False,
    note="SMP divides by all pixels, ignored ones too.",
  )


def focal(rows: Rows) -> None:
  """SMP, MONAI, optax."""
  for gamma, alpha in ((2.0, None), (1.5, 0.25)):
    options = {"activation": "sigmoid", "gamma": gamma, "alpha": alpha}
    rows.loss(
      "focal_loss",
      ["binary_logits", "binary_ignored"],
      options,
      f"smp.losses.FocalLoss('binary', {alpha=}, {gamma=}, ignore_index=255)",
      smp_losses.FocalLoss(
        "binary", alpha=alpha, gamma=gamma, ignore_index=VOID
      ),
    )
    rows.loss(
      "focal_loss",
      ["multilabel_logits", "multilabel"],
      options,
      f"monai.losses.FocalLoss({alpha=}, {gamma=}), per image",
      monai.losses.FocalLoss(alpha=alpha, gamma=gamma),
    )
    losses = optax.losses.sigmoid_focal_loss(
      jnp.asarray(rows.inputs["multilabel_logits"]),
      jnp.asarray(rows.inputs["multilabel"], jnp.float32),
      alpha=alpha,
      gamma=gamma,
    )
    rows.add(
      "focal_loss",
      ["multilabel_logits", "multilabel"],
      options,
      f"optax.losses.sigmoid_focal_loss({alpha=}, {gamma=}), mean",
      losses.mean((1, 2, 3)),
    )
  rows.loss(
    "focal_loss",
    ["logits", "labels"],
    {"activation": "softmax"},
    "4 x monai.losses.FocalLoss(use_softmax=True, to_onehot_y=True)",
    lambda x, y: (
      4
      * monai.losses.FocalLoss(use_softmax=True, to_onehot_y=True)(
        x, y[:, None]
      )
    ),
    note="MONAI divides by pixels x classes although a softmax focal loss has "
    "one term per pixel; ours divides by pixels.",
  )
  multiclass = smp_losses.FocalLoss("multiclass", ignore_index=VOID)
  rows.loss(
    "focal_loss",
    ["logits", "ignored"],
    {"activation": "sigmoid"},
    "smp.losses.FocalLoss('multiclass', ignore_index=255)",
    multiclass,
    note="SMP's multiclass focal loss is K sigmoid losses, not a softmax.",
  )
  rows.loss(
    "focal_loss",
    ["logits", "ignored"],
    {"activation": "softmax"},
    "smp.losses.FocalLoss('multiclass', ignore_index=255)",
    multiclass,
    equal=False,
    note="See above: it is one sigmoid loss per class.",
  )


def regions(rows: Rows) -> None:
  """Dice, Jaccard, Tversky of SMP, MONAI, optax; Lovász of SMP."""
  for ours, peer, options in (
    ("dice_loss", smp_losses.DiceLoss, {}),
    ("jaccard_loss", smp_losses.JaccardLoss, {}),
    ("tversky_loss", smp_losses.TverskyLoss, {"alpha": 0.3, "beta": 0.7}),
  ):
    rows.loss(
      ours,
      ["logits", "ignored"],
      {"batch": True, "smooth": 0.0, **options},
      f"smp.losses.{peer.__name__}('multiclass', ignore_index=255, {options})",
      peer("multiclass", ignore_index=VOID, **options),
      by_image=False,
    )
    rows.loss(
      ours,
      ["binary_logits", "binary_ignored"],
      {"batch": True, "smooth": 0.0, "activation": "sigmoid", **options},
      f"smp.losses.{peer.__name__}('binary', ignore_index=255, {options})",
      peer("binary", ignore_index=VOID, **options),
      by_image=False,
    )
  rows.loss(
    "dice_loss",
    ["logits", "labels"],
    {"batch": True, "smooth": 2.0},
    "smp.losses.DiceLoss('multiclass', smooth=1)",
    smp_losses.DiceLoss("multiclass", smooth=1.0),
    by_image=False,
    note="SMP adds smooth to TP and to TP + (FP + FN) / 2: half of Dice's "
    "numerator and denominator, so its smooth of 1 is our 2.",
  )
  rows.loss(
    "dice_loss",
    ["logits", "absent"],
    {"batch": True, "smooth": 0.0},
    "4/3 x smp.losses.DiceLoss('multiclass'), one of 4 classes absent",
    lambda x, y: smp_losses.DiceLoss("multiclass")(x, y) * 4 / 3,
    by_image=False,
    note="SMP sets the loss of an absent class to 0 and then divides by all "
    "classes, so absent classes look perfect; ours divides by the present "
    "ones.",
  )
  rows.loss(
    "focal_tversky_loss",
    ["logits", "labels"],
    {"batch": True, "smooth": 0.0, "gamma": 0.75},
    "smp.losses.TverskyLoss('multiclass', alpha=0.3, beta=0.7, gamma=0.75)",
    smp_losses.TverskyLoss("multiclass", alpha=0.3, beta=0.7, gamma=0.75),
    by_image=False,
    equal=False,
    note="SMP raises the mean over classes to gamma; the paper sums the powers "
    "of the classes, which is what makes hard classes count more. With one "
    "class they agree, see the next row.",
  )
  rows.loss(
    "focal_tversky_loss",
    ["binary_logits", "binary"],
    {"batch": True, "smooth": 0.0, "gamma": 0.75, "activation": "sigmoid"},
    "smp.losses.TverskyLoss('binary', alpha=0.3, beta=0.7, gamma=0.75)",
    smp_losses.TverskyLoss("binary", alpha=0.3, beta=0.7, gamma=0.75),
    by_image=False,
  )
  for ours, squared, jaccard, batch, background in (
    ("dice_loss", False, False, False, True),
    ("dice_loss", True, False, False, True),
    ("dice_loss", False, False, True, True),
    ("dice_loss", False, False, False, False),
    ("jaccard_loss", False, True, False, True),
  ):
    options = {
      "absent": "count",
      "batch": batch,
      "include_background": background,
    }
    if squared:
      options["squared"] = True
    rows.loss(
      ours,
      ["logits", "absent"],
      options,
      f"monai.losses.DiceLoss(softmax=True, to_onehot_y=True, {jaccard=}, "
      f"squared_pred={squared}, {batch=}, include_background={background})",
      lambda x, y, options=(squared, jaccard, batch, background): (
        monai.losses.DiceLoss(
          softmax=True,
          to_onehot_y=True,
          squared_pred=options[0],
          jaccard=options[1],
          batch=options[2],
          include_background=options[3],
        )(x, y[:, None])
      ),
      by_image=not batch,
    )
  rows.loss(
    "dice_loss",
    ["logits", "labels"],
    {"absent": "count"},
    "monai.losses.DiceLoss(softmax=True, to_onehot_y=True, "
    "ignore_index=255), on labels without 255",
    lambda x, y: monai.losses.DiceLoss(
      softmax=True, to_onehot_y=True, ignore_index=VOID
    )(x, y[:, None]),
  )
  rows.loss(
    "tversky_loss",
    ["logits", "labels"],
    {"absent": "count"},
    "monai.losses.TverskyLoss(softmax=True, to_onehot_y=True, alpha=0.3, "
    "beta=0.7)",
    lambda x, y: monai.losses.TverskyLoss(
      softmax=True, to_onehot_y=True, alpha=0.3, beta=0.7
    )(x, y[:, None]),
  )
  for labels in ("labels", "absent"):
    rows.loss(
      "dice_loss",
      ["logits", labels],
      {"generalised": True, "absent": "count", "smooth": 0.0},
      "monai.losses.GeneralizedDiceLoss(softmax=True, to_onehot_y=True, "
      "smooth_nr=0, smooth_dr=0)",
      lambda x, y: monai.losses.GeneralizedDiceLoss(
        softmax=True, to_onehot_y=True, smooth_nr=0.0, smooth_dr=0.0
      )(x, y[:, None]),
    )
  rows.loss(
    "dice_loss",
    ["logits", "labels"],
    {"generalised": True, "absent": "count", "smooth": 1e-2},
    "monai.losses.GeneralizedDiceLoss(softmax=True, to_onehot_y=True, "
    "smooth_nr=1e-2, smooth_dr=1e-2)",
    lambda x, y: monai.losses.GeneralizedDiceLoss(
      softmax=True, to_onehot_y=True, smooth_nr=1e-2, smooth_dr=1e-2
    )(x, y[:, None]),
    equal=False,
    note="MONAI adds smooth to sums weighted by 1 / pixels^2 (1e-8 for a "
    "100 x 100 region), so that a smooth of 1e-5 outweighs the data; ours is "
    "relative to the rarest class.",
  )
  logits = jnp.asarray(rows.inputs["logits"])
  one_hot = jnp.eye(4)[rows.inputs["absent"]]
  rows.add(
    "dice_loss",
    ["logits", "absent"],
    {"absent": "count", "smooth": 2.0},
    "optax.losses.dice_loss(smooth=1)",
    optax.losses.dice_loss(logits, one_hot),
    note="optax's smooth is added to the halved terms, as SMP's.",
  )
  rows.add(
    "dice_loss",
    ["logits", "labels"],
    {"batch": True, "generalised": True, "smooth": 0.0},
    "optax.losses.multiclass_generalized_dice_loss(smooth=0)",
    optax.losses.multiclass_generalized_dice_loss(
      logits, jnp.eye(4)[rows.inputs["labels"]], smooth=0.0
    ),
    equal=False,
    note="optax weighs the Dice losses of the classes; the generalised Dice of "
    "Sudre et al. is one ratio of weighted sums.",
  )
  for labels in ("ignored", "absent"):
    for batch in (False, True):
      rows.loss(
        "lovasz_softmax_loss",
        ["logits", labels],
        {"batch": batch},
        f"smp.losses.LovaszLoss('multiclass', per_image={not batch}, "
        "ignore_index=255)",
        smp_losses.LovaszLoss(
          "multiclass", per_image=not batch, ignore_index=VOID
        ),
        by_image=not batch,
      )
