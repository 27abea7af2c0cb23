"""Windows that cover an array, and the blend of what is predicted in them.

Nothing here knows of models or files: positions, weights and sums, for any
number of axes. A window's weight is a product of weights along the axes, and
the windows lie on a grid, so the weights of all windows add up to a product as
well: dividing by it once, axis by axis, leaves weights that add up to one at
every pixel, and blending is one weighted sum.
"""

import itertools
import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

# Bytes of what is handed out at once, at least a row.
_PIECE = 2**23

BLENDS = ("gaussian", "constant", "center")


def starts(length: int, window: int, overlap: float) -> tuple[int, ...]:
  """Where windows begin so that they cover [0, length).

  Args:
    length: of the axis.
    window: of a window; an axis that is shorter gets a single one, at 0.
    overlap: smallest fraction of a window that the next one shares, in [0, 1).

  Returns:
    Rising positions; the last window ends at `length`.

  >>> starts(10, 4, 0.5), starts(9, 4, 0.5), starts(3, 4, 0.5)
  ((0, 2, 4, 6), (0, 2, 4, 5), (0,))
  """
  last = max(0, length - window)
  # The epsilon keeps 0.9 * 10 from becoming 10.
  stride = max(1, math.floor(window * (1 - overlap) + 1e-6))
  return (*range(0, last, stride), last)


def axis_weights(
  positions: tuple[int, ...], window: int, blend: str
) -> np.ndarray:
  """Weights of every window along one axis; at every pixel they sum to one.

  Args:
    positions: see `starts`.
    window: length of a window.
    blend: 'constant' averages; 'gaussian' has a sigma of window / 8, so that
      the middle of a window counts most (Isensee et al. 2021, nnU-Net);
      'center' takes every pixel from the window whose middle is nearest, as
      the overlap-tile strategy of Ronneberger et al. 2015 does.

  Returns:
    (number of windows, window) float32.
  """
  from_middle = np.arange(window) - (window - 1) / 2
  if blend == "gaussian":
    weights = np.exp(-0.5 * (from_middle / (window / 8)) ** 2)
    weights = np.tile(weights, (len(positions), 1))
  elif blend == "constant":
    weights = np.ones((len(positions), window))
  elif blend == "center":
    # The window begins where its middle and the previous one's are as far.
    between = [(a + b + window) // 2 for a, b in itertools.pairwise(positions)]
    first = (positions[0], *between)
    after = (*between, positions[-1] + window)
    weights = np.zeros((len(positions), window))
    for row, position, low, high in zip(
      weights, positions, first, after, strict=True
    ):
      row[low - position : high - position] = 1
  else:
    raise ValueError(f"blend {blend!r} is not one of {', '.join(BLENDS)}")
  total = np.zeros(positions[-1] + window)
  for position, row in zip(positions, weights, strict=True):
    total[position : position + window] += row
  return np.stack(
    [
      row / total[position : position + window]
      for position, row in zip(positions, weights, strict=True)
    ]
  ).astype(np.float32)


class Grid(NamedTuple):
  """Windows that cover an array.

  Attributes:
    size: of the array, one number an axis.
    window: of a window, likewise.
    starts: of the windows along each axis.
    weights: of `axis_weights` along each axis.
  """

  size: tuple[int, ...]
  window: tuple[int, ...]
  starts: tuple[tuple[int, ...], ...]
  weights: tuple[np.ndarray, ...]

  @classmethod
  def covering(
    cls,
    size: tuple[int, ...],
    window: tuple[int, ...],
    overlap: float,
    blend: str,
  ) -> "Grid":
    positions = tuple(
      starts(length, extent, overlap)
      for length, extent in zip(size, window, strict=True)
    )
    weights = tuple(
      axis_weights(along, extent, blend)
      for along, extent in zip(positions, window, strict=True)
    )
    return cls(size, window, positions, weights)

  def __len__(self) -> int:
    return math.prod(map(len, self.starts))

  def places(self) -> Iterator[tuple[int, ...]]:
    """Each window's number along every axis; the first axis is slowest."""
    return itertools.product(*(range(len(along)) for along in self.starts))

  def cut(self, array: np.ndarray, place: tuple[int, ...]) -> np.ndarray:
    """A window of an array, extended by its edge where that is smaller.

    Args:
      array: (*size, ...), which is read nowhere else: it may be on disk.
      place: see `places`.

    Returns:
      (*window, ...), in memory and in this machine's byte order.
    """
    at = tuple(
      slice(along[index], along[index] + extent)
      for along, index, extent in zip(
        self.starts, place, self.window, strict=True
      )
    )
    part = np.asarray(array[at], array.dtype.newbyteorder("="))
    pads = [
      (0, extent - have)
      for extent, have in zip(self.window, part.shape, strict=False)
    ]
    pads += [(0, 0)] * (part.ndim - len(pads))
    return np.pad(part, pads, mode="edge")


def blend(
  grid: Grid, tiles: Iterable[np.ndarray]
) -> Iterator[tuple[int, np.ndarray]]:
  """Adds windows up, and hands out what no later window reaches.

  Only a band as high as a window is ever held.

  Args:
    grid: where the windows are.
    tiles: (*window, K) float32, in the order of `grid.places()`.

  Yields:
    (first, band): rows `first`, `first + 1`, ... along the first axis, the
    band (n, *size[1:], K) float32; together they make up the array.
  """
  rows = grid.window[0]
  inside = tuple(slice(length) for length in grid.size[1:])
  first, total = 0, None
  for place, tile in zip(grid.places(), tiles, strict=True):
    if total is None:
      padded = [
        along[-1] + extent
        for along, extent in zip(grid.starts[1:], grid.window[1:], strict=True)
      ]
      total = np.zeros((rows, *padded, tile.shape[-1]), np.float32)
    done = grid.starts[0][place[0]] - first
    if done:
      yield from _pieces(first, total[:done][:, *inside])
      # Row by row: NumPy moves arrays that overlap through a copy.
      for row in range(rows - done):
        total[row] = total[row + done]
      total[rows - done :] = 0
      first += done
    at = tuple(
      slice(along[index], along[index] + extent)
      for along, index, extent in zip(
        grid.starts[1:], place[1:], grid.window[1:], strict=True
      )
    )
    total[:, *at] += _product(grid, place)[..., None] * tile
  yield from _pieces(first, total[: grid.size[0] - first][:, *inside])


def _pieces(first: int, rows: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
  """Copies of a few rows at a time, as the rows are used again."""
  step = max(1, _PIECE // rows[0].nbytes)
  for start in range(0, len(rows), step):
    yield first + start, rows[start : start + step].copy()


def _product(grid: Grid, place: tuple[int, ...]) -> np.ndarray:
  """The weights of one window: (*window,) float32."""
  weights = np.ones((), np.float32)
  for along, index in zip(grid.weights, place, strict=True):
    weights = weights[..., None] * along[index]
  return weights
