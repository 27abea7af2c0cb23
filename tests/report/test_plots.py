"""Plots show the data where they are: colours at known places."""

import subprocess
import sys
from concurrent import futures

import numpy as np
import pytest

from segsiam_jax.report import overlays, plots

RED, BLUE, GREEN = overlays.palette(4)[1:4]


def places(picture, color, tolerance=12):
  """(row, column) of all pixels of a colour."""
  near = np.abs(picture.astype(int) - color).max(axis=-1) <= tolerance
  return np.argwhere(near)


def test_a_line_goes_from_corner_to_corner():
  picture = plots.line_plot(
    [plots.Line([0, 1], [0, 1])], x_range=(0, 1), y_range=(0, 1)
  )
  assert picture.shape == (420, 560, 3) and picture.dtype == np.uint8
  at = places(picture, RED)
  first, last = at[at[:, 1].argmin()], at[at[:, 1].argmax()]
  # Up and to the right, from one end of the frame to the other.
  assert first[0] - last[0] > 320 and last[1] - first[1] > 440
  rows, columns = at.T
  fit = np.polyfit(columns, rows, 1)
  assert np.abs(np.polyval(fit, columns) - rows).max() < 3


def test_a_logarithmic_axis_bends_a_power_straight():
  x = np.logspace(-4, 0, 50)
  picture = plots.line_plot(
    [plots.Line(np.r_[0.0, x], np.r_[0.0, np.log10(x) / 4 + 1])],
    x_range=(1e-4, 1),
    log_x=True,
  )
  rows, columns = places(picture, RED).T
  fit = np.polyfit(columns, rows, 1)
  assert np.abs(np.polyval(fit, columns) - rows).max() < 3


def test_a_band_lies_between_its_ends():
  x = np.arange(5.0)
  plain = plots.Line(x, np.ones(5))
  banded = plain._replace(low=np.zeros(5), high=np.full(5, 2.0))
  ranges = {"x_range": (0.0, 4.0), "y_range": (-1.0, 3.0)}
  without, picture = (
    plots.line_plot([line], **ranges) for line in (plain, banded)
  )
  rows = np.argwhere((without != picture).any(axis=-1))[:, 0]
  ends = [
    places(plots.line_plot([plain._replace(y=y)], **ranges), RED)[:, 0].mean()
    for y in (banded.high, banded.low)
  ]
  np.testing.assert_allclose((rows.min(), rows.max()), ends, atol=2)


def test_a_gap_stays_a_gap():
  y = np.array([1.0, 1.0, np.nan, 1.0, 1.0])
  picture = plots.line_plot([plots.Line(np.arange(5), y)])
  columns = np.unique(places(picture, RED)[:, 1])
  assert np.diff(columns).max() > 200


def test_histograms_stand_where_their_values_are():
  picture = plots.histogram(
    {"same": np.full(10, 0.0), "different": np.full(90, 1.0)},
    bins=10,
    marks={"threshold": 0.5, "none": np.inf},
  )
  red, blue = (places(picture, color) for color in (RED, BLUE))
  # Shares, not counts: equally high, side by side.
  assert abs(red[:, 0].min() - blue[:, 0].min()) <= 1
  assert np.median(red[:, 1]) < np.median(blue[:, 1])


def test_scatter_colors_by_label():
  points = np.array([[0.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
  picture = plots.scatter(points, np.array([0, 1, 2]))
  low, high, left = (
    places(picture, color).mean(axis=0) for color in (RED, BLUE, GREEN)
  )
  assert low[0] > high[0] and low[1] < high[1]
  assert abs(left[1] - low[1]) < 1 and abs(left[0] - high[0]) < 1


@pytest.mark.parametrize("y", [[0, 1], [1, 0]])
def test_the_legend_keeps_clear_of_the_lines(y):
  line = plots.Line([0, 1], y)
  without = plots.line_plot([line])
  labelled = plots.line_plot([line._replace(label="a long label")])
  assert (without != labelled).any()
  for row, column in places(without, RED):
    assert (labelled[row, column] == without[row, column]).all()


@pytest.mark.parametrize("value", [0.0, 3.0, -1e-9])
def test_a_constant_has_axes(value):
  picture = plots.line_plot([plots.Line([0, 1], [value, value])])
  assert len(places(picture, RED))


def test_nothing_to_plot_is_an_error():
  with pytest.raises(ValueError, match="no finite value"):
    plots.line_plot([plots.Line([0.0], [np.nan])])


def test_a_point_without_neighbours_is_seen():
  y = np.array([1.0, np.nan, 1.0, np.nan, 1.0])
  picture = plots.line_plot([plots.Line(np.arange(5), y)])
  columns = np.unique(places(picture, RED)[:, 1])
  assert (np.diff(columns) > 100).sum() == 2


def test_names_are_no_formulas_and_need_no_font(recwarn):
  names = (
    "$x^2$",
    r"$\frac$",
    "_hidden",
    "a\N{CJK UNIFIED IDEOGRAPH-4E00}",
    "\udcff",
  )
  pictures = [
    plots.line_plot(
      [plots.Line([0, 1], [0, 1], name)], title=name, x_label=name, y_label=name
    )
    for name in names
  ]
  plain = plots.line_plot([plots.Line([0, 1], [0, 1])])
  assert all((picture != plain).any() for picture in pictures)
  assert not recwarn.list


def test_threads_draw_what_one_thread_draws():
  lines = [
    [plots.Line([0, 1], [0, slope], f"slope {slope}")] for slope in range(8)
  ]
  alone = [plots.line_plot(each) for each in lines]
  with futures.ThreadPoolExecutor(4) as pool:
    together = list(pool.map(plots.line_plot, lines))
  for picture, other in zip(alone, together, strict=True):
    np.testing.assert_array_equal(picture, other)


@pytest.mark.parametrize("size", [(100, 113), (229, 257), (480, 720)])
def test_pictures_have_their_size(size):
  picture = plots.line_plot([plots.Line([0, 1], [0, 1])], size=size)
  assert picture.shape == (*size, 3) and picture.dtype == np.uint8


def test_drawing_leaves_no_figure_and_no_settings_behind():
  code = (
    "import sys\n"
    "from segsiam_jax.report import plots\n"
    "assert 'matplotlib' not in sys.modules\n"
    "import matplotlib\n"
    "before = matplotlib.rcParams.copy()\n"
    "plots.line_plot([plots.Line([0, 1], [0, 1], 'a')])\n"
    "assert matplotlib.rcParams.copy() == before\n"
    "assert 'matplotlib.pyplot' not in sys.modules\n"
  )
  subprocess.run([sys.executable, "-c", code], check=True)
