"""The table of losses of semantic segmentation."""

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from segsiam_jax.fields.base import Field, within


class Loss(NamedTuple):
  """A loss that a config weighs as `loss.NAME`.

  Attributes:
    function: 'module:name' of (logits, labels, *, where, **options) -> (B,).
    weight: that it has by default.
    options: parameters of the function, each with the field that sets it.
    takes: what else it takes: 'class_weights', 'pixel_weights' and 'axis_name',
      the pmap axis.
    sigmoid: arguments that make it one of classes that may overlap; None if
      it cannot be.
    sigmoid_function: of those classes, without options; '' for `function`.
  """

  function: str
  weight: float = 0.0
  options: Mapping[str, str] = {}
  takes: Collection[str] = ()
  sigmoid: Mapping[str, Any] | None = None
  sigmoid_function: str = ""

  def overlapping(self) -> "Loss":
    """The same loss of classes that may overlap."""
    if self.sigmoid_function:
      return self._replace(function=self.sigmoid_function, options={})
    return self


_OF_PIXELS = ("class_weights", "pixel_weights")
_SIGMOID = {"activation": "sigmoid"}
_REGIONS = {"smooth": "loss.dice_smooth", "batch": "loss.dice_batch"}

LOSSES: dict[str, Loss] = {
  "cross_entropy": Loss(
    "segsiam_jax.losses:softmax_cross_entropy",
    1.0,
    {
      "label_smoothing": "loss.label_smoothing",
      "hardest_fraction": "loss.hardest_fraction",
    },
    _OF_PIXELS,
    sigmoid={},
    sigmoid_function="segsiam_jax.losses:sigmoid_cross_entropy",
  ),
  "focal": Loss(
    "segsiam_jax.losses:focal_loss",
    options={"gamma": "loss.focal_gamma"},
    takes=_OF_PIXELS,
    sigmoid=_SIGMOID,
  ),
  "dice": Loss(
    "segsiam_jax.losses:dice_loss",
    options=_REGIONS,
    takes=("axis_name",),
    sigmoid=_SIGMOID,
  ),
  "jaccard": Loss(
    "segsiam_jax.losses:jaccard_loss",
    options=_REGIONS,
    takes=("axis_name",),
    sigmoid=_SIGMOID,
  ),
  "tversky": Loss(
    "segsiam_jax.tasks.semantic:tversky_loss",
    options=_REGIONS | {"alpha": "loss.tversky_alpha"},
    takes=("axis_name",),
    sigmoid=_SIGMOID,
  ),
  "lovasz": Loss("segsiam_jax.losses:lovasz_softmax_loss"),
  "cl_dice": Loss(
    "segsiam_jax.losses:cl_dice_loss",
    options={"iterations": "loss.cl_dice_iterations"},
    sigmoid=_SIGMOID | {"include_background": True},
  ),
}

FIELDS: dict[str, Field] = {
  f"loss.{name}": Field(loss.weight, "weight", within(0))
  for name, loss in LOSSES.items()
} | {
  "loss.label_smoothing": Field(
    0.0, "label smoothing of cross-entropy", within(0, 1)
  ),
  "loss.hardest_fraction": Field(
    1.0,
    "fraction of hardest pixels that cross-entropy averages",
    within(0.001, 1),
  ),
  "loss.focal_gamma": Field(
    2.0, "exponent of the focal loss; 0 is cross-entropy", within(0, 1000)
  ),
  "loss.dice_smooth": Field(
    1.0, "added to numerator and denominator", within(0)
  ),
  "loss.dice_batch": Field(
    False, "one Dice for the whole batch instead of one per image"
  ),
  "loss.cl_dice_iterations": Field(
    3, "of cl_dice: half of the widest line, in pixels", within(1, 100)
  ),
  "loss.tversky_alpha": Field(
    0.3,
    "weight of false positives; 1 minus it goes to false negatives",
    within(0, 1),
  ),
}


def taking(what: str) -> list[str]:
  """Names of the losses with an option, or which take something."""
  return [
    name
    for name, loss in LOSSES.items()
    if what in loss.takes or what in loss.options
  ]
