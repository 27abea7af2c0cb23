"""Where an image and its objects lie in a canvas: scaled, cut and mirrored."""

from typing import NamedTuple

import numpy as np
from PIL import Image

from segsiam_jax.data import images
from segsiam_jax.data.instance.annotations import Annotations, Crop


class Object(NamedTuple):
  """An object of a placed image.

  Attributes:
    box: (4,) float64 (x1, y1, x2, y2) in pixels of the canvas.
    label: its class, from 1.
    crop: its mask, or None.
  """

  box: np.ndarray
  label: int
  crop: Crop | None

  def cut_to(self, crop: Crop | None) -> "Object | None":
    """The object with what is left of its mask; None if no pixel is."""
    if crop is None or not crop.mask.size:
      return None
    x1, y1, x2, y2 = crop.box
    low = np.maximum(self.box[:2], (x1, y1))
    high = np.minimum(self.box[2:], (x2, y2))
    if (high - low).min() < 1:
      return None
    return Object(np.concatenate([low, high]), self.label, crop)

  def within(self, size: tuple[int, int]) -> "Object | None":
    """The part of an object that is inside of an image of a smaller size.

    A box may stick out of the image where its mask, which is of whole pixels,
    does not: it is cut to the image then.
    """
    height, width = size
    _, _, x2, y2 = self.crop.box
    if x2 <= width and y2 <= height:
      box = np.minimum(self.box, [width, height, width, height])
      if (box[2:] - box[:2]).min() < 1:
        return None
      return self._replace(box=box)
    top, left, mask = self.crop
    mask = mask[: max(0, height - top), : max(0, width - left)]
    return self.cut_to(Crop.of(mask, top, left))


class Placement(NamedTuple):
  """How an image lies in a canvas.

  It is scaled to `scaled`; of that, `seen` pixels from `offset` on lie at the
  top left of the canvas, mirrored and then turned where it says so.

  Attributes:
    original: (height, width) of the image.
    scaled: (height, width) of all of it, scaled.
    offset: (y, x) of the part that is seen.
    seen: (height, width) of that part.
    flip_left_right: whether the part is mirrored.
    flip_up_down: likewise.
    transpose: whether its rows become columns, last of all.
  """

  original: tuple[int, int]
  scaled: tuple[int, int]
  offset: tuple[int, int]
  seen: tuple[int, int]
  flip_left_right: bool = False
  flip_up_down: bool = False
  transpose: bool = False

  @property
  def scale(self) -> np.ndarray:
    """(y, x) factors."""
    return np.divide(self.scaled, self.original)

  def image(self, image: np.ndarray) -> np.ndarray:
    """(H, W, C) uint8 to the (*seen, C) that is seen, or (*seen[::-1], C)."""
    (y, x), (sy, sx) = self.offset, self.scale
    height, width = self.seen
    high_y = min((y + height) / sy, self.original[0])
    high_x = min((x + width) / sx, self.original[1])
    window = (x / sx, y / sy, high_x, high_y)
    image = images.resize_image(image, self.seen, window)
    if self.flip_left_right:
      image = image[:, ::-1]
    image = image[::-1] if self.flip_up_down else image
    return image.swapaxes(0, 1) if self.transpose else image

  def objects(self, objects: Annotations) -> list[Object]:
    """The objects that are seen, a pixel at least; crowds are none."""
    whole = objects.boxes * np.tile(self.scale[::-1], 2)
    whole = whole - np.tile(self.offset[::-1], 2)
    height, width = self.seen
    seen = np.clip(whole, 0, [width, height, width, height])
    large = ((seen[:, 2:] - seen[:, :2]) >= 1).all(1)
    placed = []
    for index in np.flatnonzero(large & ~np.asarray(objects.is_crowd, bool)):
      one = Object(seen[index], int(objects.classes[index]), None)
      if objects.masks is not None:
        crop = self._crop(objects.masks[index])
        cut = (seen[index] != whole[index]).any()
        one = one.cut_to(crop) if cut else one._replace(crop=crop)
      if one is not None and (one.crop is None or one.crop.mask.size):
        placed.append(self._flipped(one))
    return placed

  def _crop(self, crop: Crop) -> Crop:
    """A mask, scaled and cut: the pixels that it covers by half."""
    (sy, sx), (y, x) = self.scale, self.offset
    height, width = crop.mask.shape
    top = max(0, int(np.floor(crop.top * sy - y)))
    left = max(0, int(np.floor(crop.left * sx - x)))
    bottom = int(np.ceil((crop.top + height) * sy - y))
    right = int(np.ceil((crop.left + width) * sx - x))
    bottom, right = min(bottom, self.seen[0]), min(right, self.seen[1])
    if bottom <= top or right <= left:
      return Crop(0, 0, np.zeros((0, 0), bool))
    # A pixel of the canvas may reach over the mask's own border.
    pad = int(np.ceil(1 / min(sy, sx))) + 1
    padded = np.pad(crop.mask, pad).astype(np.uint8) * 255
    resized = Image.fromarray(padded).resize(
      (right - left, bottom - top),
      Image.Resampling.BILINEAR,
      box=(
        (left + x) / sx - crop.left + pad,
        (top + y) / sy - crop.top + pad,
        (right + x) / sx - crop.left + pad,
        (bottom + y) / sy - crop.top + pad,
      ),
    )
    return Crop.of(np.asarray(resized) >= 128, top, left)

  def _flipped(self, one: Object) -> Object:
    height, width = self.seen
    (x1, y1, x2, y2), label, crop = one
    if self.flip_left_right:
      x1, x2 = width - x2, width - x1
      if crop is not None:
        left = width - crop.box[2]
        crop = crop._replace(left=left, mask=crop.mask[:, ::-1])
    if self.flip_up_down:
      y1, y2 = height - y2, height - y1
      if crop is not None:
        top = height - crop.box[3]
        crop = crop._replace(top=top, mask=crop.mask[::-1])
    if self.transpose:
      x1, y1, x2, y2 = y1, x1, y2, x2
      if crop is not None:
        crop = Crop(crop.left, crop.top, crop.mask.T)
    return Object(np.array([x1, y1, x2, y2]), label, crop)


def place(
  size: tuple[int, int],
  scale: float,
  canvas: tuple[int, int],
  rng: np.random.Generator,
) -> Placement:
  """An image of `size`, scaled; where it is too large, a random part of it.

  Args:
    size: (height, width) of the image.
    scale: factor.
    canvas: (height, width).
    rng: decides which part is seen.
  """
  scaled = tuple(max(1, round(length * scale)) for length in size)
  seen = tuple(min(a, b) for a, b in zip(scaled, canvas, strict=True))
  room = np.subtract(scaled, seen)
  offset = tuple(int(start) for start in rng.integers(room + 1))
  return Placement(tuple(size), scaled, offset, seen)
