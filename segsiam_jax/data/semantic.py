"""Canonical semantic examples -> rows of one static shape."""

import dataclasses
from typing import Any

import jax
import numpy as np

from segsiam_jax.data import adapters, images
from segsiam_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class SemanticRows:
  """Brings an example to a fixed size and channel count.

  Attributes:
    image_size: (height, width) of a row.
    channels: of a row's image.
    fit: how an image comes to that size: 'resize' stretches it; 'pad' shrinks
      it, its shape kept, if it is too large and pads it at the bottom and the
      right; 'crop' cuts a window out of it, at random in training and from the
      middle in evaluation, and pads where the image is smaller.
    train: whether crops are random.
  """

  image_size: tuple[int, int]
  channels: int
  fit: str
  train: bool

  def spec(self) -> dict[str, jax.ShapeDtypeStruct]:
    """Shape and dtype of one row's arrays."""
    return {
      "image": jax.ShapeDtypeStruct(
        (*self.image_size, self.channels), np.uint8
      ),
      "label": jax.ShapeDtypeStruct(self.image_size, np.uint8),
    }

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
    if self.fit == "resize":
      image = images.resize_image(image, self.image_size)
      label = images.resize_label(label, self.image_size)
    elif self.fit == "pad":
      shrink = min(
        1.0,
        *(
          want / have
          for want, have in zip(self.image_size, label.shape, strict=True)
        ),
      )
      size = tuple(max(1, round(shrink * have)) for have in label.shape)
      image = images.resize_image(image, size)
      label = images.resize_label(label, size)
    else:
      room = [
        max(0, have - want)
        for want, have in zip(self.image_size, label.shape, strict=True)
      ]
      if self.train:
        y, x = (int(rng.integers(free + 1)) for free in room)
      else:
        y, x = (free // 2 for free in room)
      height, width = self.image_size
      image = image[y : y + height, x : x + width]
      label = label[y : y + height, x : x + width]
    pads = [
      (0, want - have)
      for want, have in zip(self.image_size, label.shape, strict=True)
    ]
    return {
      "image": np.pad(image, [*pads, (0, 0)]),
      "label": np.pad(label, pads, constant_values=adapters.IGNORE_LABEL),
    }
