"""Images: reading, and bringing them to a channel count and a size.

An image is (H, W, C), a volume (D, H, W, C), of 8 or 16 bits; labels have no
channels.
"""

import functools
import logging
from typing import NamedTuple

import numpy as np
from PIL import Image

from segsiam_jax.data.decode import Decoded, Path, decode
from segsiam_jax.errors import UserError

_logger = logging.getLogger(__name__)

# Pixels that are counted at a time: counting makes 64 bits of each.
_PIECE = 2**20


class ImageFormat(NamedTuple):
  """What a model takes.

  Attributes:
    channels: of a pixel.
    dtype: 'uint8' or 'uint16'.
    rank: 2 for images, 3 for volumes.
  """

  channels: int = 3
  dtype: str = "uint8"
  rank: int = 2


def read_as(path: Path, wanted: ImageFormat | None) -> np.ndarray:
  """Reads an image as a model takes it.

  Args:
    path: of the file.
    wanted: grey becomes RGB and the other way round; nothing else is changed.
      None is the format of an 8-bit file itself.

  Returns:
    (H, W, channels) or (D, H, W, channels), perhaps read-only and mapped from
    disk, then perhaps of the other byte order.

  Raises:
    UserError: the file is not such an image.
  """
  if wanted is None:
    return read_image(path)
  image = read_image(
    path,
    dtype=wanted.dtype,
    rank=wanted.rank,
    channels=wanted.channels,
  )
  try:
    return to_channels(image, wanted.channels)
  except ValueError as error:
    raise UserError(
      f"{path}: config.data.channels = {wanted.channels}: {error}"
    ) from error


def read_image(
  path: Path,
  *,
  dtype: str = "uint8",
  rank: int = 2,
  keep_alpha: bool = False,
  channels: int | None = None,
) -> np.ndarray:
  """Reads an image or a volume.

  Args:
    path: of the file; an .npy file holds (H, W) or (H, W, C), and of volumes
      (D, H, W) or (D, H, W, C).
    dtype: 'uint8' or 'uint16', which is what the file must hold: nothing is
      scaled or cut off.
    rank: 2 for images, of which the pages of a TIFF are channels, or 3 for
      volumes, of which they are slices.
    keep_alpha: whether transparency, or a fourth sample of RGB, is a channel;
      else it is left out, which a message says once.
    channels: that are wanted, None for any number. Transparency that makes up
      the number is kept. A volume that is one slice of another number of colour
      planes is refused: most likely they were meant as slices.

  Returns:
    See `read_as`; C is the file's own.

  Raises:
    UserError: the file is not such an image.
  """
  try:
    decoded = decode(path)
    image = _arranged(decoded, rank)
  except ValueError as error:
    raise UserError(f"{path}: not a readable image ({error})") from error
  if complaint := _planes_of_colour(decoded, rank):
    if channels not in (None, image.shape[-1]):
      raise UserError(f"{path}: {complaint}")
    _warn_once(f"{path}: {complaint}")
  if decoded.alpha and not keep_alpha and channels != image.shape[-1]:
    image = image[..., :-1]
    _say_alpha_is_dropped()
  if image.dtype == bool:
    image = image * np.uint8(255)
  _check_dtype(path, image.dtype, dtype)
  return image


def read_label(path: Path, rank: int = 2) -> np.ndarray:
  """Reads class indices; a palette's indices are kept.

  Args:
    path: of the file.
    rank: 3 for volumes, see `read_image`.

  Returns:
    (H, W) or (D, H, W) uint8.
  """
  return _fitting(path, _read_numbers(path, rank), np.uint8)


def count_values(label: np.ndarray) -> np.ndarray:
  """(256,) int64, how often a uint8 array of any shape has each value."""
  counts = np.zeros(256, np.int64)
  values = label.ravel()
  for start in range(0, values.size, _PIECE):
    counts += np.bincount(values[start : start + _PIECE], minlength=256)
  return counts


def read_instances(path: Path, rank: int = 2) -> np.ndarray:
  """Reads instance ids, 0 for the background, as int32; see `read_label`.

  Raises:
    UserError: the file is not such an image, or an id is below 0 or above
      2^31 - 1.
  """
  return _fitting(path, _read_numbers(path, rank), np.int32)


def _fitting(path: Path, numbers: np.ndarray, dtype: type) -> np.ndarray:
  """Integers as another type; an error, not another number, if one is none."""
  low, high, most = int(numbers.min()), int(numbers.max()), np.iinfo(dtype).max
  if low < 0 or high > most:
    raise UserError(
      f"{path}: mask values {low}..{high} do not fit 0..{most}; renumber them"
    )
  return numbers.astype(dtype, copy=False)


def _read_numbers(path: Path, rank: int) -> np.ndarray:
  """One integer a pixel."""
  try:
    decoded = decode(path, colors=False)
    numbers = _arranged(decoded, rank)
  except ValueError as error:
    raise UserError(f"{path}: not a readable mask ({error})") from error
  if complaint := _planes_of_colour(decoded, rank):
    raise UserError(f"{path}: {complaint}")
  if numbers.shape[-1] != 1:
    raise UserError(
      f"{path}: a mask holds one number per pixel, but this file has "
      f"{numbers.shape[-1]} channels; save it as grey or palette PNG"
    )
  if numbers.dtype == bool:
    numbers = numbers * np.uint8(255)
  if numbers.dtype.kind not in "ui":
    raise UserError(
      f"{path}: a mask holds one number per pixel, but this file has "
      f"{numbers.dtype} values; save it with 8 or 16 bits"
    )
  return numbers[..., 0]


def _arranged(decoded: Decoded, rank: int) -> np.ndarray:
  """(H, W, C) or (D, H, W, C), whatever order the file has."""
  array, axes, _ = decoded
  if 0 in array.shape:
    raise ValueError("it is empty")
  if not axes:
    if array.ndim not in (rank, rank + 1):
      raise ValueError(
        f"an array of {array.ndim} axes, where {rank} are expected, or "
        f"{rank + 1} with channels"
      )
    return array if array.ndim > rank else array[..., None]
  long = "".join(
    axis
    for axis, length in zip(axes, array.shape, strict=True)
    if length > 1 and axis not in "YX"
  )
  pages = "".join(axis for axis in long if axis not in "SC")
  channels = "".join(axis for axis in long if axis in "SC")
  if rank == 2 and len(pages) == 1 and not channels:
    pages, channels = "", pages
  if len(pages) > rank - 2 or len(channels) > 1:
    kind = "an image" if rank == 2 else "a volume"
    raise ValueError(
      f"its axes {axes} of {array.shape} are not those of {kind}; "
      "config.data.image_size has two numbers for images, three for volumes"
    )
  kept = pages + "YX" + channels
  array = array[tuple(slice(None) if axis in kept else 0 for axis in axes)]
  axes = [axis for axis in axes if axis in kept]
  array = array.transpose([axes.index(axis) for axis in kept])
  if not channels:
    array = array[..., None]
  return array if array.ndim == rank + 1 else array[None]


def _planes_of_colour(decoded: Decoded, rank: int) -> str:
  """A complaint where a volume is one slice, of colours in planes; or ''.

  So tifffile saves a stack of 3 or 4 slices unless it is told not to.
  """
  array, axes, _ = decoded
  planes, _, rest = axes.partition("Y")
  if rank != 3 or not planes.endswith("S") or rest != "X":
    return ""
  *pages, count = array.shape[: len(planes)]
  if count == 1 or np.prod(pages) != 1:
    return ""
  return (
    f"{count} planes of colour, not slices; save slices with tifffile's "
    "photometric='minisblack'"
  )


def _check_dtype(path: Path, have: np.dtype, wanted: str) -> None:
  bits = {np.dtype(np.uint8): 8, np.dtype(np.uint16): 16}
  have = have.newbyteorder("=")
  if have not in bits:
    raise UserError(
      f"{path}: {have} values; convert them to 8 or 16 bits, unsigned"
    )
  if have != np.dtype(wanted):
    highest = np.iinfo(have).max
    raise UserError(
      f"{path}: {bits[have]} bits per channel, where {bits[np.dtype(wanted)]} "
      "are expected; convert them or, where the config has the field, set "
      f"--config.data.image_dtype={have}, with data.mean and data.std in "
      f"0..{highest}"
    )


@functools.cache
def _warn_once(message: str) -> None:
  _logger.warning("%s", message)


@functools.cache
def _say_alpha_is_dropped() -> None:
  _logger.info(
    "transparency, or a fourth sample of RGB, is left out; with "
    "config.data.channels = 4 it is a channel"
  )


def to_channels(image: np.ndarray, channels: int) -> np.ndarray:
  """Grey to RGB by repetition, RGB to grey by ITU-R 601 luma.

  Args:
    image: (..., C) uint8 or uint16.
    channels: the count that is wanted.

  Returns:
    (..., channels) of the same dtype; of grey, a read-only view.

  Raises:
    ValueError: neither kind of change is asked for.
  """
  have = image.shape[-1]
  if have == channels:
    return image
  if have == 1:
    return np.broadcast_to(image, (*image.shape[:-1], channels))
  if have == 3 and channels == 1:
    weights = np.array([0.299, 0.587, 0.114], np.float32)
    luma = np.empty((*image.shape[:-1], 1), image.dtype.newbyteorder("="))
    for row, colors in zip(luma, image, strict=True):  # Floats of one row.
      row[..., 0] = np.rint(colors @ weights)
    return luma
  raise ValueError(f"cannot convert {have} channels to {channels}")


def stretch(image: np.ndarray) -> np.ndarray:
  """Most of an image's own range of brightness, scaled to 0..255.

  The darkest and the brightest 0.2 % of the values are cut off. All channels
  are changed alike, so that colours stay.

  Args:
    image: (H, W, C) uint8.

  Returns:
    The same; an image of one value is 0.
  """
  shares = np.bincount(image.ravel(), minlength=256).cumsum() / image.size
  low, high = np.searchsorted(shares, (0.002, 0.998))
  table = (np.arange(256.0) - low) * (255 / max(high - low, 1))
  return np.clip(np.rint(table), 0, 255).astype(np.uint8)[image]


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
    image: (H, W, C) uint8 or uint16.
    size: (height, width) wanted.
    window: (x1, y1, x2, y2) of the part that is resized, or None for all.

  Returns:
    (*size, C) of the same dtype.
  """
  height, width = image.shape[:2]
  if window in (None, (0, 0, width, height)) and (height, width) == tuple(size):
    return image

  def resize(plane: np.ndarray) -> np.ndarray:
    resized = Image.fromarray(plane).resize(
      size[::-1], Image.Resampling.BILINEAR, box=window
    )
    return np.asarray(resized)

  def resize_words(plane: np.ndarray) -> np.ndarray:
    # Pillow filters 8 bits and floats, but not 16 bits.
    floats = resize(plane.astype(np.float32))
    return np.rint(floats).astype(image.dtype)

  exact = image.dtype == np.uint8
  if exact and image.shape[-1] == 3:
    return resize(image)
  of_plane = resize if exact else resize_words
  planes = [of_plane(image[..., channel]) for channel in range(image.shape[-1])]
  return np.stack(planes, axis=-1)


def resize_label(label: np.ndarray, size: tuple[int, int]) -> np.ndarray:
  """(H, W) integers to `size`, nearest neighbour."""
  if label.shape == tuple(size):
    return label
  resized = Image.fromarray(label).resize(size[::-1], Image.Resampling.NEAREST)
  return np.asarray(resized)
