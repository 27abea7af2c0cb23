"""Pictures of images of any kind."""

import numpy as np
import pytest

from segsiam_jax import overlays


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_any_image_can_be_looked_at(rng, dtype, channels):
  image = rng.integers(0, np.iinfo(dtype).max, (20, 30, channels), dtype)
  shown = overlays.to_rgb(image)
  assert shown.shape == (20, 30, 3)
  assert shown.dtype == np.uint8
  if channels < 3:
    np.testing.assert_array_equal(shown[..., 0], shown[..., 2])
  if dtype == np.uint8:
    np.testing.assert_array_equal(shown[..., 0], image[..., 0])


def test_dim_images_of_sixteen_bits_are_stretched():
  ramp = np.linspace(900, 1100, 200).astype(np.uint16).reshape(10, 20, 1)
  shown = overlays.to_rgb(ramp)
  assert shown.min() == 0
  assert shown.max() == 255
  assert (np.diff(shown[..., 0].ravel().astype(int)) >= 0).all()
  flat = np.full((4, 4, 1), 7, np.uint16)
  assert (overlays.to_rgb(flat) == 0).all()


def test_middle_slice(rng):
  volume = rng.random((5, 4, 3, 1))
  np.testing.assert_array_equal(overlays.middle_slice(volume, 3), volume[2])
  np.testing.assert_array_equal(overlays.middle_slice(volume[0], 3), volume[0])
