"""Plots show the data where they are: colours at known places."""

import numpy as np
import pytest

from segsiam_jax import overlays, plots

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


def test_a_band_lies_around_its_line():
  x = np.arange(5.0)
  plain = plots.Line(x, np.ones(5))
  banded = plain._replace(low=np.zeros(5), high=np.full(5, 2.0))
  ranges = {"x_range": (0.0, 4.0), "y_range": (-1.0, 3.0)}
  without, picture = (
    plots.line_plot([line], **ranges) for line in (plain, banded)
  )
  changed = np.argwhere((without != picture).any(axis=-1))
  line = places(without, RED)
  # Half of the height, as far above the line as below.
  assert 160 < np.ptp(changed[:, 0]) < 190
  assert abs(changed[:, 0].mean() - line[:, 0].mean()) < 6


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


def test_captions_are_added_above():
  picture = np.full((20, 60, 3), 7, np.uint8)
  captioned = plots.captioned(picture, "0.31 a.png")
  assert captioned.shape == (38, 60, 3)
  np.testing.assert_array_equal(captioned[18:], picture)
  assert (captioned[:18] < 128).any()
