"""Colours for class indices, and pictures of predictions."""

import colorsys
from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

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
  """Something to look at: the first three channels, or the first in grey.

  Args:
    image: (H, W, C) uint8, or uint16, of which every channel is stretched to
      the full range: its darkest and brightest half percent saturate.

  Returns:
    (H, W, 3) uint8.
  """
  if image.dtype != np.uint8:
    shown = image[..., : 3 if image.shape[-1] >= 3 else 1].astype(np.float32)
    low, high = np.percentile(shown, (0.5, 99.5), axis=(0, 1))
    stretched = (shown - low) / np.maximum(high - low, 1)
    image = np.rint(255 * np.clip(stretched, 0, 1)).astype(np.uint8)
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
    image: (H, W, C) uint8 or uint16.
    label: (H, W) class indices.
    num_classes: K.
    alpha: opacity of the tint.

  Returns:
    (H, W, 3) uint8.
  """
  rgb = to_rgb(image)
  tints = palette(num_classes).astype(np.float32)
  mixed = np.empty_like(rgb)
  # Floats of one row at a time: images may be large.
  for row, colors, classes in zip(mixed, rgb, label, strict=True):
    tinted = (1 - alpha) * colors + alpha * tints[classes]
    row[:] = np.where((classes == 0)[:, None], colors, tinted)
  return mixed


def overlay_masks(
  image: np.ndarray, masks: Sequence[np.ndarray], alpha: float = 0.5
) -> np.ndarray:
  """The image with classes that may overlap tinted, where they do by both.

  Args:
    image: (H, W, C) uint8 or uint16.
    masks: of each class, (H, W) bool.
    alpha: opacity of a tint.

  Returns:
    (H, W, 3) uint8. Colours are those of `palette` from index 1 on.
  """
  mixed = to_rgb(image).astype(np.float32)
  for mask, tint in zip(masks, palette(1 + len(masks))[1:], strict=False):
    mixed[mask] += alpha * (tint - mixed[mask])
  return np.rint(mixed).astype(np.uint8)


def draw_objects(
  image: np.ndarray,
  boxes: np.ndarray,
  captions: Sequence[str],
  masks: Iterable[tuple[int, int, np.ndarray]] | None = None,
  *,
  zoom: int = 1,
  alpha: float = 0.45,
) -> np.ndarray:
  """The image with its objects tinted, outlined, boxed and named.

  Args:
    image: (H, W, C) uint8.
    boxes: (N, 4) (x1, y1, x2, y2) in pixels of the image.
    captions: N texts, '' for none.
    masks: N masks, each as (top, left, (h, w) bool) where it lies in the
      image; None for boxes only. They are taken one by one.
    zoom: every pixel is drawn as so many by so many: captions of small images
      would hide everything.
    alpha: opacity of the tint.

  Returns:
    (zoom H, zoom W, 3) uint8.
  """
  rgb = to_rgb(image).repeat(zoom, 0).repeat(zoom, 1)
  # Neighbours differ: the background's colour is left out.
  colors = palette(255)[1 + np.arange(len(boxes)) % 254]
  for (top, left, mask), color in zip(masks or (), colors, strict=False):
    mask = mask.repeat(zoom, 0).repeat(zoom, 1)
    window = (
      slice(top * zoom, top * zoom + mask.shape[0]),
      slice(left * zoom, left * zoom + mask.shape[1]),
    )
    part = rgb[window]
    part[mask] = ((1 - alpha) * part[mask] + alpha * color).astype(np.uint8)
    part[_border(mask)] = color
  picture = Image.fromarray(rgb)
  draw = ImageDraw.Draw(picture)
  font = ImageFont.load_default(10)
  for box, caption, color in zip(boxes, captions, colors, strict=True):
    x1, y1, x2, y2 = (float(length) * zoom for length in box)
    color = tuple(color.tolist())
    corners = (x1, y1, max(x1, x2 - 1), max(y1, y2 - 1))
    draw.rectangle(corners, outline=color)
    if caption := drawable(caption):
      place = draw.textbbox((x1 + 1, y1), caption, font)
      draw.rectangle(place, fill=color)
      ink = "black" if sum(color) > 330 else "white"
      draw.text((x1 + 1, y1), caption, ink, font)
  return np.asarray(picture)


def drawable(text: str) -> str:
  """The text, with undecodable bytes of file names as '?'."""
  return text.encode("utf-8", "replace").decode()


def thumbnail(image: np.ndarray, size: int) -> np.ndarray:
  """The image in a square, its shape kept, with grey around it.

  Args:
    image: (H, W, C) uint8 of any channel count.
    size: side of the square in pixels.

  Returns:
    (size, size, 3) uint8.
  """
  picture = Image.fromarray(np.ascontiguousarray(to_rgb(image)))
  scale = size / max(picture.size)
  width, height = (max(1, round(scale * side)) for side in picture.size)
  # Small images keep their pixels' edges.
  how = Image.Resampling.NEAREST if scale > 2 else Image.Resampling.BILINEAR
  square = Image.new("RGB", (size, size), (128, 128, 128))
  square.paste(
    picture.resize((width, height), how),
    ((size - width) // 2, (size - height) // 2),
  )
  return np.asarray(square)


def captioned(picture: np.ndarray, line: str) -> np.ndarray:
  """The picture with a line of text above it, cut at its width.

  Args:
    picture: (h, w, 3) uint8.
    line: to write.

  Returns:
    (h + 18, w, 3) uint8.
  """
  height, width = picture.shape[:2]
  canvas = Image.new("RGB", (width, height + 18), "white")
  ImageDraw.Draw(canvas).text(
    (2, 9), drawable(line), "black", ImageFont.load_default(11), anchor="lm"
  )
  canvas.paste(Image.fromarray(picture), (0, 18))
  return np.asarray(canvas)


def legend(
  picture: np.ndarray, class_names: Sequence[str], caption: str = ""
) -> np.ndarray:
  """The picture with a caption and its classes' names and colours below it.

  Args:
    picture: (h, w, 3) uint8.
    class_names: by index, as `palette` colours them; '' is left out. Those that
      do not fit into the width go on in a next line.
    caption: what is shown, '' for nothing.

  Returns:
    (h + n, max(w, 240), 3) uint8, n for the lines.
  """
  font, line, side = ImageFont.load_default(11), 16, 10
  width = max(picture.shape[1], 240)
  entries = [(caption, None)] if caption else []
  colors = palette(len(class_names))
  entries += [
    (drawable(name), tuple(colors[index].tolist()))
    for index, name in enumerate(class_names)
    if name
  ]
  placed, x, y = [], 4, 0
  for text, color in entries:
    length = int(font.getlength(text)) + (side + 6 if color else 0)
    if x > 4 and (x + length > width or not placed[-1][3]):
      x, y = 4, y + line
    placed.append((x, y, text, color))
    x += length + 12
  height = picture.shape[0]
  canvas = Image.new("RGB", (width, height + y + line), "white")
  canvas.paste(Image.fromarray(picture), (0, 0))
  draw = ImageDraw.Draw(canvas)
  for left, top, text, color in placed:
    middle = height + top + line // 2
    if color:
      corners = (left, middle - side // 2, left + side, middle + side // 2)
      draw.rectangle(corners, fill=color, outline="black")
      left += side + 4
    draw.text((left, middle), text, "black", font, anchor="lm")
  return np.asarray(canvas)


def _border(mask: np.ndarray) -> np.ndarray:
  """The pixels of a mask with a neighbour that is not in it."""
  padded = np.pad(mask, 1)
  inner = (
    padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
  )
  return mask & ~inner


def middle_slice(array: np.ndarray, rank: int) -> np.ndarray:
  """An array of `rank` axes: of a volume, the slice halfway down."""
  array = np.asarray(array)
  return array if array.ndim == rank else array[len(array) // 2]


def grid(pictures: list[np.ndarray], columns: int) -> np.ndarray:
  """Pictures side by side in rows of `columns`: (h, w, 3).

  Where their sizes differ, white fills up to the largest.
  """
  size = np.max([picture.shape for picture in pictures], axis=0)
  missing = -len(pictures) % columns
  cells = [np.full(size, 255, np.uint8) for _ in range(len(pictures) + missing)]
  for cell, picture in zip(cells, pictures, strict=False):
    cell[: picture.shape[0], : picture.shape[1]] = picture
  rows = [
    np.concatenate(cells[start : start + columns], axis=1)
    for start in range(0, len(cells), columns)
  ]
  return np.concatenate(rows, axis=0)
