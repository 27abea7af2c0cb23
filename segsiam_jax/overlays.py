"""Colours for class indices, and pictures of predictions."""

import colorsys

import numpy as np

# Index 0 is most often the background: it stays dark.
_FIRST_COLORS = (
  (0, 0, 0),
  (230, 75, 53),
  (77, 187, 213),
  (0, 160, 135),
  (243, 155, 127),
  (60, 84, 136),
  (245, 205, 80),
  (145, 209, 194),
  (220, 0, 130),
  (126, 97, 72),
  (176, 156, 133),
)


def palette(num_classes: int) -> np.ndarray:
  """One colour a class and white for the ignore label: (256, 3) uint8."""
  colors = np.full((256, 3), 255, np.uint8)
  for index in range(min(num_classes, 255)):
    if index < len(_FIRST_COLORS):
      colors[index] = _FIRST_COLORS[index]
    else:
      # The golden ratio spreads any number of hues.
      hue = index * 0.6180339887 % 1.0
      rgb = colorsys.hsv_to_rgb(hue, 0.55 + 0.4 * (index % 2), 0.9)
      colors[index] = np.rint(np.asarray(rgb) * 255)
  return colors


def to_rgb(image: np.ndarray) -> np.ndarray:
  """(H, W, C) uint8 of any channel count -> (H, W, 3) uint8 to look at."""
  if image.shape[-1] == 3:
    return image
  if image.shape[-1] > 3:
    return image[..., :3]
  return np.repeat(image[..., :1], 3, axis=-1)


def overlay(
  image: np.ndarray, label: np.ndarray, num_classes: int, alpha: float = 0.5
) -> np.ndarray:
  """The image with its classes tinted; class 0 is left as it is.

  Args:
    image: (H, W, C) uint8.
    label: (H, W) class indices.
    num_classes: K.
    alpha: opacity of the tint.

  Returns:
    (H, W, 3) uint8.
  """
  rgb = to_rgb(image).astype(np.float32)
  tint = palette(num_classes)[label]
  mixed = (1 - alpha) * rgb + alpha * tint
  return np.where((label == 0)[..., None], rgb, mixed).astype(np.uint8)


def grid(pictures: list[np.ndarray], columns: int) -> np.ndarray:
  """Pictures of one size, side by side in rows of `columns`: (h, w, 3)."""
  blank = np.full_like(pictures[0], 255)
  missing = -len(pictures) % columns
  pictures = [*pictures, *[blank] * missing]
  rows = [
    np.concatenate(pictures[start : start + columns], axis=1)
    for start in range(0, len(pictures), columns)
  ]
  return np.concatenate(rows, axis=0)
