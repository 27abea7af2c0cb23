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
  "RGBX": "RGB",
  "CMYK": "RGB",
  "YCbCr": "RGB",
  "LAB": "RGB",
  "HSV": "RGB",
}
_IMAGEJ = re.compile(r"^(channels|slices|frames|images)=(\d+)", re.MULTILINE)
_BITS_PER_SAMPLE, _DESCRIPTION = 258, 270


class Decoded(NamedTuple):
  """An array and its axes.

  Attributes:
    array: of the file's own dtype; perhaps read-only and mapped from disk.
    axes: a letter for each: Y and X; S (samples of a pixel) and C for
      channels; others, such as Z, T and I (unknown), for pages. '' for a file
      that does not name them.
    alpha: whether the last of the samples is transparency.
  """

  array: np.ndarray
  axes: str
  alpha: bool = False


def decode(path: Path, *, colors: bool = True) -> Decoded:
  """Reads an image file, or an array in an .npy file.

  A photograph is turned as its EXIF orientation says. That of an open file is
  not: the annotations of published data sets go with the pixels as they are
  stored.

  Args:
    path: a path, or an open file.
    colors: whether a palette's indices become its colours.

  Raises:
    ValueError: it cannot be read; the message says why in one line.
  """
  suffix = "" if hasattr(path, "read") else os.fspath(path).lower()
  try:
    if suffix and not stat.S_ISREG(os.stat(path).st_mode):
      raise ValueError("no regular file")
    if suffix.endswith(".npy"):
      return Decoded(np.load(path, mmap_mode="r", allow_pickle=False), "")
    if suffix.endswith(_TIFF):
      return _decode_tiff(path, colors)
    with Image.open(path) as image:
      if _loses_bits(image):
        raise ValueError("16 bits a channel in colour; save it as TIFF")
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
    with Image.open(path) as image:
      decoded = None if _loses_bits(image) else _pages(image, colors)
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
      axes, alpha = series.axes, _has_alpha(page)
  except tifffile.TiffFileError:
    return None  # Something else with such a name: Pillow may know it.
  array = np.memmap(path, dtype, "r", offset, shape)
  return Decoded(array, axes, alpha)


def _read_tiff(path: str | os.PathLike) -> Decoded:
  import tifffile

  with tifffile.TiffFile(path) as file:
    if len(file.series) > 1:
      raise ValueError(
        f"holds {len(file.series)} images of different kinds; save one a file"
      )
    series = file.series[0]
    return Decoded(series.asarray(), series.axes, _has_alpha(series.keyframe))


def _has_alpha(page) -> bool:
  # 1 and 2 are associated and unassociated alpha.
  return any(int(sample) in (1, 2) for sample in page.extrasamples[-1:])


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
      raise ValueError("has pages of different sizes; save one a file")
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
  array = np.asarray(image if mode == image.mode else image.convert(mode))
  return array, "YX" if array.ndim == 2 else "YXS", mode in ("LA", "RGBA")
