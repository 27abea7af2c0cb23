"""Pictures of images of any kind."""

import numpy as np
import pytest

from segsiam_jax.report import overlays


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


def test_objects_are_tinted_where_they_are():
  image = np.full((20, 30, 3), 100, np.uint8)
  boxes = np.array([[2, 3, 10, 9], [15, 5, 28, 18]])
  masks = [(3, 2, np.ones((6, 8), bool)), (5, 15, np.eye(13) > 0)]
  picture = overlays.draw_objects(image, boxes, ["", ""], masks)
  changed = (picture != image).any(-1)
  expected = np.zeros((20, 30), bool)
  expected[3:9, 2:10] = True
  expected[5:18, 15:28] |= np.eye(13) > 0
  # The second box is its outline beside the mask.
  expected[5:18, [15, 27]] = expected[[5, 17], 15:28] = True
  np.testing.assert_array_equal(changed, expected)
  first, second = picture[5, 2], picture[6, 16]
  assert (first != second).any()
  # Inside, the image shines through.
  assert (picture[5, 5] != picture[3, 2]).any()
  larger = overlays.draw_objects(image, boxes, ["", ""], masks, zoom=3)
  assert larger.shape == (60, 90, 3)
  named = overlays.draw_objects(image, boxes, ["cat", ""], masks, zoom=3)
  assert (named != larger).any()


def test_objects_on_grey_images_and_none_at_all():
  image = np.zeros((8, 9, 1), np.uint8)
  picture = overlays.draw_objects(image, np.zeros((0, 4)), [])
  assert picture.shape == (8, 9, 3) and not picture.any()


def test_grid_of_sizes():
  pictures = [np.zeros((4, 6, 3), np.uint8), np.ones((5, 2, 3), np.uint8)] * 2
  grid = overlays.grid(pictures[:3], columns=2)
  assert grid.shape == (10, 12, 3)
  assert (grid[:5, 6:8] == 1).all() and (grid[:5, 8:] == 255).all()
  assert (grid[5:, 6:] == 255).all()


def test_captions_are_added_above():
  picture = np.full((20, 60, 3), 7, np.uint8)
  captioned = overlays.captioned(picture, "0.31 a.png")
  assert captioned.shape == (38, 60, 3)
  np.testing.assert_array_equal(captioned[18:], picture)
  assert (captioned[:18] < 128).any()


def test_names_that_are_not_utf_8():
  picture = np.zeros((20, 60, 3), np.uint8)
  np.testing.assert_array_equal(
    overlays.captioned(picture, "a\udcff"), overlays.captioned(picture, "a?")
  )
  boxes = np.array([[2.0, 2.0, 30.0, 15.0]])
  assert overlays.draw_objects(picture, boxes, ["a\udcff"]).any()


def test_a_legend_lies_below_the_picture_and_wraps():
  picture = np.full((20, 60, 3), 7, np.uint8)
  shown = overlays.legend(picture, ["a", "b"], "left: image")
  assert shown.shape[1] == 240 and shown.shape[0] == 20 + 2 * 16
  np.testing.assert_array_equal(shown[:20, :60], picture)
  for color in overlays.palette(2)[:2]:
    assert (shown[20:] == color).all(-1).sum() >= 49
  long = overlays.legend(picture, ["a class of a long name"] * 5)
  assert long.shape[0] > 20 + 2 * 16
