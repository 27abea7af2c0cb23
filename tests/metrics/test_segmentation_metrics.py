"""Segmentation metrics against slow float64 references."""

import functools

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from segsiam_jax import metrics
from segsiam_jax.metrics import segmentation
from segsiam_jax.metrics.base import widen

K = 4
SHAPE = (2, 6, 7)

label_maps = st.fixed_dictionaries(
  {
    "seed": st.integers(0, 2**16),
    "label_classes": st.sampled_from(((0, 1, 2, 3), (0, 2), (1,))),
    "predicted_classes": st.sampled_from(((0, 1, 2, 3), (2, 3), (1,))),
    "ignored": st.sampled_from((0.0, 0.3, 1.0)),
    "where": st.sampled_from(((1, 1), (0, 1), (0, 0))),
  }
)
settings = hypothesis.settings(max_examples=25, deadline=None, derandomize=True)


def draw(case, shape=SHAPE):
  """Blocky predictions and labels, so that regions have an inside."""
  rng = np.random.default_rng(case["seed"])
  small = (shape[0], *(-(-size // 3) for size in shape[1:]))

  def blocks(classes):
    array = rng.choice(classes, small)
    for axis in range(1, len(shape)):
      array = array.repeat(3, axis)
    array = array[tuple(slice(size) for size in shape)]
    noise = rng.uniform(size=shape) < 0.1
    return np.where(noise, rng.choice(classes, shape), array)

  labels = blocks(case["label_classes"])
  labels[rng.uniform(size=shape) < case["ignored"]] = 255
  return blocks(case["predicted_classes"]), labels, np.float32(case["where"])


def count(predictions, labels, where):
  """`(B, K, K)` counts, one pixel at a time."""
  counts = np.zeros((len(labels), K, K), np.int64)
  for index in np.ndindex(labels.shape):
    if labels[index] < K and where[index[0]]:
      counts[index[0], labels[index], predictions[index]] += 1
  return counts


def scores(counts, absent):
  """IoU and Dice by class."""
  values = {"iou": [], "dice": []}
  for k in range(K):
    tp = counts[k, k]
    fp, fn = counts[:, k].sum() - tp, counts[k].sum() - tp
    if absent == "skip_unlabelled" and tp + fn == 0:
      iou = dice = np.nan
    elif tp + fp + fn == 0:
      iou = dice = {"zero": 0.0, "one": 1.0}.get(absent, np.nan)
    else:
      iou, dice = tp / (tp + fp + fn), 2 * tp / (2 * tp + fp + fn)
    values["iou"].append(iou)
    values["dice"].append(dice)
  return np.array(values["iou"]), np.array(values["dice"])


def mean(values):
  values = [value for value in values if not np.isnan(value)]
  return sum(values) / len(values) if values else np.nan


@functools.cache
def compile_counts(absent):
  def of(predictions, labels, where):
    state = metrics.ConfusionMatrix.of(
      predictions, labels, classes=K, where=where, absent=absent
    )
    options = {"where": where, "absent": absent}
    return (
      state,
      metrics.image_iou(predictions, labels, K, **options),
      metrics.image_dice(predictions, labels, K, **options),
    )

  return jax.jit(of)


@settings
@hypothesis.given(
  label_maps,
  st.sampled_from(("skip", "skip_unlabelled", "zero", "one")),
)
def test_confusion_matrix_and_image_scores(case, absent):
  predictions, labels, where = draw(case)
  state, image_iou, image_dice = compile_counts(absent)(
    predictions, labels.astype(np.uint8), where
  )
  assert state.counts.dtype == jnp.int32
  by_image = count(predictions, labels, where)
  counts = by_image.sum(0)
  np.testing.assert_array_equal(state.counts, counts)
  for b in range(len(labels)):
    iou, dice = scores(by_image[b], absent)
    np.testing.assert_allclose(image_iou[b], iou, rtol=1e-6)
    np.testing.assert_allclose(image_dice[b], dice, rtol=1e-6)

  iou, dice = scores(counts, absent)
  labelled, total = counts.sum(1), counts.sum()
  recalls = [
    counts[k, k] / labelled[k] if labelled[k] else np.nan for k in range(K)
  ]
  frequency_weighted = sum(
    labelled[k] / total * iou[k] for k in range(K) if labelled[k]
  )
  expected = {
    "mean_iou": mean(iou),
    "mean_dice": mean(dice),
    "pixel_accuracy": np.trace(counts) / total if total else np.nan,
    "mean_accuracy": mean(recalls),
    "frequency_weighted_iou": frequency_weighted if total else np.nan,
  }
  for k in range(K):
    expected |= {f"iou/{k}": iou[k], f"dice/{k}": dice[k]}
    expected[f"accuracy/{k}"] = recalls[k]
  values = state.compute()
  assert values.keys() == expected.keys()
  for name, value in values.items():
    assert isinstance(value, float)
    np.testing.assert_allclose(value, expected[name], rtol=1e-12, err_msg=name)


@pytest.mark.parametrize("num_classes", [1, 3, 21])
def test_counts_on_every_platform(num_classes, rng, monkeypatch):
  labels = rng.integers(-1, num_classes + 2, (2, 600)).astype(np.int32)
  predictions = rng.integers(-1, num_classes + 2, (2, 600)).astype(np.int32)
  known = (labels >= 0) & (labels < num_classes)
  known &= (predictions >= 0) & (predictions < num_classes)
  expected = np.zeros((2, num_classes, num_classes), int)
  rows = np.nonzero(known)[0]
  np.add.at(expected, (rows, labels[known], predictions[known]), 1)
  monkeypatch.setattr(segmentation, "_EXACT_FLOAT32", 256)
  for count_pixels in (
    segmentation._count_by_scatter,
    segmentation._count_by_matmul,
  ):
    np.testing.assert_array_equal(
      count_pixels(predictions, labels, num_classes), expected
    )


def test_confusion_matrix_merges_like_one_batch(rng):
  labels = rng.integers(0, K, (8, 5, 5))
  predictions = rng.integers(0, K, (8, 5, 5))
  names = ("sky", "road", "car", "tree")
  of = functools.partial(metrics.ConfusionMatrix.of, classes=names)
  whole = of(predictions, labels)
  merged = metrics.ConfusionMatrix.empty(names)
  for part in np.split(np.arange(8), [3, 4]):
    merged = merged.merge(of(predictions[part], labels[part]))
  assert merged.compute() == whole.compute()
  assert merged.compute()["iou/road"] == whole.compute()["iou/road"]
  # Fetched states add up beyond 32 bits.
  wide = widen(whole)
  for _ in range(30):
    wide = wide.merge(wide)
  assert wide.counts.sum() == 200 * 2**30
  np.testing.assert_allclose(
    wide.compute()["mean_iou"], whole.compute()["mean_iou"]
  )


def test_confusion_matrix_on_devices(rng):
  labels = rng.integers(0, K, (8, 5, 5))
  predictions = rng.integers(0, K, (8, 5, 5))
  where = np.float32([1, 1, 1, 0, 1, 1, 0, 0])
  expected = count(predictions, labels, where).sum(0)

  def of(predictions, labels, where):
    return metrics.ConfusionMatrix.of(
      predictions, labels, classes=K, where=where
    )

  mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
  batch = NamedSharding(mesh, PartitionSpec("data"))
  arrays = jax.device_put((predictions, labels, where), batch)
  compiled = jax.jit(of).lower(*arrays).compile()
  np.testing.assert_array_equal(compiled(*arrays).counts, expected)
  assert "all-gather" not in compiled.as_text()
  parts = [a.reshape(4, 2, *a.shape[1:]) for a in (predictions, labels, where)]
  summed = jax.pmap(
    lambda *args: jax.lax.psum(of(*args), "data"), axis_name="data"
  )(*parts)
  np.testing.assert_array_equal(summed.counts[0], expected)


def test_class_mean(rng):
  scores = rng.uniform(size=(6, 3)).astype(np.float32)
  scores[1:4, 0], scores[:, 2] = np.nan, np.nan
  where = np.float32([1, 0, 1, 1, 1, 1])
  state = metrics.ClassMean.empty(("a", "b", "c"))
  for part in (slice(0, 2), slice(2, 6)):
    state = state.merge(
      metrics.ClassMean.of(
        scores[part], classes=("a", "b", "c"), where=where[part]
      )
    )
  values = state.compute()
  means = [mean(scores[where > 0, k]) for k in range(3)]
  np.testing.assert_allclose(
    [values["a"], values["b"], values["c"]], means, rtol=1e-6
  )
  np.testing.assert_allclose(values[""], mean(means), rtol=1e-6)
  assert np.isnan(metrics.ClassMean.empty(2).compute()[""])
  with pytest.raises(ValueError, match="2 classes"):
    metrics.ClassMean.of(scores, classes=2)


def test_wrong_inputs():
  labels = np.zeros((1, 2, 2), int)
  with pytest.raises(ValueError, match="take the argmax"):
    metrics.ConfusionMatrix.of(np.zeros((1, 2, 2, 3)), labels, classes=3)
  with pytest.raises(TypeError, match="predictions are float"):
    metrics.image_iou(labels.astype(float), labels, 2)
  with pytest.raises(ValueError, match="absent is 'nan'"):
    metrics.image_iou(labels, labels, 2, absent="nan")
