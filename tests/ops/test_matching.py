import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segsiam_jax.ops import anchors, matching


def loop_match(overlaps, valid, high, low, keep_best):
  """Anchor by anchor, then true box by true box."""
  truths = [n for n in range(len(overlaps)) if valid[n]]
  matches = []
  for anchor in range(overlaps.shape[1]):
    best = max(truths, key=lambda n: overlaps[n, anchor], default=None)
    if best is None or overlaps[best, anchor] < low:
      matches.append(matching.BACKGROUND)
    elif overlaps[best, anchor] < high:
      matches.append(matching.IGNORED)
    else:
      matches.append(best)
  for n in truths if keep_best else ():
    for anchor in range(overlaps.shape[1]):
      if overlaps[n, anchor] == overlaps[n].max() > 0:
        matches[anchor] = max(truths, key=lambda m: overlaps[m, anchor])
  return matches


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**31), st.booleans())
def test_match_equals_a_loop(seed, keep_best):
  rng = np.random.default_rng(seed)
  # Few values, so that they tie with each other and with the thresholds.
  overlaps = rng.integers(0, 11, (3, 7)).astype(np.float32) / 10
  valid = rng.integers(0, 2, 3)
  matches = matching.match(
    jnp.asarray(overlaps),
    jnp.asarray(valid),
    high=0.7,
    low=0.3,
    keep_best=keep_best,
  )
  assert matches.tolist() == loop_match(
    overlaps, valid, np.float32(0.7), np.float32(0.3), keep_best
  )


def test_match_takes_batches(rng):
  overlaps = jnp.asarray(rng.random((2, 3, 7)), jnp.float32)
  valid = jnp.array([[1, 1, 0], [0, 0, 0]])
  options = {"high": 0.5, "low": 0.5, "keep_best": True}
  matches = matching.match(overlaps, valid, **options)
  one = matching.match(overlaps[0], valid[0], **options)
  np.testing.assert_array_equal(matches[0], one)
  assert (matches[1] == matching.BACKGROUND).all()


@pytest.mark.parametrize(
  ("positives", "negatives", "expected"),
  [(10, 30, (4, 12)), (2, 30, (2, 14)), (10, 3, (4, 3)), (0, 0, (0, 0))],
)
def test_sample_is_balanced(positives, negatives, expected):
  labels = np.full(50, -1)
  labels[:positives], labels[20 : 20 + negatives] = 1, 0
  labels = np.random.default_rng(0).permutation(labels)
  sample = matching.balanced_sample(
    jax.random.split(jax.random.key(0), 2),
    np.tile(labels == 1, (2, 1)),
    np.tile(labels == 0, (2, 1)),
    size=16,
    positive_fraction=0.25,
  )
  for row in range(2):
    index, positive, valid = (np.asarray(x[row]) for x in sample)
    assert (positive.sum(), (valid & ~positive).sum()) == expected
    assert positive[: expected[0]].all()
    assert len(set(index[valid])) == sum(expected)
    assert (labels[index[valid]] == positive[valid]).all()
  if positives > 4:
    assert set(sample.index[0, :4].tolist()) != set(
      sample.index[1, :4].tolist()
    )


def test_every_box_is_sampled_as_often():
  sample = matching.balanced_sample(
    jax.random.split(jax.random.key(0), 2000),
    jnp.tile(jnp.arange(8) < 4, (2000, 1)),
    jnp.tile(jnp.arange(8) >= 4, (2000, 1)),
    size=4,
    positive_fraction=0.5,
  )
  counts = collections.Counter(sample.index.reshape(-1).tolist())
  assert len(counts) == 8
  assert max(abs(count - 1000) for count in counts.values()) < 120


def test_more_samples_than_boxes():
  sample = matching.balanced_sample(
    jax.random.split(jax.random.key(0), 1),
    jnp.array([[True, False, False]]),
    jnp.array([[False, True, True]]),
    size=16,
    positive_fraction=0.5,
  )
  assert sorted(sample.index[0].tolist()) == [0, 1, 2]
  assert sample.valid.all()


def test_anchors_of_a_pyramid():
  """Loops over levels, rows, columns, ratios."""
  grids, sizes, ratios = [(2, 3), (1, 2)], [(32,), (64, 80)], (0.5, 1.0, 2.0)
  levels = anchors.pyramid_anchors((64, 96), grids, sizes, ratios)
  for (rows, columns), of_level, boxes in zip(
    grids, sizes, levels, strict=True
  ):
    expected = []
    for y in range(rows):
      for x in range(columns):
        center = np.array([x * (96 // columns), y * (64 // rows)])
        for ratio in ratios:
          for size in of_level:
            sides = size * np.array([ratio**-0.5, ratio**0.5])
            corner = np.round(sides / 2)
            expected.append([*(center - corner), *(center + corner)])
    np.testing.assert_array_equal(boxes, np.array(expected))
    assert boxes.dtype == np.float32
