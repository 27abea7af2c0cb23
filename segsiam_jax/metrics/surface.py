"""Metrics of region boundaries, per image and class.

Each function returns `(B, K)` scores with NaN where a score is undefined;
`ClassMean.of(scores)` makes them a state that streams and merges. Classes are
taken one at a time, so that memory stays that of a few images.

Labels and predictions are integers and have no NaN; floats are a TypeError.
Shapes that differ, and images with an axis of length 0, are a ValueError.
"""

import functools
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from segsiam_jax.metrics.class_mean import ratio
from segsiam_jax.metrics.segmentation import as_labels
from segsiam_jax.ops.distance_transform import distance_transform
from segsiam_jax.ops.pixels import valid_pixels
from segsiam_jax.ops.shapes import check_integer

# Distances are float32: 3 pixels of 0.3 are 0.90000004. So much more than a
# tolerance is still within it.
_SLACK = 1e-6


def boundary_iou(
  predictions: jax.Array,
  labels: jax.Array,
  num_classes: int,
  *,
  dilation: float = 0.02,
  ignore_label: int | None = 255,
  where: jax.Array | None = None,
) -> jax.Array:
  """IoU of the pixels near the boundary of each region.

  The boundary of a region is its pixels at a chessboard distance of at most d
  from outside it; beyond the image is outside.

  Args:
    predictions: `(B, *S)` integers.
    labels: `(B, *S)` integers.
    num_classes: K.
    dilation: d as a fraction of the image diagonal, at least 0; d is rounded
      to at least one pixel.
    ignore_label: label of pixels that do not count: they belong to no region,
      predicted or labelled.
    where: `(B,)` example mask or `(B, *S)` pixel mask, nonzero = count.

  Returns:
    `(B, K)` float32, NaN where a class is in neither.

  References:
    Cheng et al., Boundary IoU, arXiv:2103.16562.

  >>> labels = jnp.zeros((1, 8, 8), jnp.int32).at[:, :, :4].set(1)
  >>> shifted = jnp.roll(labels, 1, axis=2)
  >>> scores = boundary_iou(shifted, labels, 2)
  >>> print(f"{scores[0, 1]:.4f}")  # 6 of 34 pixels in common
  0.1765
  """
  if not 0 <= dilation < float("inf"):
    raise ValueError(f"dilation: expected a number >= 0; got {dilation}")
  predictions, labels = as_labels(predictions, labels)
  diagonal = sum(size**2 for size in labels.shape[1:]) ** 0.5
  # Rounded twice, so that the error of a product does not decide.
  width = max(1, round(round(float(dilation * diagonal), 6)))

  def score(predicted: jax.Array, labelled: jax.Array) -> jax.Array:
    axes = tuple(range(1, predicted.ndim))
    predicted = predicted & ~_erode_square(predicted, width)
    labelled = labelled & ~_erode_square(labelled, width)
    intersection = (predicted & labelled).sum(axes)
    return ratio(intersection, (predicted | labelled).sum(axes), jnp)

  return _by_class(score, predictions, labels, num_classes, ignore_label, where)


def hausdorff_distance(
  predictions: jax.Array,
  labels: jax.Array,
  num_classes: int,
  *,
  percentile: float = 100.0,
  spacing: Sequence[float] | None = None,
  missing: float = float("inf"),
  ignore_label: int | None = 255,
  where: jax.Array | None = None,
) -> jax.Array:
  """Hausdorff distance between predicted and labelled boundaries.

  The larger of both directions, each the maximum or a percentile (linearly
  interpolated, as NumPy) of the distances from the edge pixels of one region
  to the nearest edge pixel of the other. Edge pixels have a neighbour outside
  (sharing a side); beyond the image is outside.

  Args:
    predictions: `(B, *S)` integers.
    labels: `(B, *S)` integers.
    num_classes: K.
    percentile: in [0, 100]; 100 for the maximum, 95 for "HD95".
    spacing: size of a pixel along each spatial axis; None for 1.
    missing: the distance where a class is only predicted or only labelled.
      The default shows in any mean, since leaving such failures out would
      reward a model for missing the object. The diagonal of the image is
      another usual choice.
    ignore_label: label of pixels that do not count: they belong to no region,
      predicted or labelled.
    where: `(B,)` example mask or `(B, *S)` pixel mask, nonzero = count.

  Returns:
    `(B, K)` float32, NaN where a class is in neither.

  References:
    Huttenlocher et al., Comparing images using the Hausdorff distance, IEEE
    PAMI 15, 1993.

  >>> labels = jnp.array([[[0, 1, 0, 0, 0]]])
  >>> predictions = jnp.array([[[0, 1, 0, 0, 1]]])
  >>> hausdorff_distance(predictions, labels, 3)[0, 1:].tolist()
  [3.0, nan]
  """
  if not 0 <= percentile <= 100:
    raise ValueError(f"percentile: expected 0 to 100; got {percentile}")

  def score(predicted: jax.Array, labelled: jax.Array) -> jax.Array:
    directed = _directed_distances(predicted, labelled, spacing)
    one_way, other_way = (
      _percentile(distance, edge, percentile) for distance, edge in directed
    )
    axes = tuple(range(1, predicted.ndim))
    is_predicted, is_labelled = predicted.any(axes), labelled.any(axes)
    return jnp.select(
      [is_predicted & is_labelled, is_predicted | is_labelled],
      [jnp.maximum(one_way, other_way), missing],
      jnp.nan,
    )

  return _by_class(score, predictions, labels, num_classes, ignore_label, where)


def surface_dice(
  predictions: jax.Array,
  labels: jax.Array,
  num_classes: int,
  *,
  tolerance: float | Sequence[float] = 1.0,
  spacing: Sequence[float] | None = None,
  ignore_label: int | None = 255,
  where: jax.Array | None = None,
) -> jax.Array:
  """Share of both boundaries that lies within a tolerance of the other.

  Args:
    predictions: `(B, *S)` integers.
    labels: `(B, *S)` integers.
    num_classes: K.
    tolerance: largest accepted distance, in units of `spacing`; a number or
      one for each class, at least 0. A distance of exactly the tolerance is
      accepted, to a relative 1e-6.
    spacing: size of a pixel along each spatial axis; None for 1.
    ignore_label: label of pixels that do not count: they belong to no region,
      predicted or labelled.
    where: `(B,)` example mask or `(B, *S)` pixel mask, nonzero = count.

  Returns:
    `(B, K)` float32; 0 where a class is only predicted or only labelled, NaN
    where it is in neither.

  Raises:
    ValueError: a tolerance that is NaN or below 0, or not one for each class.

  References:
    Nikolov et al., arXiv:1809.04430. Edge pixels count alike here and are
    measured between their centres, as in MONAI. The authors' surface-distance
    measures between the corners of pixels, and weighs each by the area of
    surface there: for small objects the two differ by some hundredths.

  >>> labels = jnp.array([[[0, 1, 0, 0, 0]]])
  >>> predictions = jnp.array([[[0, 1, 0, 0, 1]]])
  >>> print(f"{surface_dice(predictions, labels, 2)[0, 1]:.2f}")
  0.67
  """
  accepted = np.asarray(tolerance, np.float64)
  if accepted.shape not in ((), (num_classes,)):
    raise ValueError(
      f"tolerance: expected a number or shape ({num_classes},); got shape "
      f"{accepted.shape}"
    )
  if not (accepted >= 0).all():
    raise ValueError(f"tolerance: expected numbers >= 0; got {tolerance}")
  accepted = np.broadcast_to(accepted, (num_classes,)) * (1 + _SLACK)

  def score(
    predicted: jax.Array, labelled: jax.Array, tolerance: jax.Array
  ) -> jax.Array:
    directed = _directed_distances(predicted, labelled, spacing)
    axes = tuple(range(1, predicted.ndim))
    close = sum(
      # All is infinitely far where there is no other boundary.
      (edge & (distance <= tolerance) & jnp.isfinite(distance)).sum(axes)
      for distance, edge in directed
    )
    return ratio(close, sum(edge.sum(axes) for _, edge in directed), jnp)

  return _by_class(
    score,
    predictions,
    labels,
    num_classes,
    ignore_label,
    where,
    jnp.asarray(accepted, jnp.float32),
  )


def _by_class(
  score: Callable[..., jax.Array],
  predictions: jax.Array,
  labels: jax.Array,
  num_classes: int,
  ignore_label: int | None,
  where: jax.Array | None,
  *by_class: jax.Array,
) -> jax.Array:
  """`(B, K)` of `score(predicted, labelled, ...)` on `(B, *S)` regions."""
  num_classes = check_integer("num_classes", num_classes, 1)
  predictions, labels = as_labels(predictions, labels)
  valid = valid_pixels(labels, ignore_label=ignore_label, where=where)
  predictions = jnp.where(valid, predictions.astype(jnp.int32), -1)
  labels = jnp.where(valid, labels.astype(jnp.int32), -1)
  scores = jax.lax.map(
    lambda args: score(predictions == args[0], labels == args[0], *args[1:]),
    (jnp.arange(num_classes), *by_class),
  )
  return scores.T.astype(jnp.float32)


def _directed_distances(
  predicted: jax.Array,
  labelled: jax.Array,
  spacing: Sequence[float] | None,
) -> list[tuple[jax.Array, jax.Array]]:
  """Both directions: `(B, *S)` distances to one edge, pixels of the other."""
  predicted_edge = predicted & ~_erode_cross(predicted)
  labelled_edge = labelled & ~_erode_cross(labelled)
  return [
    (distance_transform(labelled_edge, spacing=spacing), predicted_edge),
    (distance_transform(predicted_edge, spacing=spacing), labelled_edge),
  ]


def _percentile(
  values: jax.Array, mask: jax.Array, percentile: float
) -> jax.Array:
  """`(B,)` percentile of `values (B, *S)` where `mask`."""
  values = values.reshape(len(values), math.prod(values.shape[1:]))
  mask = mask.reshape(values.shape)
  if percentile == 100:
    return jnp.where(mask, values, -jnp.inf).max(1)
  # Floats from 0 up are ordered like their bits, and a CPU sorts integers four
  # times faster.
  bits = jax.lax.bitcast_convert_type(
    jnp.where(mask, values, jnp.inf), jnp.int32
  )
  ordered = jax.lax.bitcast_convert_type(jnp.sort(bits, axis=1), jnp.float32)
  place = percentile / 100 * jnp.maximum(mask.sum(1) - 1, 0)
  lower = jnp.floor(place).astype(jnp.int32)
  neighbours = jnp.stack([lower, jnp.ceil(place).astype(jnp.int32)], axis=1)
  low, high = jnp.take_along_axis(ordered, neighbours, axis=1).T
  # Not (high - low) * 0, which is NaN where both are infinite.
  return jnp.where(low == high, low, low + (high - low) * (place - lower))


def _erode_cross(mask: jax.Array) -> jax.Array:
  """Pixels whose neighbours along every axis are in the mask."""
  lines = [_erode_line(mask, axis, 1) for axis in range(1, mask.ndim)]
  return functools.reduce(jnp.logical_and, lines)


def _erode_square(mask: jax.Array, width: int) -> jax.Array:
  """Pixels with nothing outside the mask at a chessboard distance <= width."""
  for axis in range(1, mask.ndim):
    mask = _erode_line(mask, axis, width)
  return mask


def _erode_line(mask: jax.Array, axis: int, width: int) -> jax.Array:
  """Pixels with 2 width + 1 pixels of the mask around them along an axis."""
  padding = [(0, 0)] * mask.ndim
  padding[axis] = (width, width)
  window = [1] * mask.ndim
  window[axis] = 2 * width + 1
  return jax.lax.reduce_window(
    jnp.pad(mask, padding),
    True,
    jax.lax.bitwise_and,
    window_dimensions=window,
    window_strides=[1] * mask.ndim,
    padding="VALID",
  )
