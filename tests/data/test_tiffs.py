"""TIFF files: places of axes, planes, compression and orientation."""

import re
import warnings

import numpy as np
import pytest
import tifffile

from segsiam_jax.data import images
from segsiam_jax.errors import UserError
from tests.data.pixels import BYTES, WORDS, pixels

# What tifffile wrote as (shape, dtype, options), and its place among axes:
# how images are read as (H, W, C), and volumes as (D, H, W, C).
MOVE = {
  "grey": ((5, 6), {}, lambda a: a[..., None], lambda a: a[None, ..., None]),
  "rgb": (
    (5, 6, 3),
    {"photometric": "rgb"},
    lambda a: a,
    lambda a: a[None],
  ),
  "planar": (
    (3, 5, 6),
    {"photometric": "rgb", "planarconfig": "separate"},
    lambda a: a.transpose(1, 2, 0),
    lambda a: a.transpose(1, 2, 0)[None],
  ),
  "five": (
    (5, 6, 5),
    {"photometric": "minisblack", "planarconfig": "contig"},
    lambda a: a,
    lambda a: a[None],
  ),
  "pages": (
    (7, 5, 6),
    {"photometric": "minisblack"},
    lambda a: a.transpose(1, 2, 0),
    lambda a: a[..., None],
  ),
  "compressed": (
    (7, 5, 6),
    {"photometric": "minisblack", "compression": "zlib"},
    lambda a: a.transpose(1, 2, 0),
    lambda a: a[..., None],
  ),
  "color_pages": (
    (4, 5, 6, 3),
    {"photometric": "rgb"},
    None,
    lambda a: a,
  ),
  "imagej_channels": (
    (3, 5, 6),
    {"imagej": True, "metadata": {"axes": "CYX"}},
    lambda a: a.transpose(1, 2, 0),
    lambda a: a.transpose(1, 2, 0)[None],
  ),
  "imagej_slices": (
    (3, 5, 6),
    {"imagej": True, "metadata": {"axes": "ZYX"}},
    lambda a: a.transpose(1, 2, 0),
    lambda a: a[..., None],
  ),
  "imagej_both": (
    (4, 3, 5, 6),
    {"imagej": True, "metadata": {"axes": "ZCYX"}},
    None,
    lambda a: a.transpose(0, 2, 3, 1),
  ),
  "imagej_time": (
    (2, 4, 5, 6),
    {"imagej": True, "metadata": {"axes": "TZYX"}},
    None,
    None,
  ),
}


# Only tifffile knows what these hold.
NEEDS_TIFFFILE = {
  ("rgb", WORDS),
  ("planar", WORDS),
  ("five", BYTES),
  ("five", WORDS),
  ("color_pages", WORDS),
}


@pytest.mark.parametrize("dtype", [BYTES, WORDS])
@pytest.mark.parametrize("kind", MOVE)
@pytest.mark.parametrize("rank", [2, 3])
def test_tiffs(tmp_path, has_tifffile, kind, dtype, rank):
  shape, options, *moves = MOVE[kind]
  array = pixels(*shape, dtype=dtype)
  path = tmp_path / "a.tif"
  tifffile.imwrite(path, array, **options)
  name = np.dtype(dtype).name
  if not has_tifffile and (kind, dtype) in NEEDS_TIFFFILE:
    with pytest.raises(UserError, match=r"pip install 'segsiam_jax\[tiff\]'"):
      images.read_image(path, dtype=name, rank=rank)
    return
  move = moves[rank - 2]
  if move is None:
    with pytest.raises(UserError, match="two numbers for images, three for v"):
      images.read_image(path, dtype=name, rank=rank)
    return
  image = images.read_image(path, dtype=name, rank=rank)
  assert image.dtype == dtype
  np.testing.assert_array_equal(image, move(array))


def test_transparency_of_tiffs(tmp_path, has_tifffile):
  path = tmp_path / "a.tif"
  array = pixels(5, 6, 4)
  tifffile.imwrite(path, array, photometric="rgb", extrasamples=["unassalpha"])
  np.testing.assert_array_equal(images.read_image(path), array[..., :3])
  wanted = images.ImageFormat(channels=4)
  np.testing.assert_array_equal(images.read_as(path, wanted), array)


# Samples of a pixel, what they are, and channels that can be asked for.
SAMPLES = [
  (4, "rgb", ["unspecified"], {1, 3, 4}),
  (4, "rgb", ["unassalpha"], {1, 3, 4}),
  (4, "rgb", ["assocalpha"], {1, 3, 4}),
  (5, "rgb", ["unspecified", "unspecified"], {5}),
  (5, "rgb", ["unspecified", "unassalpha"], {4, 5}),
  (2, "minisblack", ["unspecified"], {2}),
  (2, "minisblack", ["unassalpha"], {1, 2, 3, 4, 5}),
  (2, "minisblack", ["assocalpha"], {1, 2, 3, 4, 5}),
]


@pytest.mark.parametrize("dtype", [BYTES, WORDS])
@pytest.mark.parametrize("planes", ["contig", "separate"])
@pytest.mark.parametrize(("count", "kind", "extra", "good"), SAMPLES)
def test_compression_changes_no_sample(
  tmp_path, has_tifffile, count, kind, extra, good, planes, dtype
):
  """Files of the same samples are read alike, or refused alike."""
  array = pixels(6, 9, count, dtype=dtype)
  stored = array if planes == "contig" else np.moveaxis(array, -1, 0)
  for compression in (None, "zlib"):
    path = tmp_path / f"{compression}.tif"
    tifffile.imwrite(
      path,
      stored,
      photometric=kind,
      extrasamples=extra,
      planarconfig=planes,
      compression=compression,
    )
    for channels in (1, 2, 3, 4, 5):
      wanted = images.ImageFormat(channels, np.dtype(dtype).name)
      try:
        image = images.read_as(path, wanted)
      except UserError as error:
        # Pillow alone cannot read all of them.
        told = re.search("pip install|unknown raw mode", str(error))
        assert (told and not has_tifffile) or channels not in good, error
        continue
      assert channels in good
      expected = array if channels == count else array[..., :channels]
      if channels == 1 and kind == "rgb":
        expected = images.to_channels(array[..., :3], 1)
      if channels > count:
        expected = array[..., :1].repeat(channels, -1)
      np.testing.assert_array_equal(image, expected)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("dtype", [BYTES, WORDS])
@pytest.mark.parametrize("colors", ["rgb", "planes", "grey", "stack"])
def test_tiffs_are_turned_as_they_say(
  tmp_path, has_tifffile, orientation, dtype, colors
):
  """As Pillow turns photographs, in any compression and by any reader."""
  stored = pixels(6, 9, 3, dtype=dtype)
  options = {"photometric": "rgb"}
  if colors == "planes":
    options["planarconfig"] = "separate"
  if colors in ("grey", "stack"):
    options = {"photometric": "minisblack"}
    stored = stored[..., : 1 if colors == "grey" else 2]
  turned = {
    1: lambda image: image,
    2: np.fliplr,
    3: lambda image: np.rot90(image, 2),
    4: np.flipud,
    5: lambda image: image.swapaxes(0, 1),
    6: lambda image: np.rot90(image, -1),
    7: lambda image: np.rot90(image, 2).swapaxes(0, 1),
    8: np.rot90,
  }[orientation](stored)
  array = stored
  if colors in ("planes", "stack"):
    array = np.moveaxis(stored, -1, 0)
  if colors == "grey":
    array = stored[..., 0]
  wanted = images.ImageFormat(stored.shape[-1], np.dtype(dtype).name)
  for compression in (None, "zlib"):
    path = tmp_path / f"{compression}.tif"
    tag = (274, "H", 1, orientation, False)
    tifffile.imwrite(
      path, array, compression=compression, extratags=[tag], **options
    )
    if not has_tifffile and stored.shape[-1] == 3 and dtype == WORDS:
      continue  # Pillow cannot.
    np.testing.assert_array_equal(images.read_as(path, wanted), turned)
    if colors == "grey":
      label = images.read_instances(path)
      np.testing.assert_array_equal(label, turned[..., 0])


@pytest.mark.parametrize("dtype", [BYTES, WORDS])
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("depth", [2, 3, 4, 5])
def test_planes_of_colour_are_no_slices(
  tmp_path, has_tifffile, depth, compression, dtype, caplog
):
  """Of 3 or 4 slices tifffile makes planes of RGB, unless it is told."""
  path, volume = tmp_path / "a.tif", pixels(depth, 8, 10, dtype=dtype)
  name = np.dtype(dtype).name
  with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    tifffile.imwrite(path, volume, compression=compression)
  wanted = images.ImageFormat(1, name, rank=3)
  if depth in (3, 4):
    message = (
      f"{depth} planes of colour, not slices; .*photometric='minisblack'"
    )
    if not has_tifffile and dtype == WORDS:
      message = "pip install"
    with pytest.raises(UserError, match=message):
      images.read_as(path, wanted)
    with pytest.raises(UserError, match=message):
      images.read_label(path, rank=3)
    if has_tifffile:
      # One slice of so many colours may be meant.
      image = images.read_as(path, wanted._replace(channels=depth))
      np.testing.assert_array_equal(image, np.moveaxis(volume, 0, -1)[None])
      assert f"a.tif: {depth} planes of colour" in caplog.text
    tifffile.imwrite(
      path, volume, compression=compression, photometric="minisblack"
    )
  image = images.read_as(path, wanted)
  np.testing.assert_array_equal(image[..., 0], volume)
