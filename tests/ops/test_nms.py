"""Suppression against a plain loop over boxes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from segsiam_jax.ops import nms as ops


def loop_iou(a, b):
  """In float32, as torchvision computes it."""
  width = max(np.float32(0), min(a[2], b[2]) - max(a[0], b[0]))
  height = max(np.float32(0), min(a[3], b[3]) - max(a[1], b[1]))
  area = lambda box: (box[2] - box[0]) * (box[3] - box[1])  # noqa: E731
  union = area(a) + area(b) - width * height
  return width * height / union if union > 0 else np.float32(0)


def loop_nms(boxes, scores, threshold, groups, valid):
  kept = []
  for index in np.argsort(-scores, kind="stable"):
    if valid[index] and not any(
      groups[index] == groups[other]
      and float(loop_iou(boxes[index], boxes[other])) > threshold
      for other in kept
    ):
      kept.append(index)
  return kept


def loop_soft_nms(boxes, scores, decay, groups, valid, count, min_score):
  scores = np.where(valid, scores.astype(np.float64), -1.0)
  taken = []
  for _ in range(count):
    best = int(scores.argmax())
    if scores[best] < min_score:
      break
    taken.append((best, scores[best]))
    scores[best] = -1.0
    for other in range(len(scores)):
      if scores[other] > 0 and groups[other] == groups[best]:
        scores[other] *= decay(loop_iou(boxes[best], boxes[other]))
  return taken


@st.composite
def scenes(draw, most=24):
  """Boxes on a coarse grid, so that overlaps, scores and thresholds tie."""
  count = draw(st.integers(0, most))
  numbers = lambda low, high: draw(  # noqa: E731
    st.lists(st.integers(low, high), min_size=count, max_size=count)
  )
  x, y, w, h = (numbers(0, 6) for _ in range(4))
  boxes = np.array([x, y, np.add(x, w), np.add(y, h)], np.float32).T
  scores = np.array(numbers(0, 5), np.float32) / 5
  return boxes, scores, np.array(numbers(0, 2)), np.array(numbers(0, 3)) > 0


def padded(scene, most=24):
  """One shape for all, so that there is one compilation."""
  boxes, scores, groups, valid = scene
  pad = most - len(scores)
  return (
    np.pad(boxes, ((0, pad), (0, 0)), constant_values=1e9),
    np.pad(scores, (0, pad), constant_values=2.0),
    np.pad(groups, (0, pad)),
    np.pad(valid, (0, pad)),
  )


@pytest.fixture
def small_tiles(monkeypatch):
  monkeypatch.setattr(ops, "_TILE", 8)


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("threshold", [0.0, 0.2, 0.5, 0.6, 1.0])
def test_nms_equals_a_loop(threshold):
  suppress = jax.jit(
    lambda boxes, scores, groups, valid: ops.nms(
      boxes, scores, threshold, groups=groups, valid=valid
    )
  )

  @settings(max_examples=80, deadline=None)
  @given(scenes())
  def check(scene):
    boxes, scores, groups, valid = padded(scene)
    # Fetched first: JAX would compile for every number of boxes that is kept.
    kept = jax.device_get(suppress(boxes, scores, groups, valid))
    expected = loop_nms(boxes, scores, threshold, groups, valid)
    assert kept.index[kept.valid].tolist() == expected
    assert not kept.valid[len(expected) :].any()
    np.testing.assert_array_equal(kept.scores[kept.valid], scores[expected])
    assert not kept.scores[~kept.valid].any()

  check()


@pytest.mark.usefixtures("small_tiles")
def test_outputs_are_the_first_ones(rng):
  low = rng.integers(0, 20, (3, 40, 2))
  boxes = np.concatenate([low, low + rng.integers(1, 12, (3, 40, 2))], -1)
  boxes = boxes.astype(np.float32)
  scores = rng.random((3, 40)).astype(np.float32)
  suppress = jax.jit(lambda b, s: ops.nms(b, s, 0.3, max_outputs=5))
  kept = jax.device_get(suppress(boxes, scores))
  assert kept.index.shape == (3, 5)
  for row in range(3):
    ones = np.ones(40)
    expected = loop_nms(boxes[row], scores[row], 0.3, ones, ones)[:5]
    assert kept.index[row][kept.valid[row]].tolist() == expected


def test_identical_boxes_leave_the_first():
  boxes = np.tile(np.array([1.0, 1, 4, 4], np.float32), (20, 1))
  kept = ops.nms(boxes, np.ones(20, np.float32), 0.9)
  assert kept.valid.tolist() == [True] + [False] * 19
  assert kept.index[0] == 0
  # Of threshold 1 nothing is above.
  assert ops.nms(boxes, np.ones(20, np.float32), 1.0).valid.all()


def test_nothing_there_keeps_nothing():
  kept = ops.nms(
    np.ones((2, 3, 4)), np.ones((2, 3)), 0.5, valid=np.zeros((2, 3))
  )
  assert not kept.valid.any()
  assert not kept.scores.any()


@pytest.mark.parametrize("batch", [(), (2,)])
def test_no_boxes_at_all(batch):
  boxes, scores = np.zeros((*batch, 0, 4)), np.zeros((*batch, 0))
  for kept in (
    ops.nms(boxes, scores, 0.5, max_outputs=5),
    ops.soft_nms(boxes, scores, max_outputs=5),
  ):
    assert all(each.shape == (*batch, 0) for each in kept)
    assert kept.valid.dtype == bool


def test_a_box_may_score_minus_infinity():
  boxes = np.array([[0, 0, 1, 1], [5, 5, 6, 6]], np.float32)
  kept = ops.nms(boxes, np.array([-np.inf, 0.0], np.float32), 0.5)
  assert kept.index.tolist() == [1, 0]
  assert kept.valid.all()


@pytest.mark.slow
def test_ten_thousand_boxes(rng):
  centers = rng.uniform(0, 800, (500, 2))[rng.integers(0, 500, 10_000)]
  centers += rng.normal(0, 8, (10_000, 2))
  half = rng.uniform(10, 60, (10_000, 2))
  boxes = np.concatenate([centers - half, centers + half], 1).astype(np.float32)
  scores = rng.random(10_000).astype(np.float32)
  kept = jax.jit(lambda b, s: ops.nms(b, s, 0.5))(boxes, scores)
  # A loop, over kept boxes as an array.
  left = []
  for index in np.argsort(-scores, kind="stable"):
    box, others = boxes[index], boxes[left]
    low = np.maximum(box[:2], others[:, :2])
    sides = np.maximum(np.minimum(box[2:], others[:, 2:]) - low, 0)
    inter = sides.prod(-1)
    areas = (others[:, 2:] - others[:, :2]).prod(-1)
    if not (inter / ((box[2:] - box[:2]).prod() + areas - inter) > 0.5).any():
      left.append(index)
  assert kept.index[kept.valid].tolist() == left
  assert 1000 < len(left) < 5000


DECAYS = {
  # As a double, like torchvision: 0.3 in float32 is above 0.3.
  "linear": lambda iou: 1 - iou if float(iou) > 0.3 else 1.0,
  "gaussian": lambda iou: np.exp(-(iou**2) / 0.5),
}


@pytest.mark.parametrize("method", list(DECAYS))
def test_soft_nms_equals_a_loop(method):
  suppress = jax.jit(
    lambda boxes, scores, groups, valid: ops.soft_nms(
      boxes,
      scores,
      max_outputs=10,
      method=method,
      min_score=0.05,
      groups=groups,
      valid=valid,
    )
  )

  @settings(max_examples=60, deadline=None)
  @given(scenes(), st.integers(0, 2**31))
  def check(scene, seed):
    boxes, scores, groups, valid = padded(scene)
    # Ties would be broken by rounding.
    scores = np.random.default_rng(seed).random(24).astype(np.float32)
    kept = jax.device_get(suppress(boxes, scores, groups, valid))
    expected = loop_soft_nms(
      boxes, scores, DECAYS[method], groups, valid, 10, 0.05
    )
    assert kept.index[kept.valid].tolist() == [index for index, _ in expected]
    np.testing.assert_allclose(
      kept.scores[kept.valid], [score for _, score in expected], rtol=1e-5
    )

  check()


def test_soft_nms_drops_what_has_no_score_left():
  boxes = jnp.array([[0.0, 0, 4, 4], [0, 0, 4, 4], [9, 9, 12, 12]])
  scores = jnp.array([0.9, 0.5, 0.0])
  kept = ops.soft_nms(boxes, scores, max_outputs=3, min_score=0.0)
  assert kept.valid.tolist() == [True, False, False]


@pytest.mark.parametrize("name", ["nms", "soft_nms"])
def test_under_shard_map(name, rng):
  """Every device suppresses the boxes of its own images."""
  mesh = jax.make_mesh(
    (2,), ("data",), devices=jax.devices()[:2], axis_types=(AxisType.Auto,)
  )
  corners = rng.uniform(0, 20, (4, 30, 2)).astype(np.float32)
  boxes = np.concatenate([corners, corners + 8], -1)
  scores = rng.random((4, 30)).astype(np.float32)
  function = functools.partial(getattr(ops, name), threshold=0.4, max_outputs=9)
  spread = jax.shard_map(
    function, mesh=mesh, in_specs=P("data"), out_specs=P("data")
  )
  jax.tree.map(
    np.testing.assert_array_equal,
    jax.jit(spread)(boxes, scores),
    jax.jit(function)(boxes, scores),
  )


def test_unknown_method_is_refused():
  with pytest.raises(ValueError, match="not one of 'linear', 'gaussian'"):
    ops.soft_nms(jnp.ones((1, 4)), jnp.ones(1), max_outputs=1, method="cubic")
