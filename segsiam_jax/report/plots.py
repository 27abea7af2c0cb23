"""Small plots, drawn with Matplotlib: lines with bands, histograms, scatter.

Each returns a picture, (height, width, 3) uint8, so that it can be written as
PNG or shown in TensorBoard like any other. Any thread may draw: no figure is
pyplot's. A matplotlibrc changes the style, and never the size.
"""

import math
import threading
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from segsiam_jax.report import overlays

# Imported where a plot is drawn: it takes half a second.
if TYPE_CHECKING:
  from matplotlib.axes import Axes

# A point is then a pixel.
_DPI = 72
_TEXT, _TICK_TEXT, _PAD = 13, 11, 8
_FRAME = "#464646"
_MOST_ENTRIES = 12
# Matplotlib's caches of fonts are not made for threads.
_one_at_a_time = threading.Lock()


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
  points = [
    (np.asarray(line.x, float), np.asarray(line.y, float)) for line in lines
  ]
  shown = [
    np.isfinite(x) & np.isfinite(y) & ((x > 0) | (not log_x)) for x, y in points
  ]
  _require_any(shown)
  with _one_at_a_time:
    axes = _new_axes(size)
    axes.margins(x=0.0, y=0.04)
    if log_x:
      axes.set_xscale("log", nonpositive="mask")
    for index, ((x, y), good) in enumerate(zip(points, shown, strict=True)):
      line, color = lines[index], _color(index)
      if line.low is not None and line.high is not None:
        low, high = np.asarray(line.low, float), np.asarray(line.high, float)
        inside = np.isfinite(low) & np.isfinite(high) & ((x > 0) | (not log_x))
        axes.fill_between(
          x, low, high, where=inside, color=color, alpha=0.2, linewidth=0
        )
      # A point without neighbours has no line to be seen on.
      beside = np.pad(good, 1)
      alone = good & ~beside[:-2] & ~beside[2:]
      axes.plot(
        x,
        np.where(good, y, np.nan),
        color=color,
        linewidth=2,
        marker="o",
        markersize=6,
        markevery=np.flatnonzero(alone).tolist(),
      )
    axes.set(xlim=x_range, ylim=y_range)
    if log_x:
      _number_plainly(axes)
    _add_legend(axes, [(line.label, _color(i)) for i, line in enumerate(lines)])
    return _picture(axes, title, x_label, y_label)


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
    bins: number of them over the range of all samples and marks.
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
  together = np.concatenate([*values, np.array(list(marks.values()))])
  _require_any([np.ones(len(together), bool)])
  edges = np.histogram_bin_edges(together, bins)
  with _one_at_a_time:
    axes = _new_axes(size)
    axes.margins(x=0.0, y=0.05)
    for index, sample in enumerate(values):
      shares = np.histogram(sample, edges)[0] / max(len(sample), 1)
      color = _color(index)
      axes.stairs(shares, edges, fill=True, color=color, alpha=0.35)
      axes.stairs(shares, edges, color=color, linewidth=2)
    for x in marks.values():
      axes.axvline(x, color=_FRAME, linewidth=2)
    axes.set_ylim(bottom=0.0)
    _add_legend(
      axes,
      [(label, _color(index)) for index, label in enumerate(samples)]
      + [(f"{label} {x:.4g}", _FRAME) for label, x in marks.items()],
    )
    return _picture(axes, title, x_label, "share")


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
  _require_any([np.isfinite(points).all(axis=1)])
  with _one_at_a_time:
    axes = _new_axes(size)
    axes.margins(0.04)
    axes.scatter(
      *points.T,
      s=36,
      c=[_color(label) for label in np.asarray(labels).tolist()],
      linewidths=0,
    )
    _add_legend(axes, [(name, _color(i)) for i, name in enumerate(names)])
    return _picture(axes, title, "", "")


def _require_any(shown: Sequence[np.ndarray]) -> None:
  if not any(good.any() for good in shown):
    raise ValueError("nothing to plot: no finite value")


def _new_axes(size: tuple[int, int]) -> "Axes":
  """The axes of a figure of (height, width) pixels, with a grid."""
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  from matplotlib.figure import Figure

  height, width = size
  figure = Figure(
    figsize=(width / _DPI, height / _DPI), dpi=_DPI, layout="constrained"
  )
  figure.get_layout_engine().set(w_pad=_PAD / _DPI, h_pad=_PAD / _DPI)
  FigureCanvasAgg(figure)
  axes = figure.subplots()
  axes.set_axisbelow(True)
  axes.grid(color="#e1e1e1", linewidth=1)
  axes.ticklabel_format(useOffset=False)
  axes.tick_params(color=_FRAME, labelcolor=_FRAME, labelsize=_TICK_TEXT)
  axes.spines[:].set_color(_FRAME)
  return axes


def _number_plainly(axes: "Axes") -> None:
  """Ticks of a logarithmic x axis: 0.001, 0.01, ... or 5, 10, 20, ..."""
  from matplotlib import ticker

  low, high = axes.get_xlim()
  steps = (1, 2, 5) if high / low < 1000 else (1,)
  axes.xaxis.set_major_locator(ticker.LogLocator(subs=steps))
  axes.xaxis.set_minor_locator(ticker.NullLocator())
  axes.xaxis.set_major_formatter(lambda value, _: f"{value:.4g}")


def _add_legend(axes: "Axes", entries: Sequence[tuple[str, object]]) -> None:
  """Adds the emptiest place's legend; of many entries, the first ones'."""
  from matplotlib.lines import Line2D

  entries = [entry for entry in entries if entry[0]][:_MOST_ENTRIES]
  if not entries:
    return
  legend = axes.legend(
    [Line2D([], [], color=color, linewidth=4) for _, color in entries],
    [overlays.drawable(label) for label, _ in entries],
    loc="best",
    fontsize=_TEXT,
    labelcolor=_FRAME,
  )
  for text in legend.get_texts():
    text.set_parse_math(False)


def _picture(
  axes: "Axes", title: str, x_label: str, y_label: str
) -> np.ndarray:
  """The figure of axes that are complete: (height, width, 3) uint8."""
  # Names of classes and metrics are not formulas.
  text = {"color": _FRAME, "fontsize": _TEXT, "parse_math": False}
  axes.set_title(overlays.drawable(title), text)
  axes.set_xlabel(overlays.drawable(x_label), text)
  axes.set_ylabel(overlays.drawable(y_label), text)
  canvas = axes.get_figure().canvas
  with warnings.catch_warnings():
    # Of names in letters that the font lacks: they are drawn as boxes.
    warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)
    canvas.draw()
  return np.array(canvas.buffer_rgba())[..., :3]


def _color(index: int) -> tuple[float, float, float]:
  return tuple(overlays.palette(255)[1 + index % 254] / 255)
