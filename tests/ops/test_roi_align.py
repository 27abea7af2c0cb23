"""RoIAlign against loops over boxes, bins and samples."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from segsiam_jax.ops.roi_align import METHODS, assign_levels, roi_align
from tests.ops.bilinear import corners_of

STRIDES = (4, 8, 16)
SHAPES = ((9, 12), (5, 6), (2, 3))


def loop_roi_align(features, boxes, levels, out, ratio, aligned, gradient=None):
  """In float64; with a gradient, that of the features."""
  features = [np.asarray(f, np.float64) for f in features]
  result = np.zeros((*boxes.shape[:2], out, out, features[0].shape[-1]))
  back = [np.zeros_like(f) for f in features]
  for b, r in np.ndindex(boxes.shape[:2]):
    level = levels[b, r]
    x1, y1, x2, y2 = boxes[b, r].astype(np.float64) / STRIDES[level]
    if aligned:
      x1, y1, x2, y2 = (v - 0.5 for v in (x1, y1, x2, y2))
    width, height = x2 - x1, y2 - y1
    if not aligned:
      width, height = max(width, 1.0), max(height, 1.0)
    rows, columns = features[level].shape[1:3]
    for i, j, si, sj in np.ndindex(out, out, ratio, ratio):
      y = y1 + height / out * (i + (si + 0.5) / ratio)
      x = x1 + width / out * (j + (sj + 0.5) / ratio)
      for row, wy in corners_of(y, rows):
        for column, wx in corners_of(x, columns):
          weight = wy * wx / ratio**2
          result[b, r, i, j] += weight * features[level][b, row, column]
          if gradient is not None:
            back[level][b, row, column] += weight * gradient[b, r, i, j]
  return result if gradient is None else back


@pytest.fixture
def pyramid(rng):
  return [
    jnp.asarray(rng.normal(size=(2, *shape, 5)), jnp.float32)
    for shape in SHAPES
  ]


@pytest.fixture
def boxes(rng):
  """Inside, across the edges, outside, without size, and the whole image."""
  low = rng.uniform(-15, 40, (2, 9, 2))
  boxes = np.concatenate([low, low + rng.uniform(0.5, 30, (2, 9, 2))], -1)
  special = [[0, 0, 48, 36], [20, 9, 20, 9], [60, 50, 90, 80], [-40, 3, -9, 9]]
  special = np.broadcast_to(special, (2, 4, 4))
  return np.concatenate([boxes, special], axis=1).astype(np.float32)


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("ratio", [1, 2, 3])
def test_equals_a_loop(rng, pyramid, boxes, aligned, ratio):
  levels = rng.integers(0, 3, boxes.shape[:2])
  expected = loop_roi_align(pyramid, boxes, levels, 3, ratio, aligned)
  gradient = rng.normal(size=expected.shape).astype(np.float32)
  expected_back = loop_roi_align(
    pyramid, boxes, levels, 3, ratio, aligned, gradient
  )
  for method in METHODS:
    pool = functools.partial(
      roi_align,
      boxes=boxes,
      levels=levels,
      output_size=3,
      strides=STRIDES,
      sampling_ratio=ratio,
      aligned=aligned,
      method=method,
    )

    @jax.jit
    def both(features, gradient, pool=pool):
      pooled, back = jax.vjp(pool, features)
      return pooled, back(gradient)[0]

    pooled, back = both(pyramid, gradient)
    np.testing.assert_allclose(pooled, expected, atol=2e-5)
    for ours, theirs in zip(back, expected_back, strict=True):
      np.testing.assert_allclose(ours, theirs, atol=2e-5)


def test_one_level_and_chunks(rng, pyramid, boxes):
  options = {"output_size": 2, "strides": STRIDES[:1], "method": "matmul"}
  boxes = boxes[:, :12]
  levels = np.zeros(boxes.shape[:2], int)
  variants = ({}, {"chunk": 4}, {"chunk": 5}, {"method": "gather"})
  whole, cut, uneven, gathered = jax.jit(
    lambda features: [
      roi_align(features, boxes, levels, **options | more) for more in variants
    ]
  )(pyramid[:1])
  np.testing.assert_allclose(cut, whole, atol=1e-6)
  np.testing.assert_allclose(uneven, whole, atol=1e-6)
  np.testing.assert_allclose(gathered, whole, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_under_shard_map(rng, pyramid, boxes, method):
  mesh = jax.make_mesh(
    (2,), ("data",), devices=jax.devices()[:2], axis_types=(AxisType.Auto,)
  )
  levels = rng.integers(0, 3, boxes.shape[:2])

  def gradient(features, boxes, levels):
    pool = functools.partial(
      roi_align, output_size=2, strides=STRIDES, method=method
    )
    return jax.grad(lambda f: jnp.sin(pool(f, boxes, levels)).sum())(features)

  spread = jax.shard_map(
    gradient, mesh=mesh, in_specs=P("data"), out_specs=P("data")
  )
  ours = jax.jit(spread)(pyramid, boxes, levels)
  theirs = jax.jit(gradient)(pyramid, boxes, levels)
  for a, b in zip(ours, theirs, strict=True):
    np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_half_precision_stays_close(rng, pyramid, boxes, method):
  levels = rng.integers(0, 3, boxes.shape[:2])

  def pool(features):
    return roi_align(
      features, boxes, levels, output_size=3, strides=STRIDES, method=method
    )

  @jax.jit
  def run(pyramid):
    half = [f.astype(jnp.bfloat16) for f in pyramid]
    pooled, back = jax.vjp(pool, half)
    return pooled, back(jnp.ones_like(pooled))[0], pool(pyramid)

  pooled, gradients, exact = run(pyramid)
  np.testing.assert_allclose(pooled.astype(jnp.float32), exact, atol=0.05)
  for array in (pooled, *gradients):
    assert array.dtype == jnp.bfloat16


def test_levels_are_torchvisions():
  sides = np.array([1.0, 55, 56, 111, 112, 223, 224, 447, 448, 900])
  boxes = np.stack([0 * sides, 0 * sides, sides, sides], -1)
  # floor(4 + log2(side / 224)), of P2 to P5.
  assert assign_levels(boxes, 4).tolist() == [0, 0, 0, 0, 1, 1, 2, 2, 3, 3]
  small = assign_levels(boxes, 4, canonical_size=56.0)
  assert small.tolist() == [0, 1, 2, 2, 3, 3, 3, 3, 3, 3]
  assert assign_levels(jnp.zeros((1, 4)), 4).tolist() == [0]


def test_unknown_method_is_refused(pyramid, boxes):
  with pytest.raises(ValueError, match="not one of"):
    roi_align(
      pyramid,
      boxes,
      np.zeros(boxes.shape[:2], int),
      output_size=2,
      strides=STRIDES,
      method="crop",
    )
