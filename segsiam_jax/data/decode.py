"""Files to arrays with named axes, without losing a bit.

Pillow reads most files. tifffile, which is optional, reads the TIFFs that
Pillow cannot (many channels, RGB of 16 bits, hyperstacks) and maps what is not
compressed into memory, so that only the parts that are used are read.
"""

import importlib.util
import os
import re
import stat
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import Image, ImageOps

from segsiam_jax.errors import first_line

Path = str | os.PathLike | BinaryIO

# Files are the user's own choice, and may be larger than what Pillow takes for
# an attack.
Image.MAX_IMAGE_PIXELS = None

_TIFF = (".tif", ".tiff")
_INSTALL = "pip install 'segsiam_jax[tiff]' reads it"
# What Pillow modes become; others hold their values as they are.
_CONVERTED = {
  "1": "L",
  "La": "LA",
  "RGBa": "RGBA",
  "CMYK": "RGB",
  "YCbCr": "RGB",
  "LAB": "RGB",
  "HSV": "RGB",
}
_IMAGEJ = re.compile(r"^(channels|slices|frames|images)=(\d+)", re.MULTILINE)
# Tags of TIFFs.
_BITS_PER_SAMPLE, _DESCRIPTION, _ORIENTATION = 258, 270, 274
_SAMPLES_PER_PIXEL, _PLANES, _EXTRA_SAMPLES = 277, 284, 338
# Orientations that have rows or columns in reverse, and those whose rows and
# columns are swapped first.
_UPSIDE_DOWN, _MIRRORED, _SWAPPED = {3, 4, 7, 8}, {2, 3, 6, 7}, {5, 6, 7, 8}


class Decoded(NamedTuple):
  """An array and its axes.

  Attributes:
    array: of the file's own dtype; perhaps read-only and mapped from disk.
    axes: a letter for each: Y and X; S (samples of a pixel) and C for
      channels, S before Y where colours lie in planes; others, such as Z, T and
      I (unknown), for pages. '' for a file that does not name them.
    alpha: whether the last of the samples is transparency, or a fourth one of
      RGB that the file does not explain.
  """

  array: np.ndarray
  axes: str
  alpha: bool = False


def decode(path: Path, *, colors: bool = True) -> Decoded:
  """Reads an image file, or an array in an .npy file.

  An image is turned as its EXIF or TIFF orientation says. That of an open file
  is not, unless it is a TIFF: the annotations of published data sets go with
  the pixels as they are stored. A TIFF's compression makes no difference.

  Args:
    path: a path, or an open file.
    colors: whether a palette's indices become its colours.

  Raises:
    ValueError: it cannot be read; the message says why in one line.
  """
  suffix = "" if hasattr(path, "read") else os.fspath(path).lower()
  try:
    if suffix and not stat.S_ISREG(os.stat(path).st_mode):
      raise ValueError("not a regular file")
    if suffix.endswith(".npy"):
      return Decoded(np.load(path, mmap_mode="r", allow_pickle=False), "")
    if suffix.endswith(_TIFF):
      return _decode_tiff(path, colors)
    with Image.open(path) as image:
      if _loses_bits(image):
        raise ValueError("16 bits per channel in colour; save it as TIFF")
      if suffix:
        ImageOps.exif_transpose(image, in_place=True)
      return Decoded(*_frame(image, colors))
  except Exception as error:  # A decoder raises whatever it stumbles over.
    raise ValueError(first_line(error)) from error


def _decode_tiff(path: str | os.PathLike, colors: bool) -> Decoded:
  has_tifffile = importlib.util.find_spec("tifffile") is not None
  if has_tifffile and (mapped := _map_tiff(path)):
    return mapped
  try:
    # Given a path, Pillow maps grey into memory, and takes rows for columns
    # where the orientation swaps them.
    with open(path, "rb") as file, Image.open(file) as image:
      decoded = None if _is_partial(image) else _pages(image, colors)
  except (OSError, SyntaxError) as error:
    decoded, reason = None, str(error)
  else:
    reason = "Pillow reads only a part of this TIFF"
  if decoded is not None:
    return decoded
  if not has_tifffile:
    raise ValueError(f"{reason}; {_INSTALL}")
  return _read_tiff(path)


def _map_tiff(path: str | os.PathLike) -> Decoded | None:
  """Maps a TIFF into memory, or returns None if it cannot be mapped."""
  import tifffile

  try:
    with tifffile.TiffFile(path) as file:
      series = file.series[0]
      page = series.keyframe
      plain = page.photometric in (
        tifffile.PHOTOMETRIC.MINISBLACK,
        tifffile.PHOTOMETRIC.RGB,
      )
      if len(file.series) > 1 or series.dataoffset is None or not plain:
        return None
      dtype = series.dtype.newbyteorder(file.byteorder)
      offset, shape = series.dataoffset, series.shape
      array = np.memmap(path, dtype, "r", offset, shape)
      return _described(array, series)
  except tifffile.TiffFileError:
    return None  # Something else with such a name: Pillow may know it.


def _read_tiff(path: str | os.PathLike) -> Decoded:
  import tifffile

  with tifffile.TiffFile(path) as file:
    if len(file.series) > 1:
      raise ValueError(
        f"holds {len(file.series)} images of different kinds; save one per file"
      )
    series = file.series[0]
    return _described(series.asarray(), series)


def _described(array: np.ndarray, series) -> Decoded:
  """What tifffile says of an array, turned upright; a view of it."""
  import tifffile

  page, axes = series.keyframe, series.axes
  tag = page.tags.get(_ORIENTATION)
  orientation = 1 if tag is None else tag.value
  y, x = axes.find("Y"), axes.find("X")
  if orientation in _SWAPPED:
    array = array.swapaxes(y, x)
  if orientation in _UPSIDE_DOWN:
    array = np.flip(array, y)
  if orientation in _MIRRORED:
    array = np.flip(array, x)
  extra = [int(sample) for sample in page.extrasamples]
  of_rgb = page.photometric == tifffile.PHOTOMETRIC.RGB and len(extra) == 1
  # 1 and 2 are associated and unassociated alpha.
  return Decoded(array, axes, of_rgb or extra[-1:] in ([1], [2]))


def _is_partial(image: Image.Image) -> bool:
  """Whether Pillow would not give a TIFF's values as they are stored.

  It leaves out samples beyond the fourth, a second one of grey and the alpha
  of grey in planes, and divides colours by an alpha that multiplies them.
  """
  tags = getattr(image, "tag_v2", {})
  samples = tags.get(_SAMPLES_PER_PIXEL, 1)
  multiplied = 1 in tags.get(_EXTRA_SAMPLES, ())
  grey_planes = samples == 2 and tags.get(_PLANES) == 2
  left_out = samples > len(image.getbands()) or grey_planes
  return _loses_bits(image) or left_out or multiplied


def _loses_bits(image: Image.Image) -> bool:
  """Whether Pillow would keep 8 of a channel's 16 bits, as it does silently."""
  if image.mode.startswith(("I", "F")):
    return False
  bits = getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE, (8,))
  raw = any(";16" in str(tile.args) for tile in image.tile)
  return raw or max(bits) > 8


def _pages(image: Image.Image, colors: bool) -> Decoded | None:
  """All pages of a TIFF, or None if Pillow cannot tell their axes."""
  if getattr(image, "n_frames", 1) == 1:
    description = str(getattr(image, "tag_v2", {}).get(_DESCRIPTION, ""))
    pages = dict(_IMAGEJ.findall(description))
    # ImageJ keeps a stack of over 4 GB behind a single page.
    return None if "images" in pages else Decoded(*_frame(image, colors))
  axes = _page_axes(image)
  if axes is None:
    return None
  frames = []
  for index in range(image.n_frames):
    image.seek(index)
    array, frame_axes, alpha = _frame(image, colors)
    if frames and array.shape != frames[0].shape:
      raise ValueError("has pages of different sizes; save one per file")
    frames.append(array)
  lengths, letters = zip(*axes, strict=True)
  stack = np.stack(frames).reshape(*lengths, *frames[0].shape)
  return Decoded(stack, "".join(letters) + frame_axes, alpha)


def _page_axes(image: Image.Image) -> list[tuple[int, str]] | None:
  """(length, letter) of the axes that pages run along, the slowest first."""
  description = str(image.tag_v2.get(_DESCRIPTION, ""))
  if description.startswith("<?xml") and "OME" in description:
    return None
  if not description.startswith("ImageJ="):
    return [(image.n_frames, "I")]
  counts = dict(_IMAGEJ.findall(description))
  axes = [
    (int(counts.get(name, 1)), letter)
    for name, letter in (("frames", "T"), ("slices", "Z"), ("channels", "C"))
  ]
  total = np.prod([length for length, _ in axes])
  return axes if total == image.n_frames else [(image.n_frames, "I")]


def _frame(image: Image.Image, colors: bool) -> tuple[np.ndarray, str, bool]:
  """One page: its array, axes, and whether it has transparency."""
  mode = _CONVERTED.get(image.mode, image.mode)
  if image.mode in ("P", "PA") and colors:
    mode = "RGB"
  in_planes = getattr(image, "tag_v2", {}).get(_PLANES) == 2
  array = np.asarray(image if mode == image.mode else image.convert(mode))
  alpha = mode in ("LA", "RGBA", "RGBX")
  if array.ndim == 2:
    return array, "YX", alpha
  if in_planes:
    return np.moveaxis(array, -1, 0), "SYX", alpha
  return array, "YXS", alpha
