"""Examples of identities -> rows of one static shape."""

import dataclasses
from typing import Any

import jax
import numpy as np

from segsiam_jax.data import images
from segsiam_jax.data.identity.identities import IdentitySource
from segsiam_jax.errors import UserError

# Half a window, in standard deviations of the ink: about all of a character.
_EXTENT = 2.4


@dataclasses.dataclass(frozen=True)
class SiameseRows:
  """Brings an example to a fixed size and channel count; nothing is random.

  Attributes:
    image_size: (height, width) of a row.
    channels: of a row's image.
    fit: how an image comes to that size: 'resize' stretches it; 'pad' shrinks
      it, its shape kept, if it is too large and adds zeros around it;
      'crop' takes the middle as it is, likewise with zeros around it;
      'moments' centres bright strokes on zeros and scales them to one height
      and width (see `moments_window`).
  """

  image_size: tuple[int, int]
  channels: int
  fit: str

  def spec(self) -> dict[str, jax.ShapeDtypeStruct]:
    """Shape and dtype of one row's arrays."""
    return {
      "image": jax.ShapeDtypeStruct(
        (*self.image_size, self.channels), np.uint8
      ),
      "label": jax.ShapeDtypeStruct((), np.int32),
      "group": jax.ShapeDtypeStruct((), np.int32),
      "content": jax.ShapeDtypeStruct((), np.int32),
    }

  def __call__(
    self, example: dict[str, Any], rng: np.random.Generator | None = None
  ) -> dict[str, np.ndarray]:
    """One row of an example; `content` is equal for exact copies."""
    del rng
    return {
      "image": self.image(example["image"]),
      "label": np.int32(example["label"]),
      "group": np.int32(example["group"]),
      "content": np.int32(example["content"]),
    }

  def image(self, image: np.ndarray) -> np.ndarray:
    """(H, W, C) uint8 to (*image_size, channels)."""
    try:
      image = images.to_channels(image, self.channels)
    except ValueError as error:
      raise UserError(
        f"config.data.channels = {self.channels}: {error}"
      ) from error
    if self.fit == "moments":
      image, window = moments_window(image)
      return images.resize_image(image, self.image_size, window)
    size = images.fitted_size(image.shape[:2], self.image_size, self.fit)
    image = images.resize_image(image, size)
    if self.fit == "crop":
      top, left = (
        max(0, have - want) // 2
        for have, want in zip(image.shape[:2], self.image_size, strict=True)
      )
      height, width = self.image_size
      image = image[top : top + height, left : left + width]
    room = np.subtract(self.image_size, image.shape[:2])
    pads = [(gap // 2, gap - gap // 2) for gap in room.tolist()]
    return np.pad(image, [*pads, (0, 0)])


def moments_window(
  image: np.ndarray,
) -> tuple[np.ndarray, tuple[float, float, float, float]]:
  """The window that shows bright strokes centred and as large as any other.

  Its middle is the centre of mass, its height and width are multiples of the
  standard deviations of rows and columns: what handwriting recognisers call
  moment normalisation.

  Args:
    image: (H, W, C) uint8, zero where there is nothing.

  Returns:
    The image, with zeros around it as far as the window reaches, and
    (x1, y1, x2, y2) in pixels of it.
  """
  mass = image.sum(axis=-1, dtype=np.float64)
  if not mass.any():
    height, width = mass.shape
    return image, (0.0, 0.0, float(width), float(height))
  window = []
  for axis in (1, 0):
    profile = mass.sum(axis=axis)
    position = np.arange(len(profile)) + 0.5
    center = np.average(position, weights=profile)
    variance = np.average((position - center) ** 2, weights=profile)
    # A straight line has no width: a fiftieth of the side keeps it a line.
    half = _EXTENT * (np.sqrt(variance) + len(profile) / 50)
    window.append((center - half, center + half))
  (top, bottom), (left, right) = window
  height, width = mass.shape
  pads = [
    (max(0, int(np.ceil(-low))), max(0, int(np.ceil(high - length))))
    for low, high, length in ((top, bottom, height), (left, right, width))
  ]
  (above, _), (before, _) = pads
  window = (left + before, top + above, right + before, bottom + above)
  return np.pad(image, [*pads, (0, 0)]), window


class Contents:
  """A source whose examples say what they are copies of.

  Attributes:
    source: the one that is read.
  """

  def __init__(self, source: IdentitySource):
    self.source = source
    self._contents = (
      np.arange(len(source)) if source.contents is None else source.contents
    )

  def __len__(self) -> int:
    return len(self.source)

  def __getitem__(self, index: int) -> dict[str, Any]:
    return self.source[index] | {"content": int(self._contents[index])}


class Kept:
  """Rows of a source, made once and kept in memory.

  Reading processes keep a copy each.
  """

  def __init__(self, source: Contents, rows: SiameseRows):
    self._source, self._rows = source, rows
    self._kept: dict[int, dict[str, np.ndarray]] = {}

  def __len__(self) -> int:
    return len(self._source)

  def __getitem__(self, index: int) -> dict[str, np.ndarray]:
    row = self._kept.get(index)
    if row is None:
      row = self._kept[index] = self._rows(self._source[index])
    return row


@dataclasses.dataclass(frozen=True)
class AsKept:
  """What makes rows of `Kept`: nothing is left to do."""

  rows: SiameseRows

  def spec(self) -> dict[str, jax.ShapeDtypeStruct]:
    return self.rows.spec()

  def __call__(
    self, example: dict[str, np.ndarray], rng: np.random.Generator
  ) -> dict[str, np.ndarray]:
    del rng
    return example
