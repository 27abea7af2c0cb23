"""Detection losses against loops in float64 that gather what is sampled."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segsiam_jax import losses
from segsiam_jax.metrics.base import Mean

B, A, C = 3, 6, 4


def smooth_l1(prediction, target, beta):
  total = 0.0
  for p, t in zip(prediction, target, strict=True):
    d = abs(float(p) - float(t))
    total += (
      d if beta == 0 else (0.5 * d * d / beta if d < beta else d - 0.5 * beta)
    )
  return total


def cross_entropy(logits, label):
  logits = np.asarray(logits, np.float64)
  return (
    np.log(np.exp(logits - logits.max()).sum()) + logits.max() - logits[label]
  )


def binary_cross_entropy(logit, label):
  logit = float(logit)
  return max(logit, 0) - logit * label + np.log1p(np.exp(-abs(logit)))


def batch(seed):
  """Random inputs; some images have nothing sampled, or no positives."""
  rng = np.random.default_rng(seed)
  sampled = rng.random((B, A)) < rng.choice([0.0, 0.5, 1.0], (B, 1))
  labels = rng.integers(0, C, (B, A)) * (rng.random((B, 1)) < 0.7)
  return {
    "sampled": sampled,
    "labels": labels,
    "objectness": rng.normal(0, 3, (B, A)),
    "logits": rng.normal(0, 3, (B, A, C)),
    "deltas": rng.normal(size=(B, A, 4)),
    "class_deltas": rng.normal(size=(B, A, C, 4)),
    "targets": rng.normal(size=(B, A, 4)),
    "mask_logits": rng.normal(0, 3, (B, A, 3, 2, C)),
    "masks": rng.random((B, A, 3, 2)),
  }


def indices(mask):
  return list(zip(*np.nonzero(mask), strict=True))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.0, 1 / 9, 1.0]))
def test_rpn_loss(seed, beta):
  data = batch(seed)
  labels = np.minimum(data["labels"], 1)
  # What is not sampled may be anything.
  objectness = np.where(data["sampled"], data["objectness"], np.nan)
  loss = _RPN(
    objectness, data["deltas"], labels, data["targets"], data["sampled"], beta
  )
  chosen = indices(data["sampled"])
  count = max(len(chosen), 1)
  entropy = sum(
    binary_cross_entropy(data["objectness"][i], labels[i]) for i in chosen
  )
  boxes = sum(
    smooth_l1(data["deltas"][i], data["targets"][i], beta)
    for i in chosen
    if labels[i]
  )
  np.testing.assert_allclose(loss.objectness.mean(), entropy / count, rtol=1e-4)
  np.testing.assert_allclose(loss.boxes.mean(), boxes / count, rtol=1e-4)


_RPN = jax.jit(
  lambda objectness, deltas, labels, targets, sampled, beta: losses.rpn_loss(
    objectness, deltas, labels, targets, sampled=sampled, beta=beta
  ),
  static_argnums=5,
)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.booleans())
def test_box_head_loss(seed, class_agnostic):
  data = batch(seed)
  deltas = (
    data["class_deltas"][:, :, :1] if class_agnostic else (data["class_deltas"])
  )
  # A label that is not sampled may be anything.
  labels = np.where(data["sampled"], data["labels"], -7)
  loss = _BOX(data["logits"], deltas, labels, data["targets"], data["sampled"])
  chosen = indices(data["sampled"])
  count = max(len(chosen), 1)
  entropy = sum(cross_entropy(data["logits"][i], labels[i]) for i in chosen)
  boxes = sum(
    smooth_l1(
      deltas[i][0 if class_agnostic else labels[i]], data["targets"][i], 1 / 9
    )
    for i in chosen
    if labels[i]
  )
  np.testing.assert_allclose(loss.classes.mean(), entropy / count, rtol=1e-4)
  np.testing.assert_allclose(loss.boxes.mean(), boxes / count, rtol=1e-4)


_BOX = jax.jit(
  lambda logits, deltas, labels, targets, sampled: losses.box_head_loss(
    logits, deltas, labels, targets, sampled=sampled
  )
)
_MASK = jax.jit(
  lambda logits, labels, targets, positive: losses.mask_loss(
    logits, labels, targets, positive=positive
  )
)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_mask_loss(seed):
  data = batch(seed)
  positive = data["sampled"] & (data["labels"] > 0)
  loss = _MASK(data["mask_logits"], data["labels"], data["masks"], positive)
  values = [
    binary_cross_entropy(
      data["mask_logits"][b, r, y, x, data["labels"][b, r]],
      data["masks"][b, r, y, x],
    )
    for b, r in indices(positive)
    for y in range(3)
    for x in range(2)
  ]
  expected = np.mean(values) if values else 0.0
  np.testing.assert_allclose(loss.mean(), expected, rtol=1e-4)


def test_values_and_weights_merge_to_the_mean():
  """Parts of a batch, as devices have them, give the whole batch's mean."""
  data = batch(3)
  data["sampled"][0] = True
  whole = _BOX(
    *(data[k] for k in ("logits", "class_deltas", "labels", "targets")),
    data["sampled"],
  ).classes
  states = [
    Mean.of(whole.values[part], where=whole.weights[part])
    for part in (slice(0, 1), slice(1, 3))
  ]
  merged = states[0].merge(states[1]).compute()[""]
  assert merged == pytest.approx(float(whole.mean()), rel=1e-6)


@pytest.mark.parametrize("nothing", [True, False])
def test_gradients_are_finite(nothing):
  data = {k: jnp.asarray(v) for k, v in batch(1).items()}
  sampled = jnp.zeros((B, A)) if nothing else data["sampled"]

  def total(objectness, deltas, logits, class_deltas, mask_logits):
    rpn = losses.rpn_loss(
      objectness, deltas, data["labels"], data["targets"], sampled=sampled
    )
    head = losses.box_head_loss(
      logits, class_deltas, data["labels"], data["targets"], sampled=sampled
    )
    mask = losses.mask_loss(
      mask_logits, data["labels"], data["masks"], positive=sampled
    )
    parts = (*rpn, *head, mask)
    return sum(part.mean() for part in parts)

  names = ("objectness", "deltas", "logits", "class_deltas", "mask_logits")
  inputs = [data[name].astype(jnp.float32) for name in names]
  value, grads = jax.jit(jax.value_and_grad(total, argnums=range(5)))(*inputs)
  assert bool(value == 0) == nothing
  for grad in grads:
    assert jnp.isfinite(grad).all()
    assert bool((grad == 0).all()) == nothing
  halves = [x.astype(jnp.bfloat16) for x in inputs]
  rounded = [x.astype(jnp.float32) for x in halves]
  assert total(*halves).dtype == jnp.float32
  np.testing.assert_allclose(total(*halves), total(*rounded), rtol=1e-3)


def test_smooth_l1_ignores_what_is_masked():
  value, grad = jax.value_and_grad(
    lambda p: losses.smooth_l1_loss(
      p, jnp.zeros((2, 4)), where=jnp.array([1, 0])
    ).sum()
  )(jnp.array([[1.0, 0, 0, 0], [jnp.inf, 1, 1, 1]]))
  assert value == 0.5
  np.testing.assert_array_equal(grad, [[1, 0, 0, 0], [0, 0, 0, 0]])


def test_giou_loss_pulls_boxes_together():
  box, target = jnp.array([0.0, 0, 3, 3]), jnp.array([2.0, 1, 6, 4])
  step = jax.jit(jax.grad(lambda b: losses.giou_loss(b, target)))
  for _ in range(300):
    box = box - 0.2 * step(box)
  assert losses.giou_loss(box, target) < 0.2
  empty = jnp.zeros((2, 4))
  assert jnp.isfinite(
    jax.grad(lambda b: losses.giou_loss(b, b).sum())(empty)
  ).all()
