import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segsiam_jax.ops.masks import mask_targets, paste_masks
from tests.ops.bilinear import corners_of


def loop_targets(mask, box, out):
  """torchvision's: RoIAlign of the whole mask, as many samples as pixels."""
  x1, y1, x2, y2 = (float(value) for value in box)
  width, height = max(x2 - x1, 1.0), max(y2 - y1, 1.0)
  rows, columns = int(np.ceil(height / out)), int(np.ceil(width / out))
  result = np.zeros((out, out))
  for i, j, si, sj in np.ndindex(out, out, rows, columns):
    y = y1 + height / out * (i + (si + 0.5) / rows)
    x = x1 + width / out * (j + (sj + 0.5) / columns)
    for row, wy in corners_of(y, mask.shape[0]):
      for column, wx in corners_of(x, mask.shape[1]):
        result[i, j] += wy * wx * mask[row, column] / (rows * columns)
  return result


def test_targets_equal_those_of_the_whole_mask(rng):
  """Where a cell of the cropped mask is a pixel."""
  size, side, out = (30, 40), 12, 4
  whole = np.zeros((2, 3, *size))
  crops = rng.integers(0, 2, (2, 3, side, side))
  # In the middle, and in both corners of the image.
  corners = np.array([[9, 11], [0, 0], [28, 18]])
  for b in range(2):
    for n, (x, y) in enumerate(corners):
      whole[b, n, y : y + side, x : x + side] = crops[b, n]
  truth = np.concatenate([corners, corners + side], -1)
  truth = np.broadcast_to(truth, (2, 3, 4)).astype(np.float32)
  moved = truth + rng.uniform(-6, 6, (2, 3, 4))
  limits = np.array([40, 30, 40, 30])
  boxes = np.clip(moved, 0, limits).astype(np.float32)
  boxes[1, 0] = [0, 0, 40, 30]
  boxes[1, 1] = [3.2, 4.1, 3.6, 4.3]
  targets = jax.jit(
    lambda masks, truth, boxes: mask_targets(
      masks,
      truth,
      boxes,
      jnp.array([size, size]),
      output_size=out,
      max_samples=10,
    )
  )(crops.astype(np.uint8), truth, boxes)
  for b, n in np.ndindex(2, 3):
    expected = loop_targets(whole[b, n], boxes[b, n], out)
    np.testing.assert_allclose(targets[b, n], expected, atol=1e-5)


def test_a_full_mask_fills_its_box():
  truth = np.array([[[8.0, 8, 24, 40]]], np.float32)
  for aligned in (False, True):
    targets = mask_targets(
      np.ones((1, 1, 7, 7)),
      truth,
      truth,
      np.array([[64, 64]]),
      output_size=14,
      aligned=aligned,
    )
    assert targets.shape == (1, 1, 14, 14)
    np.testing.assert_allclose(targets[0, 0, 2:-2, 2:-2], 1.0, atol=1e-6)
  # And nothing beyond it.
  beside = truth + np.array([20.0, 0, 20, 0], np.float32)
  targets = mask_targets(
    np.ones((1, 1, 7, 7)),
    truth,
    beside,
    np.array([[64, 64]]),
    output_size=14,
  )
  assert not targets.any()


def test_pasting_is_lazy_and_stays_in_the_image():
  masks = np.ones((3, 28, 28))
  boxes = np.array([[-10.0, -5, 8, 9], [4, 4, 4, 4], [50, 50, 60, 60]])
  pasted = paste_masks(masks, boxes, (12, 16))
  first, second, third = pasted
  assert first.dtype == bool
  assert first[:9, :8].all()
  assert not first[10:].any()
  assert second.sum() <= 1
  assert not third.any()


@pytest.mark.parametrize("threshold", [None, 0.3])
def test_a_threshold_or_probabilities(threshold):
  masks = np.full((1, 28, 28), 0.4, np.float32)
  [mask] = paste_masks(masks, np.array([[2.0, 2, 10, 10]]), (12, 12), threshold)
  assert mask.dtype == (np.float32 if threshold is None else bool)
  assert mask[6, 6] == (pytest.approx(0.4) if threshold is None else True)
