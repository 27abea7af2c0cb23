"""Masks of instances: what a mask head learns, and what it says of an image.

A mask is kept cropped to its box and resampled to a small square, in training
and in what a model returns: whole masks are made one at a time, on the host.
"""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from segsiam_jax.ops.shapes import check_shapes


def mask_targets(
  masks: jax.Array,
  truth: jax.Array,
  boxes: jax.Array,
  image_sizes: jax.Array,
  *,
  output_size: int,
  max_samples: int = 4,
  aligned: bool = False,
) -> jax.Array:
  """What a mask head should say in boxes, from masks cropped to their own box.

  torchvision reads targets from the whole mask with RoIAlign, with as many
  samples a bin as the bin has pixels; outside of its box a mask is 0. With
  `output_size * max_samples` above the sides of the boxes, and masks of one
  cell a pixel, these are torchvision's. They are soft, not thresholded.

  Args:
    masks: `(B, R, M, M)` in [0, 1]: M rows of M cells fill the mask's box.
    truth: `(B, R, 4)` box of each mask in pixels.
    boxes: `(B, R, 4)` boxes to make targets for.
    image_sizes: `(B, 2)` heights and widths; there is nothing to read beyond.
    output_size: bins along each side.
    max_samples: samples along each side of a bin, at most.
    aligned: see `roi_align`.

  Returns:
    `(B, R, output_size, output_size)` float32.

  Raises:
    ValueError: shapes that do not fit.
  """
  check_shapes(
    masks=(masks, "B R M+ M+"),
    truth=(truth, "B R 4"),
    boxes=(boxes, "B R 4"),
    image_sizes=(image_sizes, "B 2"),
  )
  masks, truth, boxes, image_sizes = (
    jnp.asarray(x, jnp.float32) for x in (masks, truth, boxes, image_sizes)
  )
  sides = [
    _resampling(
      boxes[..., axis],
      boxes[..., axis + 2],
      truth[..., axis],
      truth[..., axis + 2],
      image_sizes[:, None, 1 - axis],
      masks.shape[-1],
      output_size,
      max_samples,
      aligned,
    )
    for axis in (1, 0)
  ]
  return jnp.einsum(
    "brym,brmn,brxn->bryx", sides[0], masks, sides[1], precision="highest"
  )


def _resampling(
  low, high, truth_low, truth_high, image_size, cells, out, max_samples, aligned
):
  """Along one axis, weights of a mask's cells in the bins: (B, R, out, cells).

  Args:
    low: `(B, R)` where the boxes begin, in pixels.
    high: `(B, R)` where they end.
    truth_low: `(B, R)` where the masks' boxes begin.
    truth_high: `(B, R)` where they end.
    image_size: `(B, 1)` pixels of the images.
    cells: M.
    out: bins.
    max_samples: see `mask_targets`.
    aligned: see `roi_align`.
  """
  length = high - low if aligned else jnp.maximum(high - low, 1.0)
  step = length / out
  count = jnp.clip(jnp.ceil(step), 1, max_samples)
  sample = jnp.arange(max_samples)
  counts = sample < count[..., None]
  offsets = (sample + 0.5) / count[..., None]
  bins = low[..., None] + jnp.arange(out) * step[..., None]
  # (B, R, out, samples): indices of pixels; pixel 3 has its centre at 3.5.
  at = bins[..., None] + (offsets * step[..., None])[..., None, :]
  at = jnp.clip(at - 0.5 * aligned, 0.0, image_size[..., None, None] - 1.0)
  side = jnp.maximum(truth_high - truth_low, 1e-6)[..., None, None]
  cell = (at + 0.5 - truth_low[..., None, None]) * (cells / side) - 0.5
  near = jnp.abs(cell[..., None] - jnp.arange(cells))
  weights = jnp.maximum(1.0 - near, 0.0) * counts[..., None, :, None]
  return weights.sum(-2) / count[..., None, None]


def paste_masks(
  masks: np.ndarray,
  boxes: np.ndarray,
  size: tuple[int, int],
  threshold: float | None = 0.5,
) -> Iterator[np.ndarray]:
  """Whole masks of an image, one at a time, equal to torchvision's.

  Args:
    masks: `(D, M, M)` probabilities, each filling its box.
    boxes: `(D, 4)` in pixels of the image.
    size: height and width of the image.
    threshold: a pixel is inside if its probability is at least this; None
      yields probabilities.

  Yields:
    `(height, width)` bool, or float32 without a threshold.

  Raises:
    ValueError: shapes that do not fit, or NaN.

  >>> masks, boxes = np.ones((1, 28, 28)), np.array([[2.0, 1, 5, 3]])
  >>> [mask] = paste_masks(masks, boxes, (4, 7))
  >>> mask[2].astype(int).tolist()
  [0, 1, 1, 1, 1, 1, 0]
  """
  masks, boxes = np.asarray(masks), np.asarray(boxes)
  check_shapes(masks=(masks, "D M+ M+"), boxes=(boxes, "D 4"))
  # Neither a bool nor a place can be NaN.
  for name, array in (("masks", masks), ("boxes", boxes)):
    if np.isnan(array).any():
      raise ValueError(f"{name}: NaN; they cannot be pasted")
  return _paste_all(masks, boxes, size, threshold)


def _paste_all(masks, boxes, size, threshold):
  for mask, box in zip(masks, boxes, strict=True):
    pasted = _paste(mask.astype(np.float32), box.astype(np.float32), size)
    yield pasted if threshold is None else pasted >= threshold


def _paste(mask, box, size):
  """A border of zeros around the mask and its box, then bilinear resizing."""
  mask = np.pad(mask, 1)
  cells = len(mask)
  scale = np.float32(cells / (cells - 2))
  center = (box[2:] + box[:2]) * np.float32(0.5)
  half = (box[2:] - box[:2]) * np.float32(0.5) * scale
  low, high = (x.astype(np.int64) for x in (center - half, center + half))
  sides = np.maximum(high - low + 1, 1)
  pasted = np.zeros(size, np.float32)
  # Only what lies in the image is computed, x before y.
  begin = np.maximum(low, 0)
  end = np.minimum(low + sides, [size[1], size[0]])
  if (begin >= end).any():
    return pasted
  columns, rows = (
    _bilinear(
      begin[axis] - low[axis], end[axis] - low[axis], sides[axis], cells
    )
    for axis in (0, 1)
  )
  pasted[begin[1] : end[1], begin[0] : end[0]] = rows @ mask @ columns.T
  return pasted


def _bilinear(start, stop, size, cells):
  """Rows start:stop of the matrix that resizes cells to size."""
  at = (
    np.arange(start, stop, dtype=np.float32) + np.float32(0.5)
  ) * np.float32(cells / size) - np.float32(0.5)
  at = np.clip(at, 0, cells - 1)
  return np.maximum(1 - np.abs(at[:, None] - np.arange(cells)), 0).astype(
    np.float32
  )
