"""Proxy losses against float64 formulas."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segsiam_jax.losses import arcface_loss, cosface_loss, proxy_anchor_loss

B, C, D = 12, 5, 6
label_lists = st.lists(st.integers(0, C - 1), min_size=B, max_size=B)
flags = st.lists(st.booleans(), min_size=B, max_size=B)


def cosines_of(x, proxies):
  def unit(v):
    norms = np.linalg.norm(v, axis=1, keepdims=True)
    return np.where(norms > 1e-12, v / np.maximum(norms, 1e-12), 0.0)

  return unit(x) @ unit(proxies).T


def softmax_loss(cosines, label, target, scale):
  logits = scale * cosines.copy()
  logits[label] = scale * target
  return np.logaddexp.reduce(logits) - logits[label]


def reference_arcface(
  x, proxies, labels, where, *, guard, margin=0.5, scale=64
):
  losses = []
  for row, label, w in zip(cosines_of(x, proxies), labels, where, strict=True):
    theta = np.arccos(np.clip(row[label], -1, 1))
    target = np.cos(theta + margin)
    if guard == "linear" and theta >= np.pi - margin:
      target = row[label] - margin * np.sin(margin)
    if guard == "easy" and theta >= np.pi / 2:
      target = row[label]
    losses.append(softmax_loss(row, label, target, scale) if w else 0.0)
  return losses


def reference_cosface(x, proxies, labels, where, *, margin=0.35, scale=64):
  return [
    softmax_loss(row, label, row[label] - margin, scale) if w else 0.0
    for row, label, w in zip(cosines_of(x, proxies), labels, where, strict=True)
  ]


def reference_proxy_anchor(x, proxies, labels, where, margin=0.1, alpha=32):
  s = cosines_of(x, proxies)
  present = {label for label, w in zip(labels, where, strict=True) if w}
  pull = push = 0.0
  for p in range(C):
    own = [i for i in range(B) if where[i] and labels[i] == p]
    others = [i for i in range(B) if where[i] and labels[i] != p]
    pull += np.log1p(sum(np.exp(-alpha * (s[i, p] - margin)) for i in own))
    push += np.log1p(sum(np.exp(alpha * (s[i, p] + margin)) for i in others))
  return pull / max(len(present), 1) + push / C


def mean_of_proxy_anchor(x, proxies, labels, where=None):
  return proxy_anchor_loss(x, proxies, labels, where=where).mean()


LOSSES = {
  "arcface": (
    arcface_loss,
    functools.partial(reference_arcface, guard="linear"),
  ),
  "arcface, easy": (
    functools.partial(arcface_loss, guard="easy", margin=1.0, scale=8.0),
    functools.partial(reference_arcface, guard="easy", margin=1.0, scale=8.0),
  ),
  "arcface, none": (
    functools.partial(arcface_loss, guard="none", margin=1.0, scale=8.0),
    functools.partial(reference_arcface, guard="none", margin=1.0, scale=8.0),
  ),
  "cosface": (cosface_loss, reference_cosface),
  "proxy anchor": (mean_of_proxy_anchor, reference_proxy_anchor),
}


@jax.jit
def evaluate_all(x, proxies, labels, where):
  """Losses and both gradients; all losses, to compile only once."""

  def evaluate(loss):
    def total(x, proxies):
      losses = loss(x, proxies, labels, where=where)
      return losses.sum(), losses

    (_, losses), gradients = jax.value_and_grad(
      total, argnums=(0, 1), has_aux=True
    )(x, proxies)
    return losses, gradients

  return {name: evaluate(loss) for name, (loss, _) in LOSSES.items()}


def evaluate(name, *arguments):
  return jax.device_get(evaluate_all(*arguments)[name])


@pytest.mark.parametrize("name", LOSSES)
@settings(max_examples=20, deadline=None, derandomize=True)
@given(seed=st.integers(0, 9999), labels=label_lists, where=flags)
def test_values(name, seed, labels, where):
  random = np.random.default_rng(seed)
  x = random.normal(size=(B, D)).astype(np.float32)
  proxies = random.normal(size=(C, D)).astype(np.float32)
  losses, gradients = evaluate(
    name, x, proxies, np.array(labels), np.array(where)
  )
  assert losses.dtype == jnp.float32
  expected = LOSSES[name][1](np.float64(x), np.float64(proxies), labels, where)
  np.testing.assert_allclose(losses, expected, rtol=1e-4, atol=1e-4)
  assert all(np.isfinite(gradient).all() for gradient in gradients)


@pytest.mark.parametrize("name", LOSSES)
def test_edges(name, rng):
  """On the proxy, opposite to it, zero, masked NaN: all finite."""
  proxies = rng.normal(size=(C, D)).astype(np.float32)
  labels, everything = np.arange(B) % C, np.ones(B, bool)
  x = proxies[labels].copy()
  x[4], x[5] = -x[4], 0.0
  losses, gradients = evaluate(name, x, proxies, labels, everything)
  expected = LOSSES[name][1](
    np.float64(x), np.float64(proxies), labels, everything
  )
  # cos(theta + m) has derivative sin(m) / sin(theta) in cos(theta): a cosine
  # that is right to 1e-7 is an angle right to 3e-4 there.
  np.testing.assert_allclose(losses, expected, rtol=1e-3, atol=0.05)
  assert all(np.isfinite(gradient).all() for gradient in gradients)

  where = np.arange(B) < 4
  padded = x.copy()
  padded[4:] = np.nan
  bad_labels = np.where(where, labels, -1)
  padded_result = evaluate(name, padded, proxies, bad_labels, where)
  result = evaluate(name, x, proxies, labels, where)
  for left, right in zip(
    jax.tree.leaves(padded_result), jax.tree.leaves(result), strict=True
  ):
    np.testing.assert_array_equal(left, right)

  losses, gradients = evaluate(name, x, proxies, labels, np.zeros(B, bool))
  assert (np.asarray(losses) == 0).all()
  assert all((np.asarray(gradient) == 0).all() for gradient in gradients)


@pytest.mark.parametrize("name", LOSSES)
def test_gradient(name, rng):
  x, proxies = rng.normal(size=(B, D)), rng.normal(size=(C, D))
  labels, where = np.arange(B) ** 2 % C, np.ones(B, bool)
  _, gradients = evaluate(
    name, np.float32(x), np.float32(proxies), labels, where
  )
  step, reference = 1e-6, LOSSES[name][1]
  for argument, gradient in enumerate(gradients):
    expected = np.zeros(gradient.shape)
    for index in np.ndindex(*gradient.shape):
      difference = 0.0
      for sign in (1, -1):
        arguments = [x.copy(), proxies.copy()]
        arguments[argument][index] += sign * step
        difference += sign * np.sum(reference(*arguments, labels, where))
      expected[index] = difference / (2 * step)
    np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["arcface", "cosface", "proxy anchor"])
def test_eager_half_precision_and_one_example(name, rng):
  loss, reference = LOSSES[name]
  x = jnp.asarray(rng.normal(size=(B, D)), jnp.bfloat16)
  proxies = jnp.asarray(rng.normal(size=(C, D)), jnp.bfloat16)
  labels, everything = np.arange(B) % C, np.ones(B, bool)
  eager = loss(x, proxies, labels)
  assert eager.dtype == jnp.float32
  expected = reference(np.float64(x), np.float64(proxies), labels, everything)
  np.testing.assert_allclose(eager, expected, rtol=1e-3, atol=1e-4)
  jitted, _ = evaluate(
    name, *(np.asarray(v, np.float32) for v in (x, proxies)), labels, everything
  )
  np.testing.assert_allclose(eager, jitted, rtol=1e-5, atol=1e-5)
  assert np.isfinite(loss(x[:1], proxies, labels[:1])).all()


def test_arcface_beyond_pi():
  """Beyond pi - margin = 2.64 the plain formula rewards being farther."""
  angles = np.array([2.7, 3.0])
  x = np.stack([np.cos(angles), np.sin(angles)], axis=1)
  # The second proxy is far from both: its logit hardly matters.
  proxies, labels = np.array([[1.0, 0.0], [0.0, -1.0]]), np.array([0, 0])
  for guard, grows in (("none", False), ("linear", True), ("easy", True)):
    near, far = arcface_loss(x, proxies, labels, guard=guard)
    near, far = near - 64 * -np.sin(2.7), far - 64 * -np.sin(3.0)
    assert (far > near) == grows


def test_unknown_guard():
  with pytest.raises(ValueError, match=r"guard must be .* got 'hard'"):
    arcface_loss(
      jnp.ones((1, 2)), jnp.ones((2, 2)), jnp.array([0]), guard="hard"
    )
