"""Panoptic quality against sets of pixels compared one pair at a time."""

import functools

import hypothesis
import jax
import numpy as np
import pytest
from hypothesis import strategies as st

from segsiam_jax import metrics

K, THINGS = 4, (1, 3)
SHAPE = (2, 8, 9)


def segments(categories, ids, keep):
  """Sets of pixels by (category, id), of categories in [0, K)."""
  found = {}
  for index in np.ndindex(categories.shape):
    category = int(categories[index])
    if keep[index] and 0 <= category < K:
      number = int(ids[index]) if category in THINGS else 0
      found.setdefault((category, number), set()).add(index)
  return found


def add_image(sums, predictions, predicted_ids, labels, label_ids):
  void = {i for i in np.ndindex(labels.shape) if not 0 <= labels[i] < K}
  everywhere = np.ones(labels.shape, bool)
  predicted = segments(predictions, predicted_ids, everywhere)
  labelled = segments(labels, label_ids, everywhere)
  matched = set()
  for label, truth in labelled.items():
    for prediction, guess in predicted.items():
      union = len(truth | guess - void)
      if label[0] == prediction[0] and len(truth & guess) / union > 0.5:
        matched |= {("label", label), ("prediction", prediction)}
        sums["iou"][label[0]] += len(truth & guess) / union
        sums["tp"][label[0]] += 1
  for label in labelled:
    sums["fn"][label[0]] += ("label", label) not in matched
  for prediction, guess in predicted.items():
    is_void = len(guess & void) > len(guess) / 2
    unmatched = ("prediction", prediction) not in matched
    sums["fp"][prediction[0]] += unmatched and not is_void


def mean(values):
  values = [value for value in values if not np.isnan(value)]
  return sum(values) / len(values) if values else np.nan


def blocks(rng, high, size):
  """Integers in [0, high) in blocks of a few pixels."""
  coarse = rng.integers(0, high, (SHAPE[0], 5, 5))
  array = coarse.repeat(size, 1).repeat(size, 2)
  return array[:, : SHAPE[1], : SHAPE[2]]


@functools.cache
def compiled():
  return jax.jit(
    functools.partial(
      metrics.PanopticQuality.of, classes=K, things=THINGS, max_segments=32
    )
  )


@hypothesis.settings(max_examples=25, deadline=None, derandomize=True)
@hypothesis.given(
  seed=st.integers(0, 2**16),
  wrong=st.sampled_from((0.0, 0.1, 0.5)),
  void=st.sampled_from((0.0, 0.3, 1.0)),
)
def test_panoptic_quality(seed, wrong, void):
  rng = np.random.default_rng(seed)
  labels, label_ids = blocks(rng, K, 3), blocks(rng, 3, 4) * 10**9
  noise = rng.uniform(size=SHAPE) < wrong
  predictions = np.where(noise, rng.integers(-1, K + 1, SHAPE), labels)
  predicted_ids = np.where(noise, 5, label_ids // 10**8)
  labels = np.where(rng.uniform(size=SHAPE) < void, 255, labels)
  state = compiled()(predictions, predicted_ids, labels, label_ids)

  sums = {name: np.zeros(K) for name in ("iou", "tp", "fp", "fn")}
  for arrays in zip(predictions, predicted_ids, labels, label_ids, strict=True):
    add_image(sums, *arrays)
  np.testing.assert_allclose(state.iou, sums["iou"], rtol=1e-6)
  np.testing.assert_array_equal(state.true_positive, sums["tp"])
  np.testing.assert_array_equal(state.false_positive, sums["fp"])
  np.testing.assert_array_equal(state.false_negative, sums["fn"])

  qualities = []
  for k in range(K):
    below = sums["tp"][k] + (sums["fp"][k] + sums["fn"][k]) / 2
    qualities.append(sums["iou"][k] / below if below else np.nan)
  values = state.merge(state).compute()
  np.testing.assert_allclose(
    [values[f"pq/{k}"] for k in range(K)], qualities, rtol=1e-6
  )
  np.testing.assert_allclose(values["pq"], mean(qualities), rtol=1e-6)
  np.testing.assert_allclose(
    values["pq_things"], mean([qualities[k] for k in THINGS]), rtol=1e-6
  )
  for k in range(K):
    np.testing.assert_allclose(
      values[f"pq/{k}"], values[f"sq/{k}"] * values[f"rq/{k}"], rtol=1e-6
    )


def test_masks_and_too_many_segments(rng):
  labels, ids = blocks(rng, K, 3), blocks(rng, 9, 2)
  other = (labels + 1) % K
  # The wrong second image is masked.
  predictions = np.stack([labels[0], other[1]])
  where = np.zeros(SHAPE, bool)
  where[0] = True
  state = compiled()(predictions, ids, labels, ids, where=where)
  assert state.compute()["pq"] == 1 and not state.false_positive.any()
  # Masked pixels belong to neither side.
  where = rng.uniform(size=SHAPE) < 0.5
  predictions = np.where(where, labels, other)
  state = compiled()(predictions, ids, labels, ids, where=where)
  assert state.compute()["pq"] == 1
  numbers = np.arange(labels.size).reshape(SHAPE)
  state = compiled()(labels * 0 + 1, numbers, labels, ids, where=where)
  assert np.isnan(state.compute()["pq"])
  empty = metrics.PanopticQuality.empty(K, things=THINGS)
  assert np.isnan(empty.compute()["pq"])


def test_single_pixel_stuff():
  labels = np.zeros((1, 1), int)
  values = metrics.panoptic_quality(
    labels, labels, labels, labels, classes=("sky",), things=()
  )
  assert values["pq"] == 1 and np.isnan(values["pq_things"])
  with pytest.raises(ValueError, match="same shape"):
    metrics.panoptic_quality(
      labels, labels, labels[0], labels, classes=1, things=()
    )
  with pytest.raises(ValueError, match="instance numbers"):
    metrics.panoptic_quality(
      labels, labels[0], labels, labels, classes=1, things=()
    )
