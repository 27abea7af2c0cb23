"""Window arithmetic against loops over pixels."""

import itertools

import numpy as np
import pytest

from segsiam_jax.prediction import windows

CASES = [
  ((7,), (3,), 0.0),
  ((7,), (3,), 0.5),
  ((2,), (5,), 0.5),
  ((13, 9), (4, 6), 0.5),
  ((13, 9), (6, 4), 0.7),
  ((1, 1), (4, 4), 0.25),
  ((3, 50), (8, 8), 0.9),
  ((5, 7, 6), (4, 3, 6), 0.3),
]


def pixel_weight(offset, window, blend):
  """Of a pixel `offset` from its window's start, along one axis."""
  if blend == "constant":
    return 1.0
  middle = (window - 1) / 2
  return float(np.exp(-0.5 * ((offset - middle) / (window / 8)) ** 2))


def slow_blend(grid, tiles, blend):
  """Every pixel's weighted mean over the windows that hold it."""
  result = np.zeros((*grid.size, tiles[0].shape[-1]))
  for pixel in itertools.product(*map(range, grid.size)):
    total = weight = 0.0
    nearest = np.inf
    for place, tile in zip(grid.places(), tiles, strict=True):
      origin = [along[i] for along, i in zip(grid.starts, place, strict=True)]
      offset = tuple(np.subtract(pixel, origin))
      if not all(0 <= o < w for o, w in zip(offset, grid.window, strict=True)):
        continue
      if blend == "center":
        # Ties go to the later window.
        distance = sum(
          abs(o - (w - 1) / 2) for o, w in zip(offset, grid.window, strict=True)
        )
        if distance <= nearest:
          nearest, total, weight = distance, tile[offset], 1.0
        continue
      w = np.prod(
        [
          pixel_weight(o, extent, blend)
          for o, extent in zip(offset, grid.window, strict=True)
        ]
      )
      total, weight = total + w * tile[offset], weight + w
    result[pixel] = total / weight
  return result


@pytest.mark.parametrize("blend", windows.BLENDS)
@pytest.mark.parametrize(("size", "window", "overlap"), CASES)
def test_blend_is_the_weighted_mean(rng, size, window, overlap, blend):
  grid = windows.Grid.covering(size, window, overlap, blend)
  tiles = rng.normal(size=(len(grid), *window, 2)).astype(np.float32)
  bands = list(windows.blend(grid, tiles))
  starts = [first for first, _ in bands]
  lengths = [len(band) for _, band in bands]
  assert starts == [sum(lengths[:i]) for i in range(len(bands))]
  assert all(n <= window[0] for n in lengths)
  blended = np.concatenate([band for _, band in bands])
  expected = slow_blend(grid, tiles, blend)
  np.testing.assert_allclose(blended, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("length", range(1, 40))
def test_windows_cover_and_overlap_as_asked(length):
  for window, overlap in itertools.product((1, 4, 7, 16), (0.0, 0.25, 0.5)):
    positions = windows.starts(length, window, overlap)
    covered = {p + i for p in positions for i in range(window)}
    assert covered >= set(range(length))
    assert positions[0] == 0
    assert positions[-1] == max(0, length - window)
    for one, other in itertools.pairwise(positions):
      assert 0 < other - one <= max(1, window * (1 - overlap))


@pytest.mark.parametrize("blend", windows.BLENDS)
def test_weights_sum_to_one(blend):
  positions = windows.starts(101, 16, 0.3)
  weights = windows.axis_weights(positions, 16, blend)
  total = np.zeros(101)
  for position, row in zip(positions, weights, strict=True):
    total[position : position + 16] += row
  np.testing.assert_allclose(total, 1, rtol=1e-6)


def test_cut_extends_small_arrays_by_their_edge(rng):
  array = rng.integers(0, 99, (3, 9, 2), np.uint8)
  grid = windows.Grid.covering((3, 9), (4, 4), 0.5, "constant")
  for place in grid.places():
    y, x = (along[i] for along, i in zip(grid.starts, place, strict=True))
    cut = grid.cut(array, place)
    np.testing.assert_array_equal(cut[:3], array[y : y + 4, x : x + 4])
    np.testing.assert_array_equal(cut[3], cut[2])


def test_cut_reads_nothing_else():
  class Disk:
    dtype = np.dtype(">u2")
    pixels = np.arange(100, dtype=">u2").reshape(10, 10)[..., None]
    read = 0

    def __getitem__(self, at):
      self.read += self.pixels[at].size
      return self.pixels[at]

  disk = Disk()
  grid = windows.Grid.covering((10, 10), (4, 4), 0.5, "gaussian")
  cut = grid.cut(disk, (1, 1))
  assert disk.read == 16
  assert cut.dtype == np.uint16
  np.testing.assert_array_equal(cut, disk.pixels[2:6, 2:6])


def test_unknown_blend_is_an_error():
  with pytest.raises(ValueError, match="'mean' is not one of gaussian"):
    windows.axis_weights((0,), 4, "mean")
