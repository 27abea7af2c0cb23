"""Image files of 8 and 16 bits, of many channels and pages."""

import io
import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from segsiam_jax.data import images
from segsiam_jax.errors import UserError
from tests.data.pixels import BYTES, WORDS, pixels


def test_large_tiffs_and_arrays_stay_on_disk(tmp_path):
  array = pixels(50, 40, dtype=WORDS)
  tifffile.imwrite(tmp_path / "a.tif", array, byteorder=">")
  np.save(tmp_path / "a.npy", array)
  for name in ("a.tif", "a.npy"):
    image = images.read_image(tmp_path / name, dtype="uint16")
    base = image
    while not isinstance(base, np.memmap):
      base = base.base
    np.testing.assert_array_equal(image[..., 0], array)


def test_arrays(tmp_path):
  path = tmp_path / "a.npy"
  for shape, rank, expected in (
    ((5, 6), 2, (5, 6, 1)),
    ((5, 6, 4), 2, (5, 6, 4)),
    ((4, 5, 6), 3, (4, 5, 6, 1)),
    ((4, 5, 6, 2), 3, (4, 5, 6, 2)),
  ):
    np.save(path, pixels(*shape))
    assert images.read_image(path, rank=rank).shape == expected
  with pytest.raises(UserError, match="an array of 4 axes, where 2 are"):
    images.read_image(path)
  np.save(path, np.zeros((5, 6)))
  with pytest.raises(UserError, match="float64 values; convert them to 8 or"):
    images.read_image(path)
  np.save(path, np.array([{}]))
  with pytest.raises(UserError, match="not a readable image"):
    images.read_image(path)
  np.save(path, np.zeros((0, 6), np.uint8))
  with pytest.raises(UserError, match="it is empty"):
    images.read_image(path)


def png(array):
  """(H, W, 3) uint16 as PNG, which Pillow cannot write."""

  def chunk(kind, data):
    crc = struct.pack(">I", zlib.crc32(kind + data))
    return struct.pack(">I", len(data)) + kind + data + crc

  height, width = array.shape[:2]
  rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)
  return (
    b"\x89PNG\r\n\x1a\n"
    + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0))
    + chunk(b"IDAT", zlib.compress(rows))
    + chunk(b"IEND", b"")
  )


def test_no_bits_are_lost_in_silence(tmp_path):
  path = tmp_path / "a.png"
  grey = pixels(5, 6, dtype=WORDS)
  Image.fromarray(grey).save(path)
  np.testing.assert_array_equal(
    images.read_image(path, dtype="uint16")[..., 0], grey
  )
  with pytest.raises(UserError, match=r"image_dtype=uint16.* 0\.\.65535"):
    images.read_image(path)
  path.write_bytes(png(pixels(5, 6, 3, dtype=WORDS)))
  for dtype in ("uint8", "uint16"):
    with pytest.raises(UserError, match="16 bits per channel in colour; save"):
      images.read_image(path, dtype=dtype)
  Image.fromarray(pixels(5, 6)).save(path)
  with pytest.raises(UserError, match=r"image_dtype=uint8.* 0\.\.255"):
    images.read_image(path, dtype="uint16")


@pytest.mark.parametrize(
  ("mode", "channels", "kept"),
  [
    ("1", 1, 1),
    ("L", 1, 1),
    ("LA", 1, 2),
    ("P", 3, 3),
    ("RGB", 3, 3),
    ("RGBA", 3, 4),
  ],
)
def test_modes(mode, channels, kept):
  buffer = io.BytesIO()
  Image.fromarray(pixels(5, 6, 3)).convert(mode).save(buffer, "PNG")
  assert images.read_image(buffer).shape == (5, 6, channels)
  assert images.read_image(buffer, keep_alpha=True).shape == (5, 6, kept)
  wanted = images.ImageFormat(channels=kept)
  assert images.read_as(buffer, wanted).shape == (5, 6, kept)


def test_wrong_channels_name_the_file(tmp_path):
  path = tmp_path / "a.npy"
  np.save(path, pixels(5, 6, 5))
  with pytest.raises(UserError, match=r"a\.npy: config\.data\.channels = 3: c"):
    images.read_as(path, images.ImageFormat())


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_photographs_are_turned_as_their_camera_was_held(tmp_path, suffix):
  upright = np.zeros((8, 16, 3), np.uint8)
  upright[:, :8] = 255
  exif = Image.Exif()
  exif[0x0112] = 6  # A quarter turn clockwise shows it upright.
  path = tmp_path / f"a{suffix}"
  Image.fromarray(np.rot90(upright)).save(path, exif=exif)
  image = images.read_image(path)
  assert image.shape == (8, 16, 3)
  assert image[:, :6].mean() > 200 and image[:, 10:].mean() < 50
  # What data sets keep is not: their annotations go with the stored pixels.
  stored = images.read_image(io.BytesIO(path.read_bytes()))
  assert stored.shape == (16, 8, 3)


def test_labels_of_any_kind(tmp_path, has_tifffile):
  label = pixels(4, 5, 6) % 3
  path = tmp_path / "a.tif"
  for options in ({}, {"compression": "zlib"}):
    tifffile.imwrite(path, label, photometric="minisblack", **options)
    np.testing.assert_array_equal(images.read_label(path, rank=3), label)
  with pytest.raises(UserError, match="this file has 4 channels"):
    images.read_label(path)
  tifffile.imwrite(path, label.astype(WORDS) * 300, photometric="minisblack")
  with pytest.raises(UserError, match=r"mask values 0\.\.600 do not fit"):
    images.read_label(path, rank=3)
  assert images.read_instances(path, rank=3).max() == 600
  np.save(tmp_path / "a.npy", label[0] / 2)
  with pytest.raises(UserError, match="float64 values; save it"):
    images.read_label(tmp_path / "a.npy")


@pytest.mark.parametrize("name", ["a.tif", "a.png", "a.npy", "a.jpg"])
def test_broken_files_are_named(tmp_path, has_tifffile, name):
  path = tmp_path / name
  for data in (b"", b"II*\0\x08\0\0\0", b"no image at all"):
    path.write_bytes(data)
    with pytest.raises(UserError, match="not a readable image") as caught:
      images.read_image(path)
    assert "\n" not in str(caught.value)


def test_cut_short(tmp_path, has_tifffile):
  path = tmp_path / "a.tif"
  for options in ({}, {"compression": "zlib"}):
    tifffile.imwrite(path, pixels(40, 40), **options)
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(UserError, match="not a readable image"):
      images.read_image(path)


def test_another_kind_of_file_with_that_name(tmp_path, has_tifffile):
  path = tmp_path / "a.tif"
  Image.fromarray(pixels(5, 6)).save(path, "PNG")
  assert images.read_image(path).shape == (5, 6, 1)


@pytest.mark.parametrize("dtype", [BYTES, WORDS])
def test_resizing_keeps_the_range(dtype):
  highest = np.iinfo(dtype).max
  image = np.zeros((8, 8, 2), dtype)
  image[:, 4:] = highest
  small = images.resize_image(image, (4, 4))
  large = images.resize_image(image, (16, 20))
  for resized in (small, large):
    assert resized.dtype == dtype
    assert resized.min() == 0
    assert resized.max() == highest
  # Between the halves lies the middle, not a wrapped value.
  middle = images.resize_image(image[:, 3:5], (8, 3))[:, 1]
  np.testing.assert_allclose(middle, highest / 2, atol=0.51)


def test_sixteen_bits_resize_as_eight_do():
  image = pixels(20, 30, 1)
  eight = images.resize_image(image, (9, 40)).astype(float)
  sixteen = images.resize_image(image.astype(WORDS) * 257, (9, 40)) / 257
  np.testing.assert_allclose(sixteen, eight, atol=1.01)


def test_grey_of_sixteen_bits():
  image = pixels(4, 5, 3, dtype=WORDS)
  grey = images.to_channels(image, 1)
  assert grey.dtype == WORDS
  np.testing.assert_allclose(
    grey[..., 0], image @ [0.299, 0.587, 0.114], atol=0.6
  )
  assert images.to_channels(grey, 3).shape == (4, 5, 3)


def test_stretching_takes_most_of_the_range_to_all_of_it(rng):
  image = rng.integers(20, 61, (50, 40, 3)).astype(np.uint8)
  image[0, 0] = 255
  wide = images.stretch(image)
  assert wide.min() == 0 and wide.dtype == np.uint8
  # The one brightest pixel is an outlier; order and colours stay.
  assert wide[image == 60].min() == 255
  np.testing.assert_array_equal(
    wide[image <= 60], np.rint((image[image <= 60] - 20.0) / 40 * 255)
  )
  assert not images.stretch(np.full((4, 4, 1), 7, np.uint8)).any()
