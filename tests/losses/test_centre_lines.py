"""clDice against NumPy and SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from segsiam_jax import losses


def erode(x):
  lines = []
  for axis in range(x.ndim):
    size = [1 + 2 * (each == axis) for each in range(x.ndim)]
    lines.append(
      scipy.ndimage.minimum_filter(x, size, mode="constant", cval=np.inf)
    )
  return np.min(lines, axis=0)


def ridge(x):
  opened = scipy.ndimage.maximum_filter(
    erode(x), 3, mode="constant", cval=-np.inf
  )
  return np.maximum(x - opened, 0)


def skeleton(x, iterations):
  result = ridge(x)
  for _ in range(iterations):
    x = erode(x)
    new = ridge(x)
    result = result + np.maximum(new - result * new, 0)
  return result


@pytest.mark.parametrize("shape", [(2, 9, 11), (1, 5, 6, 7)])
def test_skeletons(rng, shape):
  x = rng.random((*shape, 2))
  expected = [
    [skeleton(x[b, ..., k], 2) for k in range(2)] for b in range(shape[0])
  ]
  expected = np.moveaxis(np.array(expected), 1, -1)
  np.testing.assert_allclose(losses.soft_skeleton(x, 2), expected, atol=1e-6)


@pytest.mark.parametrize("shape", [(2, 9, 11), (1, 5, 6, 7)])
def test_cl_dice(rng, shape):
  logits = rng.normal(size=(*shape, 3)).astype(np.float32)
  labels = rng.integers(0, 2, shape)  # class 2 is absent
  labels[0, :2] = 255
  valid = labels != 255
  probabilities = np.array(jax.nn.softmax(logits), np.float64)
  expected = []
  for b in range(shape[0]):
    predicted = np.where(valid[b], probabilities[b, ..., 1], 0.0)
    truth = (labels[b] == 1).astype(float)
    lines = [skeleton(x, 3) for x in (predicted, truth)]
    precision = ((lines[0] * truth).sum() + 1) / (lines[0].sum() + 1)
    recall = ((lines[1] * predicted).sum() + 1) / (lines[1].sum() + 1)
    expected.append(1 - 2 * precision * recall / (precision + recall))
  loss, gradient = jax.value_and_grad(
    lambda x: losses.cl_dice_loss(x, labels).sum()
  )(logits)
  np.testing.assert_allclose(loss, np.sum(expected), rtol=1e-5)
  assert np.isfinite(gradient).all() and np.abs(gradient).max() > 0
  assert not np.any(gradient[~valid])


def test_a_gap_costs_more_than_its_pixels():
  """Dice hardly sees a cut through a bar; clDice does."""
  labels = jnp.zeros((1, 9, 33), int).at[:, 3:6, 1:32].set(1)
  cut = labels.at[:, :, 14:19].set(0)
  logits = 20.0 * (2 * jax.nn.one_hot(cut, 2) - 1)
  dice = losses.dice_loss(logits, labels, include_background=False)[0]
  assert losses.cl_dice_loss(logits, labels)[0] > 0.9 * dice
  empty = jnp.zeros((1, 9, 33), int)
  assert losses.cl_dice_loss(logits, empty)[0] == 0.0
