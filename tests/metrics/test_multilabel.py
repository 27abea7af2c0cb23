import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segsiam_jax.fields.semantic import MOST_OVERLAPPING
from segsiam_jax.metrics import MultilabelCounts
from segsiam_jax.metrics.base import widen
from segsiam_jax.ops import multilabel


def test_scores_are_those_of_each_class_by_itself(rng):
  labels = rng.choice([0, 1, 255], size=(3, 4, 5, 2), p=[0.5, 0.3, 0.2])
  predictions = rng.random((3, 4, 5, 2)) < 0.4
  where = np.array([1, 0, 1])
  state = jax.jit(
    lambda p, y: MultilabelCounts.of(p, y, classes="ab", where=where)
  )(predictions, labels)
  values = widen(state.merge(state)).compute()
  right = total = 0
  for index, name in enumerate("ab"):
    truth, found = labels[[0, 2], ..., index], predictions[[0, 2], ..., index]
    found, truth = found[truth != 255], truth[truth != 255]
    hits = sum(1 for f, t in zip(found, truth, strict=True) if f and t)
    assert values[f"iou/{name}"] == hits / (found | truth).sum()
    assert values[f"dice/{name}"] == 2 * hits / (found.sum() + truth.sum())
    assert values[f"precision/{name}"] == hits / found.sum()
    assert values[f"recall/{name}"] == hits / truth.sum()
    right, total = right + (found == truth).sum(), total + truth.size
  assert values["pixel_accuracy"] == right / total
  both = [values["iou/a"], values["iou/b"]]
  assert values["mean_iou"] == pytest.approx(np.mean(both), rel=1e-12)


def test_what_is_not_defined_is_nan():
  labels = jnp.zeros((1, 3, 2), int).at[0, 0, 0].set(1)
  state = MultilabelCounts.of(labels > 0, labels, classes=2)
  values = widen(state).compute()
  assert values["mean_iou"] == values["iou/0"] == 1
  assert np.isnan(values["iou/1"]) and np.isnan(values["recall/1"])
  empty = widen(MultilabelCounts.empty(2)).compute()
  assert all(np.isnan(value) for value in empty.values())
  # A label that is neither yes nor no does not count.
  odd = MultilabelCounts.of(labels > 0, labels + 2, classes=2)
  assert not widen(odd).counts.any()


def test_shapes_are_checked():
  with pytest.raises(ValueError, match="2 classes in the last axis; .* 3"):
    MultilabelCounts.of(
      jnp.zeros((1, 4, 2)), jnp.zeros((1, 4, 2), int), classes="abc"
    )


def test_labels_of_bits(rng):
  assert multilabel.MOST_CLASSES == MOST_OVERLAPPING
  masks = rng.random((2, 3, MOST_OVERLAPPING)) < 0.5
  masks[0, 0] = True
  label = multilabel.pack(masks)
  assert label.dtype == np.int32 and (label != multilabel.IGNORE).all()
  for unpack in (
    multilabel.unpack,
    jax.jit(multilabel.unpack, static_argnums=1),
  ):
    np.testing.assert_array_equal(unpack(label, MOST_OVERLAPPING), masks)
  with pytest.raises(ValueError, match="31 classes; 30 fit"):
    multilabel.pack(np.zeros((1, 31), bool))
