"""Segmentation losses and their gradients against slow float64 references.

A reference takes the valid pixels of one image: logits `x (N, K)`, multi-hot
targets `y (N, K)`, class weights `w (K,)`, and the options of the loss.
"""

import functools

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from segsiam_jax import losses

SHAPES = ((2, 4, 5), (1, 2, 3, 4), (2, 11))
WEIGHTS = (0.5, 2.0, 1.0)


def softmax(x):
  exponentials = np.exp(x - x.max(-1, keepdims=True))
  return exponentials / exponentials.sum(-1, keepdims=True)


def sigmoid(x):
  return 1 / (1 + np.exp(-x))


def average(terms, weights, normalize, hardest_fraction=None):
  if not terms:
    return 0.0
  if hardest_fraction is not None:
    keep = max(1, round(hardest_fraction * len(terms)))
    order = np.argsort(terms)[::-1][:keep]
    terms, weights = np.array(terms)[order], np.array(weights)[order]
  divisor = {"weights": np.sum(weights), "pixels": len(terms), "none": 1}
  return np.sum(terms) / divisor[normalize]


def softmax_cross_entropy(
  x, y, w, m, label_smoothing=0.0, hardest_fraction=None, normalize="weights"
):
  terms, weights = [], []
  for n in range(len(x)):
    truth = y[n].argmax()
    total = 0.0
    for k in range(len(w)):
      q = (1 - label_smoothing) * (k == truth) + label_smoothing / len(w)
      total -= q * w[k] * np.log(softmax(x[n])[k])
    terms.append(m[n] * total)
    weights.append(m[n] * w[truth])
  return average(terms, weights, normalize, hardest_fraction)


def sigmoid_cross_entropy(x, y, w, m, positive_weight=1.0, normalize="weights"):
  positive_weight = np.broadcast_to(positive_weight, w.shape)
  terms, weights = [], []
  for n, k in np.ndindex(x.shape):
    p = sigmoid(x[n, k])
    loss = -positive_weight[k] * np.log(p) if y[n, k] else -np.log(1 - p)
    terms.append(m[n] * w[k] * loss)
    weights.append(m[n] * w[k])
  return average(terms, weights, normalize)


def focal_loss(
  x, y, w, m, activation="softmax", gamma=2.0, alpha=None, normalize="weights"
):
  terms, weights = [], []
  for n in range(len(x)):
    if activation == "softmax":
      k = y[n].argmax()
      truths = [(k, softmax(x[n])[k], 1.0)]
    else:
      balance = (1, 1) if alpha is None else (1 - alpha, alpha)
      truths = [
        (k, sigmoid(x[n, k] if y[n, k] else -x[n, k]), balance[int(y[n, k])])
        for k in range(len(w))
      ]
    for k, p, factor in truths:
      terms.append(-m[n] * w[k] * factor * (1 - p) ** gamma * np.log(p))
      weights.append(m[n] * w[k])
  return average(terms, weights, normalize)


def class_mean(values, y, w, include_background=True, absent="skip"):
  """Mean of `(K,)` values over the classes that count."""
  total = weight = 0.0
  for k, value in enumerate(values):
    if k == 0 and not include_background:
      continue
    if absent == "skip" and not y[:, k].any():
      continue
    total += w[k] * value
    weight += w[k]
  return total / weight if weight else 0.0


def probabilities(x, activation):
  return softmax(x) if activation == "softmax" else sigmoid(x)


def dice_loss(
  x, y, w, activation="softmax", smooth=1e-5, squared=False, **mean
):
  p = probabilities(x, activation)
  values = []
  for k in range(len(w)):
    above = 2 * np.sum(p[:, k] * y[:, k]) + smooth
    below = np.sum(p[:, k] ** (2 if squared else 1)) + y[:, k].sum() + smooth
    values.append(1 - above / below if below else 0.0)
  return class_mean(values, y, w, **mean)


def generalised_dice_loss(x, y, w, include_background=True, absent="skip"):
  p, above, below = softmax(x), 0.0, 0.0
  counted = range(0 if include_background else 1, len(w))
  sizes = [y[:, k].sum() for k in counted if y[:, k].any()]
  for k in counted:
    size = y[:, k].sum()
    if not size and absent == "skip":
      continue
    weight = w[k] / (size or min(sizes, default=1.0)) ** 2
    above += weight * 2 * np.sum(p[:, k] * y[:, k])
    below += weight * (p[:, k].sum() + size)
  return 1 - above / below if below else 0.0


def tversky_loss(
  x,
  y,
  w,
  alpha=0.3,
  beta=0.7,
  gamma=1.0,
  smooth=1e-5,
  activation="softmax",
  **mean,
):
  p = probabilities(x, activation)
  values = []
  for k in range(len(w)):
    tp = np.sum(p[:, k] * y[:, k])
    fp, fn = np.sum(p[:, k] * (1 - y[:, k])), np.sum((1 - p[:, k]) * y[:, k])
    index = (tp + smooth) / (tp + alpha * fp + beta * fn + smooth)
    values.append(max(1 - index, 0) ** gamma)
  return class_mean(values, y, w, **mean)


def lovasz_softmax_loss(x, y, w, **mean):
  p = softmax(x)

  def jaccard(wrong, truth):
    """1 - IoU when exactly these pixels are predicted wrong."""
    predicted = truth ^ wrong
    union = (predicted | truth).sum()
    return 1 - (predicted & truth).sum() / union if union else 0.0

  values = []
  for k in range(len(w)):
    truth, wrong = y[:, k] > 0, np.zeros(len(x), bool)
    errors, value, before = np.abs(y[:, k] - p[:, k]), 0.0, 0.0
    for n in np.argsort(-errors, stable=True):
      wrong[n] = True
      after = jaccard(wrong, truth)
      value += errors[n] * (after - before)
      before = after
    values.append(value)
  return class_mean(values, y, w, **mean)


# (loss, options that the reference takes too, other options, reference).
# References of losses by region get no pixel weights.
CASES = (
  [
    (losses.softmax_cross_entropy, options, softmax_cross_entropy)
    for options in (
      {},
      {"label_smoothing": 0.2},
      {"hardest_fraction": 0.3},
      {"normalize": "pixels", "label_smoothing": 0.1},
      {"normalize": "none"},
    )
  ]
  + [
    (losses.sigmoid_cross_entropy, options, sigmoid_cross_entropy)
    for options in ({}, {"positive_weight": (3.0, 0.5, 1.0)})
  ]
  + [
    (losses.focal_loss, options, focal_loss)
    for options in (
      {},
      {"gamma": 0.5},
      {"activation": "sigmoid", "alpha": 0.25, "gamma": 1.5},
    )
  ]
  + [
    (losses.dice_loss, options, dice_loss)
    for options in (
      {},
      {"squared": True, "smooth": 1.0},
      {"absent": "count", "include_background": False},
      {"activation": "sigmoid", "smooth": 0.0},
    )
  ]
  + [
    (
      functools.partial(losses.dice_loss, generalised=True, smooth=0.0),
      options,
      generalised_dice_loss,
    )
    for options in ({}, {"absent": "count"}, {"include_background": False})
  ]
  + [
    (
      losses.jaccard_loss,
      {"smooth": 0.5},
      functools.partial(tversky_loss, alpha=1.0, beta=1.0),
    ),
    (losses.tversky_loss, {"alpha": 0.2, "absent": "count"}, tversky_loss),
    (losses.focal_tversky_loss, {"gamma": 0.75}, tversky_loss),
    (losses.focal_tversky_loss, {"gamma": 2.0}, tversky_loss),
    (losses.lovasz_softmax_loss, {}, lovasz_softmax_loss),
    (losses.lovasz_softmax_loss, {"absent": "count"}, lovasz_softmax_loss),
  ]
)
BY_PIXEL = (softmax_cross_entropy, sigmoid_cross_entropy, focal_loss)


@functools.cache
def compiled(index):
  """`(logits, labels, arguments) -> (B,) values, gradient of their sum`."""
  loss, options, _ = CASES[index]

  def total(logits, labels, arguments):
    values = loss(logits, labels, **options, **arguments)
    return values.sum(), values

  gradient = jax.grad(total, has_aux=True)
  return jax.jit(lambda *args: gradient(*args)[::-1])


def expected(index, logits, labels, arguments):
  """`(B,)` of the reference, in float64."""
  _, options, reference = CASES[index]
  num_classes = logits.shape[-1]
  values = []
  for b in range(logits.shape[0]):
    y = labels[b].reshape(-1)
    valid = (y != 255) & (arguments["where"][b] != 0)
    x = np.float64(logits[b]).reshape(-1, num_classes)[valid]
    inputs = [x, np.eye(num_classes)[y[valid]], np.array(WEIGHTS)]
    if reference in BY_PIXEL:
      inputs.append(np.float64(arguments["pixel_weights"][b]).ravel()[valid])
    values.append(reference(*inputs, **options))
  return np.array(values)


@pytest.mark.parametrize(
  "index",
  range(len(CASES)),
  ids=[
    f"{getattr(case[2], '__name__', 'jaccard_loss')}-{case[1]}"
    for case in CASES
  ],
)
@hypothesis.settings(max_examples=8, deadline=None, derandomize=True)
@hypothesis.given(
  seed=st.integers(0, 2**16),
  ignored=st.sampled_from((0.0, 0.3, 0.9, 1.0)),
  classes=st.sampled_from(((0, 1, 2), (0, 2), (1,))),
  where=st.sampled_from(((1, 1), (0, 1))),
)
def test_values_and_gradients(index, seed, ignored, classes, where):
  rng = np.random.default_rng(seed)
  # One shape a case: every further one is a further compilation.
  shape = SHAPES[index % len(SHAPES)]
  logits = rng.normal(0, 2, (*shape, 3)).astype(np.float32)
  labels = rng.choice(classes, shape)
  labels[rng.uniform(size=shape) < ignored] = 255
  arguments = {
    "class_weights": np.float32(WEIGHTS),
    "where": np.float32(where[-shape[0] :]),
  }
  if CASES[index][2] in BY_PIXEL:
    arguments["pixel_weights"] = rng.uniform(0.5, 2, shape).astype(np.float32)
  values, gradient = compiled(index)(logits, labels.astype(np.uint8), arguments)
  assert values.dtype == jnp.float32
  np.testing.assert_allclose(
    values, expected(index, logits, labels, arguments), rtol=2e-5, atol=2e-6
  )
  # The derivative along a random direction, by central differences.
  direction = rng.normal(size=logits.shape)
  step = 1e-6 * direction
  difference = expected(index, logits + step, labels, arguments)
  difference -= expected(index, logits - step, labels, arguments)
  np.testing.assert_allclose(
    np.sum(np.float64(gradient) * direction),
    difference.sum() / 2e-6,
    rtol=1e-3,
    atol=1e-5,
  )
