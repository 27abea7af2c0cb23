"""Small plots, drawn with Pillow: lines with bands, histograms, scatter.

Each returns a picture, (height, width, 3) uint8, so that it can be written as
PNG or shown in TensorBoard like any other.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from segsiam_jax import overlays

# Drawn larger and then shrunk: Pillow's lines have jagged edges.
_FINE = 3
_TEXT = 13
_FRAME, _GRID = (70, 70, 70), (225, 225, 225)
_MARGINS = (64, 30, 16, 44)  # left, top, right, bottom


class Line(NamedTuple):
  """A line of `line_plot`.

  Attributes:
    x: (n,), ascending.
    y: (n,); it is broken where it is not finite.
    label: in the legend; '' for none.
    low: (n,) lower end of a band around it, such as a confidence interval.
    high: (n,) its upper end.
  """

  x: Sequence[float] | np.ndarray
  y: Sequence[float] | np.ndarray
  label: str = ""
  low: Sequence[float] | np.ndarray | None = None
  high: Sequence[float] | np.ndarray | None = None


def line_plot(
  lines: Sequence[Line],
  *,
  title: str = "",
  x_label: str = "",
  y_label: str = "",
  x_range: tuple[float, float] | None = None,
  y_range: tuple[float, float] | None = None,
  log_x: bool = False,
  size: tuple[int, int] = (420, 560),
) -> np.ndarray:
  """Lines over one another, each in its colour, with a legend.

  Args:
    lines: to draw.
    title: above.
    x_label: below.
    y_label: at the left.
    x_range: ends of the x axis; None for those of the lines.
    y_range: likewise; bands count.
    log_x: whether the x axis is logarithmic; points at or below 0 and
      outside the range are not drawn.
    size: (height, width) in pixels.

  Returns:
    (*size, 3) uint8.

  Raises:
    ValueError: no finite point at all.
  """
  lines = [
    Line(
      *(
        part if isinstance(part, str | None) else np.asarray(part, float)
        for part in line
      )
    )
    for line in lines
  ]
  heights = [
    part
    for line in lines
    for part in (line.y, line.low, line.high)
    if part is not None
  ]
  axes = _Axes(
    size,
    x_range or _range([line.x for line in lines], positive=log_x),
    y_range or _range(heights, room=0.04),
    log_x,
  )
  for index, line in enumerate(lines):
    if line.low is not None and line.high is not None:
      inside = np.isfinite(line.low) & np.isfinite(line.high)
      x, low, high = (part[inside] for part in (line.x, line.low, line.high))
      axes.fill(
        np.concatenate([x, x[::-1]]),
        np.concatenate([low, high[::-1]]),
        _color(index),
        opacity=0.2,
      )
  for index, line in enumerate(lines):
    axes.line(line.x, line.y, _color(index))
  axes.legend([(line.label, _color(i)) for i, line in enumerate(lines)])
  return axes.finish(title, x_label, y_label)


def histogram(
  samples: Mapping[str, np.ndarray],
  *,
  bins: int = 40,
  title: str = "",
  x_label: str = "",
  marks: Mapping[str, float] | None = None,
  size: tuple[int, int] = (420, 560),
) -> np.ndarray:
  """Shares of samples in bins, one histogram over another.

  Each sums to 1, so that samples of unlike numbers compare.

  Args:
    samples: label -> (n,) values.
    bins: number of them over the range of all samples.
    title: above.
    x_label: below.
    marks: label -> x of an upright line, such as a threshold.
    size: (height, width) in pixels.

  Returns:
    (*size, 3) uint8.

  Raises:
    ValueError: no finite value at all.
  """
  marks = {label: x for label, x in (marks or {}).items() if math.isfinite(x)}
  values = [np.asarray(sample, float) for sample in samples.values()]
  values = [sample[np.isfinite(sample)] for sample in values]
  low, high = _range([*values, np.array(list(marks.values()))])
  edges = np.linspace(low, high, bins + 1)
  shares = [
    np.histogram(sample, edges)[0] / max(len(sample), 1) for sample in values
  ]
  top = max(share.max() for share in shares) or 1.0
  axes = _Axes(size, (low, high), (0.0, top * 1.05))
  x = np.repeat(edges, 2)
  for index, share in enumerate(shares):
    y = np.concatenate([[0.0], np.repeat(share, 2), [0.0]])
    axes.fill(x, y, _color(index), opacity=0.35)
    axes.line(x, y, _color(index))
  for x in marks.values():
    axes.line(np.array([x, x]), np.array([0.0, top * 1.05]), _FRAME)
  axes.legend(
    [(label, _color(index)) for index, label in enumerate(samples)]
    + [(f"{label} {_number(x)}", _FRAME) for label, x in marks.items()]
  )
  return axes.finish(title, x_label, "share")


def scatter(
  points: np.ndarray,
  labels: np.ndarray,
  names: Sequence[str] = (),
  *,
  title: str = "",
  size: tuple[int, int] = (560, 560),
) -> np.ndarray:
  """Points in the plane, one colour a label.

  Args:
    points: (n, 2).
    labels: (n,) integers.
    names: by label, for the legend; () for none.
    title: above.
    size: (height, width) in pixels.

  Returns:
    (*size, 3) uint8.

  Raises:
    ValueError: no finite point at all.
  """
  points = np.asarray(points, float)
  axes = _Axes(
    size,
    _range([points[:, 0]], room=0.04),
    _range([points[:, 1]], room=0.04),
  )
  for (x, y), label in zip(points, labels, strict=True):
    axes.dot(x, y, _color(int(label)))
  axes.legend([(name, _color(label)) for label, name in enumerate(names)])
  return axes.finish(title, "", "")


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
    (2, 9), line, "black", ImageFont.load_default(11), anchor="lm"
  )
  canvas.paste(Image.fromarray(picture), (0, 18))
  return np.asarray(canvas)


class _Axes:
  """A canvas with a frame, and the way from data to its pixels."""

  def __init__(
    self,
    size: tuple[int, int],
    x_range: tuple[float, float],
    y_range: tuple[float, float],
    log_x: bool = False,
  ):
    height, width = size
    left, top, right, bottom = _MARGINS
    self._size = size
    self._box = np.array([left, top, width - right, height - bottom]) * _FINE
    self._x_range, self._y_range, self._log_x = x_range, y_range, log_x
    self._image = Image.new("RGB", (width * _FINE, height * _FINE), "white")
    self._draw = ImageDraw.Draw(self._image)
    self._font = ImageFont.load_default(_TEXT * _FINE)
    for axis, ticks in enumerate((self._x_ticks(), _ticks(*y_range))):
      for tick in ticks:
        self._tick(axis, tick)

  def _place(self, x, y) -> np.ndarray:
    """Data to fine pixels: (n, 2)."""
    left, top, right, bottom = self._box
    low, high = self._x_range
    x = np.asarray(x, float)
    if self._log_x:
      with np.errstate(divide="ignore", invalid="ignore"):
        x = np.log(x)
      low, high = math.log(low), math.log(high)
    across = (x - low) / (high - low)
    low, high = self._y_range
    up = (np.asarray(y, float) - low) / (high - low)
    places = np.stack(
      [left + across * (right - left), bottom - up * (bottom - top)], axis=-1
    )
    # Far outside, Pillow's coordinates overflow.
    return np.clip(places, -1e5, 1e5, where=np.isfinite(places), out=places)

  def line(self, x, y, color) -> None:
    places = self._place(x, y)
    good = np.isfinite(places).all(axis=1)
    for part in np.split(np.arange(len(good)), np.flatnonzero(~good)):
      part = part[good[part]]
      if len(part) == 1:
        self.dot(np.asarray(x)[part[0]], np.asarray(y)[part[0]], color)
      elif len(part):
        self._inside(
          lambda draw, part=part: draw.line(
            [tuple(place) for place in places[part]],
            color,
            width=2 * _FINE,
            joint="curve",
          )
        )

  def fill(self, x, y, color, opacity: float) -> None:
    places = self._place(x, y)
    places = places[np.isfinite(places).all(axis=1)]
    if len(places) > 2:
      self._inside(
        lambda draw: draw.polygon([tuple(place) for place in places], color),
        opacity,
      )

  def dot(self, x, y, color) -> None:
    px, py = self._place([x], [y])[0]
    if math.isfinite(px) and math.isfinite(py):
      radius = 3 * _FINE
      self._draw.ellipse(
        (px - radius, py - radius, px + radius, py + radius), color
      )

  def _inside(self, paint, opacity: float = 1.0) -> None:
    """What `paint` draws, cut at the frame and made transparent."""
    drawn = self._image.copy()
    paint(ImageDraw.Draw(drawn))
    box = tuple(int(side) for side in self._box)
    mixed = Image.blend(self._image.crop(box), drawn.crop(box), opacity)
    self._image.paste(mixed, box[:2])

  def _x_ticks(self) -> list[float]:
    if not self._log_x:
      return _ticks(*self._x_range)
    low, high = (math.log10(end) for end in self._x_range)
    return [
      10.0**power
      for power in range(math.ceil(low - 1e-9), math.floor(high + 1e-9) + 1)
    ]

  def _tick(self, axis: int, value: float) -> None:
    left, top, right, bottom = self._box
    label, gap = _number(value), 5 * _FINE
    if axis == 0:
      x = self._place([value], [self._y_range[0]])[0, 0]
      self._draw.line([(x, top), (x, bottom)], _GRID, width=_FINE)
      self._write((x, bottom + gap), label, "ma")
    else:
      y = self._place([self._x_range[0]], [value])[0, 1]
      self._draw.line([(left, y), (right, y)], _GRID, width=_FINE)
      self._write((left - gap, y), label, "rm")

  def _write(self, place, line: str, anchor: str) -> None:
    self._draw.text(place, line, _FRAME, self._font, anchor=anchor)

  def legend(self, entries: Sequence[tuple[str, tuple]]) -> None:
    """In the emptiest corner; of more than twelve entries, the first."""
    entries = [entry for entry in entries if entry[0]][:12]
    if not entries:
      return
    row, gap = (_TEXT + 5) * _FINE, 6 * _FINE
    width = 28 * _FINE + int(
      max(self._draw.textlength(label, self._font) for label, _ in entries)
    )
    height = row * len(entries) + gap
    x1, y1, x2, y2 = self._box
    corners = [
      (x, y)
      for x in (x2 - gap - width, x1 + gap)
      for y in (y1 + gap, y2 - gap - height)
    ]
    # Lines are darker than the grid.
    dark = np.asarray(self._image).min(axis=-1) < min(_GRID)
    left, top = min(
      corners,
      key=lambda at: dark[at[1] : at[1] + height, at[0] : at[0] + width].sum(),
    )
    self._inside(
      lambda draw: draw.rectangle(
        (left, top, left + width, top + height), "white"
      ),
      0.8,
    )
    for index, (label, color) in enumerate(entries):
      y = top + gap / 2 + row * (index + 0.5)
      self._draw.line([(left, y), (left + 18 * _FINE, y)], color, 4 * _FINE)
      self._write((left + 24 * _FINE, y), label, "lm")

  def finish(self, title: str, x_label: str, y_label: str) -> np.ndarray:
    left, top, right, bottom = (int(side) for side in self._box)
    self._draw.rectangle((left, top, right, bottom), None, _FRAME, _FINE)
    middle = (left + right) / 2
    self._write((middle, top / 2), title, "mm")
    self._write((middle, self._image.height - 4 * _FINE), x_label, "md")
    if y_label:
      length = int(self._draw.textlength(y_label, self._font)) + 1
      strip = Image.new("RGB", (length, (_TEXT + 6) * _FINE), "white")
      ImageDraw.Draw(strip).text((0, 0), y_label, _FRAME, self._font)
      strip = strip.rotate(90, expand=True)
      self._image.paste(strip, (_FINE, (top + bottom - length) // 2))
    size = self._size[::-1]
    return np.asarray(self._image.resize(size, Image.Resampling.BOX))


def _color(index: int) -> tuple[int, int, int]:
  colors = overlays.palette(255)
  return tuple(int(part) for part in colors[1 + index % 254])


def _range(
  arrays: Sequence[np.ndarray], room: float = 0.0, positive: bool = False
) -> tuple[float, float]:
  """Ends of all finite values, and a share of room beyond both."""
  values = np.concatenate([np.ravel(array) for array in arrays])
  values = values[np.isfinite(values) & ((values > 0) | (not positive))]
  if not len(values):
    raise ValueError("nothing to plot: no finite value")
  low, high = float(values.min()), float(values.max())
  if low == high:
    low, high = (low / 2, low * 2) if positive else (low - 0.5, low + 0.5)
  extra = room * (high - low)
  return low - extra, high + extra


def _ticks(low: float, high: float) -> list[float]:
  """Round numbers from low to high, four to ten of them.

  >>> _ticks(0.0, 1.0)
  [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
  """
  rough = (high - low) / 5
  power = 10.0 ** math.floor(math.log10(rough))
  step = next(s * power for s in (1, 2, 5, 10) if s * power >= rough * 0.999)
  first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
  return [float(f"{n * step:.12g}") for n in range(first, last + 1)]


def _number(value: float) -> str:
  return f"{value:.4g}"
