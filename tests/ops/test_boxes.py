import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from segsiam_jax.ops import boxes as ops

CORNERS = hnp.arrays(
  np.float32,
  (5, 4),
  elements=st.floats(0, 100, width=16),
)


def ordered(corners):
  low = np.minimum(corners[:, :2], corners[:, 2:])
  high = np.maximum(corners[:, :2], corners[:, 2:])
  return np.concatenate([low, high], axis=1)


def loop_iou_and_giou(a, b):
  """One pair, in float64."""
  a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
  area = lambda box: (box[2] - box[0]) * (box[3] - box[1])  # noqa: E731
  inter = max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(
    0, min(a[3], b[3]) - max(a[1], b[1])
  )
  union = area(a) + area(b) - inter
  hull = (max(a[2], b[2]) - min(a[0], b[0])) * (
    max(a[3], b[3]) - min(a[1], b[1])
  )
  iou = inter / union if union > 0 else 0.0
  return iou, iou - ((hull - union) / hull if hull > 0 else 0.0)


@settings(max_examples=60, deadline=None)
@given(CORNERS, CORNERS)
def test_iou_and_giou_equal_the_loop(first, second):
  first, second = ordered(first), ordered(second)
  iou = jax.jit(ops.pairwise_iou)(first, second)
  giou = jax.jit(ops.paired_giou)(first, second)
  for i in range(5):
    for j in range(5):
      expected = loop_iou_and_giou(first[i], second[j])[0]
      np.testing.assert_allclose(iou[i, j], expected, atol=2e-5)
    expected = loop_iou_and_giou(first[i], second[i])[1]
    np.testing.assert_allclose(giou[i], expected, atol=1e-4)


def test_crowds_divide_by_the_box_alone():
  box = jnp.array([[0.0, 0.0, 2.0, 2.0]])
  crowd = jnp.array([[0.0, 0.0, 10.0, 2.0]] * 2)
  iou = ops.pairwise_iou(box, crowd, crowd=jnp.array([0, 1]))
  np.testing.assert_allclose(iou, [[4 / 20, 1.0]])


@settings(max_examples=60, deadline=None)
@given(CORNERS, CORNERS, st.sampled_from([(1.0,) * 4, (10.0, 10.0, 5.0, 5.0)]))
def test_decode_inverts_encode(first, second, weights):
  first, second = ordered(first), ordered(second)
  first[:, 2:] += 4.0
  second[:, 2:] += 4.0
  deltas = ops.encode_boxes(first, second, weights)
  expected = np.concatenate(
    [
      (first[:, :2] + first[:, 2:] - second[:, :2] - second[:, 2:])
      / 2
      / (second[:, 2:] - second[:, :2]),
      np.log((first[:, 2:] - first[:, :2]) / (second[:, 2:] - second[:, :2])),
    ],
    axis=1,
  ) * np.array(weights)
  np.testing.assert_allclose(deltas, expected, rtol=1e-4, atol=2e-4)
  decoded = ops.decode_boxes(deltas, second, weights)
  np.testing.assert_allclose(decoded, first, rtol=1e-4, atol=1e-2)


def test_decode_cuts_large_sizes():
  anchor = jnp.array([[0.0, 0.0, 16.0, 16.0]])
  box = ops.decode_boxes(jnp.array([[0.0, 0.0, 50.0, 50.0]]), anchor)
  np.testing.assert_allclose(box[0, 2] - box[0, 0], 1000.0, rtol=1e-5)


@pytest.mark.parametrize(
  "function",
  [
    lambda b: ops.pairwise_iou(b, b),
    lambda b: ops.paired_giou(b, jnp.zeros_like(b)),
    lambda b: ops.encode_boxes(b, jnp.zeros_like(b)),
    lambda b: ops.encode_boxes(jnp.zeros_like(b), b),
    lambda b: ops.decode_boxes(b, jnp.zeros_like(b)),
    ops.box_area,
  ],
)
def test_padding_boxes_are_finite(function):
  boxes = jnp.zeros((3, 4), jnp.bfloat16)
  value, grads = jax.value_and_grad(lambda b: function(b).sum())(boxes)
  assert jnp.isfinite(value)
  assert jnp.isfinite(grads).all()
  assert function(boxes).dtype == jnp.float32
