import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segsiam_jax.ops.density import equalize


def slow(image, size, floor, power):
  """(H, W) resampled by loops."""
  weights = []
  for axis, count in ((1, size[0]), (0, size[1])):
    ink = image.sum(axis=axis) ** power
    length = len(ink)
    sigma = length * 3 / 64
    reach = int(3 * sigma + 0.5)
    kernel = [np.exp(-0.5 * (i / sigma) ** 2) for i in range(-reach, reach + 1)]
    smooth = [
      sum(
        weight * ink[np.clip(place + step, 0, length - 1)]
        for weight, step in zip(kernel, range(-reach, reach + 1), strict=True)
      )
      for place in range(length)
    ]
    density = np.array(smooth) / np.mean(smooth) + floor
    rows = np.zeros((count, length))
    for index in range(2 * count):
      wanted, passed = (index + 0.5) / (2 * count) * density.sum(), 0.0
      for place in range(length):
        if passed + density[place] >= wanted:
          break
        passed += density[place]
      at = place + (wanted - passed) / density[place] - 0.5
      for neighbor in range(length):
        rows[index // 2, neighbor] += max(0, 1 - abs(at - neighbor)) / 2
    weights.append(rows)
  return weights[0] @ image @ weights[1].T


@pytest.mark.parametrize(("floor", "power"), [(0.25, 0.7), (1.0, 1.0)])
def test_it_is_the_slow_loop(floor, power):
  rng = np.random.default_rng(0)
  images = rng.random((2, 24, 20)) * (rng.random((2, 24, 20)) > 0.7)
  got = equalize(images[..., None], (12, 9), floor=floor, power=power)
  expected = [slow(image, (12, 9), floor, power) for image in images]
  np.testing.assert_allclose(got[..., 0], expected, atol=1e-4)


def test_room_is_given_by_ink():
  # A quarter of the columns has 16 / (16 + 4.8) = 77 % of the ink.
  image = np.full((1, 64, 64, 1), 0.1, np.float32)
  image[:, :, :16] = 1
  rows = equalize(image, (64, 64), floor=0.0, power=1.0)[0, 32, :, 0]
  border = int(jnp.argmax(rows < 0.55))
  assert border == pytest.approx(64 * 16 / 20.8, abs=4)
  # With a floor, half of it goes by the old places.
  rows = equalize(image, (64, 64), floor=1.0, power=1.0)[0, 32, :, 0]
  border = int(jnp.argmax(rows < 0.55))
  assert border == pytest.approx(64 * (16 / 20.8 + 0.25) / 2, abs=4)


def test_paper_without_ink_stays():
  images = jnp.zeros((1, 16, 16, 1))
  assert (equalize(images, (8, 8)) == 0).all()
  slope = jax.grad(lambda x: equalize(x, (8, 8)).sum())(images)
  assert jnp.isfinite(slope).all()
