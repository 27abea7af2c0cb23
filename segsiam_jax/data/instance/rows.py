"""Canonical instance examples -> rows of a few static shapes.

An image is scaled, its shape kept, and lies at the top left of a canvas of
static size, a bucket. Objects are cut, pasted and counted here, on the host:
the compiled step sees a static number of them.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from PIL import Image

from segsiam_jax.data import images
from segsiam_jax.data.instance.annotations import Crop, InstanceSource
from segsiam_jax.data.instance.placement import Object, Placement, place
from segsiam_jax.data.pipeline import Buckets
from segsiam_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class InstanceRows:
  """Brings an example to a fixed size and a fixed number of objects.

  Attributes:
    canvas: (height, width) of a row; `bucketed` sets it.
    channels: of a row's image.
    max_objects: N, the objects of a row: the largest, where there are more.
    mask_size: M, side of a mask of a row; 0 for boxes only.
    min_side: what an image's shorter side is scaled to; 0 to leave it.
    max_side: and the longer side at most.
    enlarge_only: see `base_scale`.
    stretch: whether `images.stretch` comes first.
    train: whether to augment, and to cut what is larger than the canvas; in
      evaluation that is shrunk.
    jitter: smallest and largest factor of the scale, drawn uniformly
      (large-scale jitter: Ghiasi et al., arXiv:2012.07177, section 3).
    flip_left_right: mirror half of the images.
    flip_up_down: likewise, upside down.
    transpose: swap rows and columns of half of the images; with both flips
      that makes all quarter turns.
    copy_paste: share of the rows that get objects of another example, each
      with probability 1/2 (Ghiasi et al.).
    source: of those other examples.
  """

  canvas: tuple[int, int]
  channels: int
  max_objects: int
  mask_size: int = 0
  min_side: int = 0
  max_side: int = 0
  enlarge_only: bool = False
  stretch: bool = False
  train: bool = False
  jitter: tuple[float, float] = (1.0, 1.0)
  flip_left_right: bool = False
  flip_up_down: bool = False
  transpose: bool = False
  copy_paste: float = 0.0
  source: InstanceSource | None = None

  def spec(self) -> dict[str, jax.ShapeDtypeStruct]:
    """Shape and dtype of one row's arrays.

    `image` (H, W, C) uint8, `size` (2,) int32 height and width of what is no
    padding, `original_size` (2,) int32 those of the image's file; `boxes`
    (N, 4) float32 (x1, y1, x2, y2) in pixels of the canvas, `classes` (N,)
    int32 from 1, `valid` (N,) bool, `masks` (N, M, M) uint8, the share of each
    cell of the box that is inside, of 255; `left_out` () int32, the objects
    beyond N. Crowds do not count as objects.
    """
    count, side = self.max_objects, self.mask_size
    spec = {
      "image": ((*self.canvas, self.channels), np.uint8),
      "size": ((2,), np.int32),
      "original_size": ((2,), np.int32),
      "boxes": ((count, 4), np.float32),
      "classes": ((count,), np.int32),
      "valid": ((count,), np.bool_),
      "left_out": ((), np.int32),
    }
    if side:
      spec["masks"] = ((count, side, side), np.uint8)
    return {name: jax.ShapeDtypeStruct(*leaf) for name, leaf in spec.items()}

  def __call__(
    self, example: dict[str, Any], rng: np.random.Generator
  ) -> dict[str, np.ndarray]:
    """One row of an example; `rng` decides all that is random."""
    placement, image, objects = self._placed(example, rng)
    if self.copy_paste and self.train and rng.random() < self.copy_paste:
      other = self.source[int(rng.integers(len(self.source)))]
      _, pasted, theirs = self._placed(other, rng)
      theirs = [one for one in theirs if rng.random() < 0.5]
      image, objects = paste(image, objects, pasted, theirs)
    height, width = image.shape[:2]
    row = self._to_arrays(objects)
    pads = [
      (0, want - have)
      for want, have in zip(self.canvas, (height, width), strict=True)
    ]
    row["image"] = np.pad(image, [*pads, (0, 0)])
    row["size"] = np.array([height, width], np.int32)
    row["original_size"] = np.array(placement.original, np.int32)
    return row

  def _placed(
    self, example: dict[str, Any], rng: np.random.Generator
  ) -> tuple[Placement, np.ndarray, list[Object]]:
    """Where the image lies, the part that is seen, and the objects in it."""
    try:
      image = images.to_channels(example["image"], self.channels)
    except ValueError as error:
      raise UserError(
        f"config.data.channels = {self.channels}: {error}"
      ) from error
    if self.stretch:
      image = images.stretch(image)
    size, canvas = image.shape[:2], self.canvas
    scale = base_scale(size, self.min_side, self.max_side, self.enlarge_only)
    transpose = self.train and self.transpose and rng.random() < 0.5
    if transpose:
      canvas = canvas[::-1]
    if self.train:
      scale *= rng.uniform(*self.jitter)
    else:
      scale = min(scale, *np.divide(canvas, size))
    placement = place(size, scale, canvas, rng)
    if self.train:
      placement = placement._replace(
        flip_left_right=self.flip_left_right and rng.random() < 0.5,
        flip_up_down=self.flip_up_down and rng.random() < 0.5,
        transpose=transpose,
      )
    objects = placement.objects(example["objects"])
    return placement, placement.image(image), objects

  def _to_arrays(self, objects: list[Object]) -> dict[str, np.ndarray]:
    """The largest objects, padded."""
    areas = [(x2 - x1) * (y2 - y1) for (x1, y1, x2, y2), *_ in objects]
    # In their own order where all fit: nothing depends on the sorting then.
    largest = np.sort(np.argsort(areas, kind="stable")[-self.max_objects :])
    row = {
      name: np.zeros(spec.shape, spec.dtype)
      for name, spec in self.spec().items()
      if name in ("boxes", "classes", "valid", "masks")
    }
    for slot, index in enumerate(largest):
      one = objects[index]
      row["boxes"][slot] = one.box
      row["classes"][slot] = one.label
      row["valid"][slot] = True
      if self.mask_size:
        row["masks"][slot] = mask_in_box(one.crop, one.box, self.mask_size)
    row["left_out"] = np.int32(len(objects) - len(largest))
    return row


def base_scale(
  size: Sequence[int], min_side: int, max_side: int, enlarge_only: bool = False
) -> float:
  """Factor that scales a shorter side to `min_side`, as in torchvision.

  Args:
    size: (height, width).
    min_side: 0 for scale 1.
    max_side: the longer side comes to no more; 0 for any length.
    enlarge_only: whether larger images keep their size for all `min_side`.
  """
  scale = min_side / min(size) if min_side else 1.0
  scale = max(scale, 1.0) if enlarge_only else scale
  return min(scale, max_side / max(size)) if max_side else scale


def assign_buckets(
  sizes: np.ndarray,
  canvases: Sequence[tuple[int, int]],
  min_side: int,
  max_side: int,
  enlarge_only: bool = False,
) -> np.ndarray:
  """The smallest canvas that holds an image, or the one that shrinks it least.

  Args:
    sizes: (n, 2) heights and widths of the images.
    canvases: heights and widths to choose from.
    min_side: see `base_scale`.
    max_side: likewise.
    enlarge_only: likewise.

  Returns:
    (n,) int64 indices of canvases.
  """
  known = {}
  for size in set(map(tuple, np.asarray(sizes).tolist())):
    scale = base_scale(size, min_side, max_side, enlarge_only)
    scaled = np.rint(np.multiply(size, scale))
    fits = [min(1.0, *np.divide(canvas, scaled)) for canvas in canvases]
    areas = [height * width for height, width in canvases]
    known[size] = min(
      range(len(canvases)), key=lambda k: (-round(fits[k], 6), areas[k])
    )
  return np.array([known[tuple(size)] for size in np.asarray(sizes).tolist()])


def bucketed(
  rows: InstanceRows,
  source: InstanceSource,
  canvases: Sequence[tuple[int, int]],
) -> InstanceRows | Buckets:
  """Rows of each canvas, and which example goes where.

  Args:
    rows: what they have in common.
    source: its sizes decide.
    canvases: (height, width) of the buckets.

  Raises:
    UserError: several canvases, but the source does not know its sizes.
  """
  each = [dataclasses.replace(rows, canvas=tuple(one)) for one in canvases]
  if len(each) == 1:
    return each[0]
  if source.sizes is None:
    raise UserError(
      "config.data.buckets: this data set does not give the sizes of its "
      "images before they are decoded; give one bucket, such as 1024x1024"
    )
  of = assign_buckets(
    source.sizes, canvases, rows.min_side, rows.max_side, rows.enlarge_only
  )
  return Buckets(each, of)


def paste(
  image: np.ndarray,
  objects: list[Object],
  other: np.ndarray,
  theirs: list[Object],
) -> tuple[np.ndarray, list[Object]]:
  """Objects of one image laid over another (Ghiasi et al., arXiv:2012.07177).

  What is covered wholly is an object no more; what is covered in part has the
  mask and the box of what is left.

  Args:
    image: (h, w, C) uint8.
    objects: in it.
    other: (h', w', C) uint8; what is beyond (h, w) is cut off.
    theirs: the objects of `other` to paste.

  Returns:
    The new image and its objects.
  """
  size = image.shape[:2]
  theirs = [seen for one in theirs if (seen := one.within(size)) is not None]
  cover = np.zeros(size, bool)
  for one in theirs:
    cover[one.crop.window()] |= one.crop.mask
  left = []
  for one in objects:
    below = cover[one.crop.window()]
    if (below & one.crop.mask).any():
      rest = Crop.of(one.crop.mask & ~below, one.crop.top, one.crop.left)
      one = one.cut_to(rest)
    if one is not None:
      left.append(one)
  image = image.copy()
  height, width = (min(a, b) for a, b in zip(size, other.shape, strict=False))
  cover, part = cover[:height, :width], image[:height, :width]
  part[cover] = other[:height, :width][cover]
  return image, left + theirs


def mask_in_box(crop: Crop, box: Sequence[float], side: int) -> np.ndarray:
  """A mask, resampled to `side` x `side` cells of a box.

  Args:
    crop: the mask.
    box: (x1, y1, x2, y2) in pixels of the image, of any fraction.
    side: number of cells each way.

  Returns:
    (side, side) uint8: how much of a cell is inside, of 255, bilinear.
  """
  x1, y1, x2, y2 = (float(length) for length in box)
  left, top = int(np.floor(x1)), int(np.floor(y1))
  around = np.zeros((int(np.ceil(y2)) - top, int(np.ceil(x2)) - left), np.uint8)
  ys, xs = crop.window()
  y, x = max(ys.start, top), max(xs.start, left)
  part = crop.mask[y - ys.start :, x - xs.start :]
  target = around[y - top :, x - left :]
  height, width = np.minimum(part.shape, target.shape)
  target[:height, :width] = 255 * part[:height, :width]
  resized = Image.fromarray(around).resize(
    (side, side),
    Image.Resampling.BILINEAR,
    box=(x1 - left, y1 - top, x2 - left, y2 - top),
  )
  return np.asarray(resized)
