"""Anchors of a region proposal network (Ren et al., arXiv:1506.01497).

The same boxes for every image of a size, so they are NumPy constants.
"""

from collections.abc import Sequence

import numpy as np

from segsiam_jax.ops.shapes import check_shapes


def cell_anchors(
  sizes: Sequence[float], aspect_ratios: Sequence[float]
) -> np.ndarray:
  """Anchors of one cell, centred at 0 and rounded as torchvision's are.

  Args:
    sizes: square roots of their areas, in pixels.
    aspect_ratios: heights over widths.

  Returns:
    `(R * S, 4)` float32; the sizes of the first ratio come first. NaN of NaN.

  Raises:
    ValueError: more than one axis, or sizes or ratios that are not above 0.

  >>> cell_anchors((32,), (0.5,)).tolist()
  [[-23.0, -11.0, 23.0, 11.0]]
  """
  check_shapes(sizes=(sizes, "S"), aspect_ratios=(aspect_ratios, "R"))
  for name, values in (("sizes", sizes), ("aspect_ratios", aspect_ratios)):
    if (np.asarray(values, np.float32) <= 0).any():
      raise ValueError(f"{name}: expected numbers above 0; got {values}")
  heights = np.sqrt(np.asarray(aspect_ratios, np.float32))
  widths = np.float32(1) / heights
  scales = np.asarray(sizes, np.float32)
  ws = (widths[:, None] * scales).reshape(-1)
  hs = (heights[:, None] * scales).reshape(-1)
  return np.round(np.stack([-ws, -hs, ws, hs], axis=1) / 2)


def grid_anchors(
  cell: np.ndarray, grid: tuple[int, int], stride: tuple[int, int]
) -> np.ndarray:
  """Anchors of a feature map.

  Args:
    cell: `(K, 4)`, see `cell_anchors`.
    grid: rows and columns of the feature map.
    stride: pixels between two of its rows, and two of its columns.

  Returns:
    `(rows * columns * K, 4)` float32, in the order of a flattened
    `(rows, columns, K)`.

  >>> grid_anchors(np.array([[-1.0, -2, 1, 2]]), (1, 2), (8, 4)).tolist()
  [[-1.0, -2.0, 1.0, 2.0], [3.0, -2.0, 5.0, 2.0]]
  """
  check_shapes(cell=(cell, "K 4"), grid=(grid, "2"), stride=(stride, "2"))
  ys, xs = np.meshgrid(*(np.arange(n) for n in grid), indexing="ij")
  ys, xs = ys * stride[0], xs * stride[1]
  shifts = np.stack([xs, ys, xs, ys], axis=-1).reshape(-1, 1, 4)
  return (
    (shifts + np.asarray(cell, np.float32)[None])
    .reshape(-1, 4)
    .astype(np.float32)
  )


def pyramid_anchors(
  image_size: tuple[int, int],
  grids: Sequence[tuple[int, int]],
  sizes: Sequence[Sequence[float]],
  aspect_ratios: Sequence[float],
) -> list[np.ndarray]:
  """Anchors of every level of a pyramid.

  Args:
    image_size: height and width of the padded images.
    grids: rows and columns of the levels.
    sizes: of the anchors of each level, see `cell_anchors`.
    aspect_ratios: of all levels.

  Returns:
    One `(A, 4)` float32 array per level, see `grid_anchors`. A level's stride
    is the image's size over its grid's, rounded down.

  Raises:
    ValueError: not one of `sizes` for each of `grids`, or a grid without cells.
  """
  check_shapes(
    image_size=(image_size, "2"),
    grids=(grids, "L 2"),
    # The levels may have unlike numbers of sizes.
    sizes=(np.empty(len(sizes)), "L"),
  )
  if not np.all(np.asarray(grids) > 0):
    raise ValueError(f"grids: expected rows and columns above 0; got {grids}")
  height, width = image_size
  return [
    grid_anchors(
      cell_anchors(each, aspect_ratios),
      grid,
      (height // grid[0], width // grid[1]),
    )
    for grid, each in zip(grids, sizes, strict=True)
  ]
