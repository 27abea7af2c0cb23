"""Canonical semantic examples -> rows of one static shape."""

import dataclasses
from typing import Any

import jax
import numpy as np
import scipy.ndimage

from segsiam_jax.data import images
from segsiam_jax.errors import UserError
from segsiam_jax.losses import unet_weight_map


@dataclasses.dataclass(frozen=True)
class SemanticRows:
  """Brings an example to a fixed size and channel count.

  Attributes:
    image_size: (height, width) of a row, or (depth, height, width) of volumes,
      which are only ever cropped.
    channels: of a row's image.
    fit: how an image comes to that size: 'resize' stretches it; 'pad' shrinks
      it, its shape kept, if it is too large and pads it at the bottom and the
      right; 'crop' cuts a window out of it, at random in training and from the
      middle in evaluation, and pads where the image is smaller.
    train: whether crops are random.
    foreground_crops: share of random crops that are made to hold a pixel of a
      class other than 0, each class that the image has being as likely.
    weight_map: height of the ridges of `losses.unet_weight_map` between
      objects; 0 for no weights. Objects are `instances` of the example where
      it has them, else the connected parts of each class but class 0.
    weight_map_sigma: their width in pixels of the row.
    image_dtype: of the images, 'uint8' or 'uint16'.
    label_dtype: of the labels; its largest value is ignored.

  Rows of evaluation also have `whole` () float32: 1 where the row is the
  example as it is, neither resized nor cut nor padded.
  """

  image_size: tuple[int, ...]
  channels: int
  fit: str
  train: bool
  foreground_crops: float = 0.0
  weight_map: float = 0.0
  weight_map_sigma: float = 5.0
  image_dtype: str = "uint8"
  label_dtype: str = "uint8"

  def spec(self) -> dict[str, jax.ShapeDtypeStruct]:
    """Shape and dtype of one row's arrays."""
    spec = {
      "image": jax.ShapeDtypeStruct(
        (*self.image_size, self.channels), np.dtype(self.image_dtype)
      ),
      "label": jax.ShapeDtypeStruct(
        self.image_size, np.dtype(self.label_dtype)
      ),
    }
    if self.weight_map:
      spec["weights"] = jax.ShapeDtypeStruct(self.image_size, np.float32)
    if not self.train:
      spec["whole"] = jax.ShapeDtypeStruct((), np.float32)
    return spec

  def __call__(
    self, example: dict[str, Any], rng: np.random.Generator
  ) -> dict[str, np.ndarray]:
    """One row of an example; `rng` decides where a random crop lies."""
    try:
      image = images.to_channels(example["image"], self.channels)
    except ValueError as error:
      raise UserError(
        f"config.data.channels = {self.channels}: {error}"
      ) from error
    label = example["label"]
    whole = label.shape == tuple(self.image_size)
    objects = example.get("instances") if self.weight_map else None
    if self.fit == "crop":
      window = self._window(label, rng)
      image, label = image[window], label[window]
      objects = None if objects is None else objects[window]
    else:
      size = images.fitted_size(label.shape, self.image_size, self.fit)
      image = images.resize_image(image, size)
      label = images.resize_label(label, size)
      if objects is not None:
        objects = images.resize_label(objects, size)
    pads = [
      (0, want - have)
      for want, have in zip(self.image_size, label.shape, strict=True)
    ]
    row = {
      # What is mapped from disk may have the other byte order.
      "image": np.pad(
        np.asarray(image, image.dtype.newbyteorder("=")), [*pads, (0, 0)]
      ),
      "label": np.pad(
        label, pads, constant_values=np.iinfo(self.label_dtype).max
      ),
    }
    if self.weight_map:
      weights = unet_weight_map(
        connected_parts(label) if objects is None else objects,
        w0=self.weight_map,
        sigma=self.weight_map_sigma,
      )
      row["weights"] = np.pad(weights, pads)
    if not self.train:
      row["whole"] = np.float32(whole)
    return row

  def _window(
    self, label: np.ndarray, rng: np.random.Generator
  ) -> tuple[slice, ...]:
    """Where the crop lies; an image that is smaller is kept whole."""
    room = np.maximum(0, np.subtract(label.shape, self.image_size))
    start = rng.integers(room + 1) if self.train else room // 2
    if self.train and rng.random() < self.foreground_crops:
      present = np.setdiff1d(label, (0, np.iinfo(self.label_dtype).max))
      if present.size:
        pixels = np.argwhere(label == rng.choice(present))
        # Anywhere in the window, not always in its middle.
        offset = rng.integers(self.image_size)
        start = np.clip(rng.choice(pixels) - offset, 0, room)
    return tuple(
      slice(int(first), int(first) + length)
      for first, length in zip(start, self.image_size, strict=True)
    )


def connected_parts(label: np.ndarray) -> np.ndarray:
  """Numbers the connected parts of every class but 0 and the ignored.

  Args:
    label: (H, W) or (D, H, W) class indices.

  Returns:
    int32 of that shape; 0 where the class is 0 or ignored.
  """
  parts = np.zeros(label.shape, np.int32)
  for value in np.setdiff1d(label, (0, np.iinfo(np.uint8).max)):
    numbers, _ = scipy.ndimage.label(label == value)
    parts += np.where(numbers > 0, numbers + parts.max(), 0)
  return parts
