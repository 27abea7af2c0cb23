"""Boundary metrics and distances against brute force over all pixels."""

import functools

import hypothesis
import jax
import numpy as np
import pytest
from hypothesis import strategies as st

from segsiam_jax import metrics
from segsiam_jax.ops.distance_transform import distance_transform

K = 3
# A shape and its pixel spacing.
GRIDS = (((2, 9, 12), None), ((1, 4, 6, 5), (2.0, 1.0, 0.5)))


def draw(seed, shape, classes):
  rng = np.random.default_rng(seed)
  coarse = rng.choice(classes, (shape[0], *(-(-n // 3) for n in shape[1:])))
  for axis in range(1, len(shape)):
    coarse = coarse.repeat(3, axis)
  coarse = coarse[tuple(slice(size) for size in shape)]
  noise = rng.uniform(size=shape) < 0.05
  return np.where(noise, rng.choice(classes, shape), coarse)


def offsets(rank, chessboard):
  """Neighbours of a pixel: all around it, or along the axes only."""
  steps = [np.array(step) - 1 for step in np.ndindex((3,) * rank)]
  return [step for step in steps if chessboard or np.abs(step).sum() == 1]


def erode(mask, chessboard):
  """Pixels with all neighbours in the mask; beyond the image is outside."""
  inside = mask.copy()
  for index in np.argwhere(mask):
    for step in offsets(mask.ndim, chessboard):
      place = index + step
      outside = (place < 0).any() or (place >= mask.shape).any()
      if outside or not mask[tuple(place)]:
        inside[tuple(index)] = False
  return inside


def directed_distances(source, target, spacing):
  """From every edge pixel of `source` to the nearest one of `target`."""
  source, target = (
    np.argwhere(mask & ~erode(mask, chessboard=False)) * spacing
    for mask in (source, target)
  )
  return [np.sqrt(((target - s) ** 2).sum(1)).min() for s in source]


def expected_scores(predicted, labelled, spacing, percentile, tolerance, width):
  """Hausdorff, surface Dice and boundary IoU of two masks."""
  if not predicted.any() and not labelled.any():
    return np.nan, np.nan, np.nan
  bands = []
  for mask in (predicted, labelled):
    inside = mask
    for _ in range(width):
      inside = erode(inside, chessboard=True)
    bands.append(mask & ~inside)
  boundary_iou = (bands[0] & bands[1]).sum() / (bands[0] | bands[1]).sum()
  if not predicted.any() or not labelled.any():
    return 77.0, 0.0, boundary_iou
  one_way = directed_distances(predicted, labelled, spacing)
  other_way = directed_distances(labelled, predicted, spacing)
  distance = max(
    np.percentile(one_way, percentile), np.percentile(other_way, percentile)
  )
  both = np.array(one_way + other_way)
  return distance, (both <= tolerance + 1e-6).mean(), boundary_iou


@functools.cache
def compile_scores(spacing, percentile, width_fraction):
  def scores(predictions, labels):
    options = {"spacing": spacing}
    return (
      metrics.hausdorff_distance(
        predictions, labels, K, percentile=percentile, missing=77.0, **options
      ),
      metrics.surface_dice(
        predictions, labels, K, tolerance=(0.0, 1.0, 2.5), **options
      ),
      metrics.boundary_iou(predictions, labels, K, dilation=width_fraction),
    )

  return jax.jit(scores)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize(("percentile", "width"), [(100, 1), (95, 2)])
@hypothesis.settings(max_examples=8, deadline=None, derandomize=True)
@hypothesis.given(
  seed=st.integers(0, 2**16),
  label_classes=st.sampled_from(((0, 1, 2), (0, 2), (1,))),
  predicted_classes=st.sampled_from(((0, 1, 2), (1, 2), (1,))),
  ignored=st.sampled_from((0.0, 0.05, 1.0)),
)
def test_boundary_metrics(
  grid, percentile, width, seed, label_classes, predicted_classes, ignored
):
  shape, spacing = grid
  labels = draw(seed, shape, label_classes)
  predictions = draw(seed + 1, shape, predicted_classes)
  hidden = np.random.default_rng(seed).uniform(size=shape) < ignored
  labels[hidden] = 255
  fraction = width / np.linalg.norm(shape[1:])
  found = compile_scores(spacing, percentile, fraction)(predictions, labels)
  distances = np.ones(len(shape) - 1) if spacing is None else spacing
  for b, k in np.ndindex(shape[0], K):
    expected = expected_scores(
      (predictions[b] == k) & ~hidden[b],
      labels[b] == k,
      distances,
      percentile,
      (0.0, 1.0, 2.5)[k],
      width,
    )
    np.testing.assert_allclose(
      [array[b, k] for array in found], expected, rtol=1e-5, atol=1e-6
    )


def test_missing_regions_and_masks():
  labels = np.zeros((2, 5, 5), np.uint8)
  labels[:, 1:3, 1:3] = 1
  nothing = np.zeros_like(labels)
  distances = metrics.hausdorff_distance(nothing, labels, 3)
  assert np.isinf(distances[:, 1]).all() and np.isnan(distances[:, 2]).all()
  assert metrics.ClassMean.of(distances).compute()["1"] == np.inf
  # A masked image has no regions at all.
  where = np.float32([1, 0])
  distances = metrics.hausdorff_distance(labels, labels, 3, where=where)
  np.testing.assert_array_equal(distances, [[0, 0, np.nan], [np.nan] * 3])


def test_distance_transform_without_seeds():
  distances = distance_transform(np.zeros((1, 3, 4), bool))
  assert np.isinf(distances).all()
  with pytest.raises(ValueError, match="3 numbers for 2"):
    distance_transform(np.zeros((1, 3, 4), bool), spacing=(1, 1, 1))
