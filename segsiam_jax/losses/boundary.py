"""Losses and weights of shapes: distances to boundaries, centre lines."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import scipy.ndimage

from segsiam_jax.losses._pixels import (
  Activation,
  ClassWeights,
  prepare,
  probabilities,
  safe_divide,
)
from segsiam_jax.losses._regions import class_mean, region_weights
from segsiam_jax.ops.distance_transform import distance_transform
from segsiam_jax.ops.shapes import check_shapes

__all__ = [
  "boundary_loss",
  "cl_dice_loss",
  "signed_distance_maps",
  "soft_skeleton",
  "unet_weight_map",
]


def signed_distance_maps(regions: jax.Array) -> jax.Array:
  """Signed distances to the boundary of every class.

  Outside, the distance to the nearest pixel inside; inside, minus the distance
  to the nearest pixel outside, plus 1, so that the innermost ring of the
  boundary is at 0, as in the authors' code of the boundary loss.

  Args:
    regions: `(B, *S, K)` bool.

  Returns:
    `(B, *S, K)` float32; 0 for a class that fills none or all of an image.

  Raises:
    ValueError: another shape, or images with an axis of length 0.

  >>> regions = jnp.array([[0, 0, 1, 1, 1, 0]])[..., None]
  >>> print(signed_distance_maps(regions)[0, :, 0])
  [ 2.  1.  0. -1.  0.  1.]
  """
  check_shapes(regions=(regions, "B S+ *R+ K"))
  regions = jnp.asarray(regions).astype(bool)
  axes = tuple(range(1, regions.ndim - 1))
  has_boundary = regions.any(axes, keepdims=True)
  has_boundary &= ~regions.all(axes, keepdims=True)
  of_classes = jax.vmap(distance_transform, in_axes=-1, out_axes=-1)
  signed = jnp.where(regions, 1 - of_classes(~regions), of_classes(regions))
  return jnp.where(has_boundary, signed, 0.0)


def boundary_loss(
  logits: jax.Array,
  labels: jax.Array,
  *,
  ignore_label: int | None = 255,
  class_weights: ClassWeights | None = None,
  where: jax.Array | None = None,
  activation: Activation = "softmax",
  include_background: bool = True,
  distance_maps: jax.Array | None = None,
) -> jax.Array:
  """Predicted probability times signed distance to the labelled boundary.

  The mean over valid pixels of `p phi`, then over the classes that have
  labelled pixels. It is negative for good predictions. On its own it has a
  useless minimum, the empty prediction, so add it to a region loss.

  Args:
    logits: `(B, *S, K)`.
    labels: `(B, *S)` integers, or with "sigmoid" also `(B, *S, K)`.
    ignore_label: label of pixels that do not count; None if there is none.
    class_weights: `(K,)` weights of the mean over classes.
    where: `(B,)` example mask or `(B, *S)` pixel mask, nonzero = count.
    activation: "softmax" or "sigmoid".
    include_background: whether class 0 counts; the authors leave it out.
    distance_maps: `(B, *S, K)` phi, computed beforehand (for anisotropic
      pixels, say), read at valid pixels of classes that count, so that an
      absent class may be infinitely far; None computes `signed_distance_maps`
      of the labels.

  Returns:
    `(B,)` float32.

  References:
    Kervadec et al., Boundary loss for highly unbalanced segmentation,
    arXiv:1812.07032.

  >>> logits = jnp.array([[[9.0], [-9.0], [9.0]]])  # far from the label
  >>> labels = jnp.array([[1, 0, 0]])
  >>> loss = boundary_loss(logits, labels, activation="sigmoid")
  >>> print(f"{loss[0]:.2f}")
  0.67
  """
  pixels = prepare(
    logits,
    labels,
    ignore_label=ignore_label,
    where=where,
    activation=activation,
  )
  if distance_maps is None:
    distance_maps = signed_distance_maps(pixels.targets > 0)
  check_shapes(
    logits=(pixels.logits, "B *S K"), distance_maps=(distance_maps, "B *S K")
  )
  axes = tuple(range(1, pixels.logits.ndim - 1))
  weights = region_weights(
    pixels.targets.sum(axes), class_weights, include_background, "skip"
  )
  counts = pixels.valid & (jnp.expand_dims(weights, axes) != 0)
  distance_maps = jnp.where(counts, jnp.asarray(distance_maps, jnp.float32), 0)
  # Of an infinite distance a probability of 0 has nothing.
  probs = probabilities(pixels, activation)
  distance_maps = jnp.where(
    (probs == 0) & jnp.isinf(distance_maps), 0.0, distance_maps
  )
  losses = safe_divide(
    (probs * distance_maps).sum(axes),
    pixels.valid.sum(axes).astype(jnp.float32),
  )
  return class_mean(losses, weights)


def soft_skeleton(probabilities: jax.Array, iterations: int = 3) -> jax.Array:
  """Centre lines of soft masks, by repeated soft erosion and opening.

  Args:
    probabilities: `(B, *S, K)` in [0, 1], of images or volumes.
    iterations: erosions, at least as many as half of the widest object's
      pixels across.

  Returns:
    `(B, *S, K)` in the same range.

  References:
    Shit et al., clDice, arXiv:2003.07311, algorithm 1.

  >>> bar = jnp.zeros((1, 5, 7, 1)).at[:, 1:4, 1:6].set(1.0)
  >>> print(soft_skeleton(bar)[0, :, :, 0].astype(int))
  [[0 0 0 0 0 0 0]
   [0 0 0 0 0 0 0]
   [0 0 1 1 1 0 0]
   [0 0 0 0 0 0 0]
   [0 0 0 0 0 0 0]]
  """
  check_shapes(probabilities=(probabilities, "B S+ *R+ K"))
  x = jnp.asarray(probabilities, jnp.float32)
  axes = range(1, x.ndim - 1)

  def spread(x):
    for axis in axes:
      x = _of_three(x, axis, jnp.maximum, -jnp.inf)
    return x

  def erode(x):
    lines = [_of_three(x, axis, jnp.minimum, jnp.inf) for axis in axes]
    return functools.reduce(jnp.minimum, lines)

  def ridge(x):
    return jax.nn.relu(x - spread(erode(x)))

  skeleton = ridge(x)
  for _ in range(iterations):
    x = erode(x)
    new = ridge(x)
    skeleton += jax.nn.relu(new - skeleton * new)
  return skeleton


def _of_three(x, axis, extreme, beyond):
  """The largest or smallest of a pixel and its two neighbours on an axis."""
  pads = [(int(each == axis),) * 2 for each in range(x.ndim)]
  padded = jnp.pad(x, pads, constant_values=beyond)
  shifted = [
    jax.lax.slice_in_dim(padded, start, start + x.shape[axis], axis=axis)
    for start in range(3)
  ]
  return functools.reduce(extreme, shifted)


def cl_dice_loss(
  logits: jax.Array,
  labels: jax.Array,
  *,
  ignore_label: int | None = 255,
  class_weights: ClassWeights | None = None,
  where: jax.Array | None = None,
  activation: Activation = "softmax",
  iterations: int = 3,
  smooth: float = 1.0,
  include_background: bool = False,
) -> jax.Array:
  """One minus the soft centre-line Dice: of vessels, roads, membranes.

  The harmonic mean of two shares: of the prediction's centre line within the
  labelled region, and of the label's centre line within the predicted one, so
  that a gap costs as much as it breaks a line, not as it has pixels. The
  authors add it to `dice_loss`. Pixels that do not count are background.

  Args:
    logits: `(B, *S, K)` of images or volumes.
    labels: `(B, *S)` integers, or with "sigmoid" also `(B, *S, K)`.
    ignore_label: label of pixels that do not count; None if there is none.
    class_weights: `(K,)` weights of the mean over classes.
    where: `(B,)` example mask or `(B, *S)` pixel mask, nonzero = count.
    activation: "softmax" or "sigmoid".
    iterations: see `soft_skeleton`.
    smooth: added above and below in both shares.
    include_background: whether class 0 counts, too.

  Returns:
    `(B,)` float32; the mean over the classes with labelled pixels.

  References:
    Shit et al., clDice, arXiv:2003.07311.

  >>> labels = jnp.zeros((1, 5, 7), int).at[:, 2, 1:6].set(1)
  >>> logits = 20.0 * (2 * jax.nn.one_hot(labels, 2) - 1)
  >>> print(f"{cl_dice_loss(logits, labels)[0]:.4f}")
  0.0000
  """
  pixels = prepare(
    logits,
    labels,
    ignore_label=ignore_label,
    where=where,
    activation=activation,
  )
  axes = tuple(range(1, pixels.logits.ndim - 1))
  predicted = probabilities(pixels, activation)

  def share(of, within):
    line = soft_skeleton(of, iterations)
    return ((line * within).sum(axes) + smooth) / (line.sum(axes) + smooth)

  precision = share(predicted, pixels.targets)
  recall = share(pixels.targets, predicted)
  losses = 1 - 2 * safe_divide(precision * recall, precision + recall)
  weights = region_weights(
    pixels.targets.sum(axes), class_weights, include_background, "skip"
  )
  return class_mean(losses, weights)


def unet_weight_map(
  instances: np.ndarray, *, w0: float = 10.0, sigma: float = 5.0
) -> np.ndarray:
  """Weights that make a network learn the gaps between touching objects.

  `1 + w0 exp(-(d1 + d2)^2 / (2 sigma^2))` on the background, where d1 and d2
  are the distances to the nearest and second-nearest object; 1 on objects.
  The paper's further term, which balances classes, is `class_weights` of
  `softmax_cross_entropy`. Runs on the host.

  Args:
    instances: `(*S)` integers, 0 for the background, one number per object.
    w0: height of the ridge between objects.
    sigma: its width in pixels.

  Returns:
    `(*S)` float32; `pixel_weights` of `softmax_cross_entropy`.

  Raises:
    ValueError: an axis of length 0, or numbers that are not a height and width.

  References:
    Ronneberger et al., U-Net, arXiv:1505.04597, equation 2.

  >>> print(unet_weight_map(np.array([[1, 0, 2], [1, 0, 2]])).round(2))
  [[ 1.   10.23  1.  ]
   [ 1.   10.23  1.  ]]
  """
  instances = np.asarray(instances)
  check_shapes(instances=(instances, "S+ *R+"))
  if instances.dtype.kind not in "biu":
    raise ValueError(f"instances: expected integers; got {instances.dtype}")
  if not (np.isfinite(w0) and 0 < sigma < np.inf):
    raise ValueError(
      f"w0, sigma: expected finite numbers, sigma above 0; got {w0}, {sigma}"
    )
  nearest = np.full(instances.shape, np.inf)
  second = nearest.copy()
  # Beyond six sigma the ridge is below 2e-8 of its height: each object is
  # measured in its own neighbourhood.
  reach = int(np.ceil(6 * sigma)) + 1
  numbers, compact = np.unique(instances, return_inverse=True)
  compact = compact.reshape(instances.shape) + 1
  boxes = scipy.ndimage.find_objects(compact)
  for index, (number, box) in enumerate(zip(numbers, boxes, strict=True), 1):
    if number == 0:
      continue
    around = tuple(
      slice(max(0, side.start - reach), side.stop + reach) for side in box
    )
    distance = scipy.ndimage.distance_transform_edt(compact[around] != index)
    second[around] = np.minimum(
      second[around], np.maximum(nearest[around], distance)
    )
    nearest[around] = np.minimum(nearest[around], distance)
  ridge = w0 * np.exp(-np.square(nearest + second) / (2 * sigma**2))
  return np.where(instances == 0, 1 + ridge, 1.0).astype(np.float32)
