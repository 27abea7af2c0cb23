"""Image files: reading, and bringing them to a channel count and a size."""

import os
import pathlib
from typing import BinaryIO

import numpy as np
from PIL import Image

from segsiam_jax.errors import UserError

EXTENSIONS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
Path = str | os.PathLike | BinaryIO


def list_images(folder: str | os.PathLike) -> list[pathlib.Path]:
  """The image files of a folder, sorted by name; an error if there are none."""
  folder = pathlib.Path(folder)
  if not folder.is_dir():
    raise UserError(f"{folder}: no such folder")
  files = sorted(
    path for path in folder.iterdir() if path.suffix.lower() in EXTENSIONS
  )
  if not files:
    raise UserError(
      f"{folder}: no image files; expected some of {', '.join(EXTENSIONS)}"
    )
  return files


def read_image(path: Path) -> np.ndarray:
  """Reads an 8-bit image: (H, W, C) uint8, C = 1 (grey) or 3 (RGB)."""
  try:
    with Image.open(path) as image:
      if image.mode not in ("L", "RGB"):
        image = image.convert("L" if image.mode in ("1", "LA") else "RGB")
      array = np.asarray(image)
  except (OSError, SyntaxError, ValueError) as error:
    raise UserError(f"{path}: not a readable image ({error})") from error
  return array if array.ndim == 3 else array[..., None]


def read_label(path: Path) -> np.ndarray:
  """Reads class indices: (H, W) uint8; a palette's indices are kept."""
  try:
    with Image.open(path) as image:
      if image.mode == "1":
        image = image.convert("L")
      array = np.asarray(image)
  except (OSError, SyntaxError, ValueError) as error:
    raise UserError(f"{path}: not a readable mask ({error})") from error
  if array.ndim != 2:
    raise UserError(
      f"{path}: a mask holds one class index a pixel, but this file has "
      f"{array.shape[-1]} channels; save it as grey or palette PNG"
    )
  if array.dtype != np.uint8:
    if array.min() < 0 or array.max() > 255:
      raise UserError(
        f"{path}: mask values {array.min()}..{array.max()} do not fit 0..255"
      )
    array = array.astype(np.uint8)
  return array


def read_instances(path: Path) -> np.ndarray:
  """Reads instance ids: (H, W) int32, 0 for the background; 8 or 16 bits."""
  try:
    with Image.open(path) as image:
      array = np.asarray(image)
  except (OSError, SyntaxError, ValueError) as error:
    raise UserError(
      f"{path}: not readable instance labels ({error})"
    ) from error
  if array.ndim != 2 or array.dtype.kind not in "ui":
    raise UserError(
      f"{path}: instance labels hold one number a pixel; save them as 16-bit "
      "grey PNG"
    )
  return array.astype(np.int32)


def to_channels(image: np.ndarray, channels: int) -> np.ndarray:
  """Grey to RGB by repetition, RGB to grey by ITU-R 601 luma.

  Args:
    image: (H, W, C) uint8.
    channels: the count that is wanted.

  Returns:
    (H, W, channels) uint8.

  Raises:
    ValueError: neither kind of change is asked for.
  """
  have = image.shape[-1]
  if have == channels:
    return image
  if have == 1:
    return np.repeat(image, channels, axis=-1)
  if have == 3 and channels == 1:
    return np.asarray(Image.fromarray(image).convert("L"))[..., None]
  raise ValueError(f"cannot make {channels} channels of an image with {have}")


def fitted_size(
  size: tuple[int, ...], wanted: tuple[int, ...], fit: str
) -> tuple[int, ...]:
  """What an image is resized to, before it is cut or padded.

  Args:
    size: of the image.
    wanted: of a row.
    fit: 'resize' for `wanted` itself; 'pad' for the largest size of the
      image's shape that `wanted` holds, never enlarged; 'crop' for no change.

  >>> fitted_size((100, 50), (40, 40), "pad")
  (40, 20)
  """
  if fit == "resize":
    return tuple(wanted)
  if fit == "crop":
    return tuple(size)
  shrink = min(1.0, *np.divide(wanted, size))
  return tuple(max(1, round(shrink * length)) for length in size)


def resize_image(
  image: np.ndarray,
  size: tuple[int, int],
  window: tuple[float, float, float, float] | None = None,
) -> np.ndarray:
  """Bilinear, anti-aliased when shrinking.

  Args:
    image: (H, W, C) uint8.
    size: (height, width) wanted.
    window: (x1, y1, x2, y2) of the part that is resized, or None for all.

  Returns:
    (*size, C) uint8.
  """
  height, width = image.shape[:2]
  if window in (None, (0, 0, width, height)) and (height, width) == tuple(size):
    return image

  def resize(plane: np.ndarray) -> np.ndarray:
    resized = Image.fromarray(plane).resize(
      size[::-1], Image.Resampling.BILINEAR, box=window
    )
    return np.asarray(resized)

  if image.shape[-1] == 3:
    return resize(image)
  planes = [resize(image[..., channel]) for channel in range(image.shape[-1])]
  return np.stack(planes, axis=-1)


def resize_label(label: np.ndarray, size: tuple[int, int]) -> np.ndarray:
  """(H, W) integers to `size`, nearest neighbour."""
  if label.shape == tuple(size):
    return label
  resized = Image.fromarray(label).resize(size[::-1], Image.Resampling.NEAREST)
  return np.asarray(resized)
