"""Pair and triplet losses against float64 formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segsiam_jax.losses import (
  binary_similarity_loss,
  contrastive_loss,
  triplet_loss,
)

B, D = 12, 6
quick = settings(max_examples=20, deadline=None, derandomize=True)
distance_lists = st.lists(
  st.floats(0, 3, width=32, allow_subnormal=False), min_size=B, max_size=B
)
logit_lists = st.lists(
  st.floats(-300, 300, width=32, allow_subnormal=False), min_size=B, max_size=B
)
flags = st.lists(st.booleans(), min_size=B, max_size=B)


def reference_contrastive(d, same, margin, positive_margin, squared, half):
  loss = max(0.0, d - positive_margin) if same else max(0.0, margin - d)
  loss = loss**2 if squared else loss
  return loss / 2 if half else loss


@pytest.mark.parametrize(
  ("squared", "half", "margin", "positive_margin"),
  [(True, False, 1.0, 0.0), (False, False, 0.7, 0.2), (True, True, 2.0, 0.1)],
)
def test_contrastive_loss(squared, half, margin, positive_margin):
  options = {
    "squared": squared,
    "half": half,
    "margin": margin,
    "positive_margin": positive_margin,
  }
  compiled = jax.jit(
    lambda d, same, where: contrastive_loss(d, same, where=where, **options)
  )

  @quick
  @given(distances=distance_lists, same=flags, where=flags)
  def check(distances, same, where):
    expected = [
      reference_contrastive(d, s, margin, positive_margin, squared, half) * w
      for d, s, w in zip(distances, same, where, strict=True)
    ]
    losses = compiled(np.float32(distances), np.array(same), np.array(where))
    assert losses.dtype == jnp.float32
    np.testing.assert_allclose(losses, expected, rtol=1e-5, atol=1e-6)

  check()


def test_hadsell_label_means_different():
  """Y = 0 is similar in the paper: 1/2 d^2, and 1/2 (m - d)^2 for Y = 1."""
  y = np.array([0, 1])
  losses = contrastive_loss(np.array([0.5, 0.5]), 1 - y, margin=2.0, half=True)
  np.testing.assert_allclose(losses, [0.5 * 0.5**2, 0.5 * 1.5**2])


def test_caffe_legacy_form():
  """max(0, margin - d^2) for different pairs."""
  d = np.array([0.5, 0.5, 2.0])
  losses = contrastive_loss(d**2, np.array([1, 0, 0]), squared=False)
  np.testing.assert_allclose(losses, [0.25, 0.75, 0.0])


@quick
@given(logits=logit_lists, same=flags, where=flags)
def test_binary_similarity_loss(logits, same, where):
  losses = compiled_binary(
    np.float32(logits), np.array(same), where=np.array(where)
  )
  expected = []
  for z, s, w in zip(np.float64(logits), same, where, strict=True):
    expected.append(
      w * (2.5 * np.logaddexp(0, -z) if s else np.logaddexp(0, z))
    )
  np.testing.assert_allclose(losses, expected, rtol=1e-5, atol=1e-6)


compiled_binary = jax.jit(
  lambda logits, same, where: binary_similarity_loss(
    logits, same, positive_weight=2.5, where=where
  )
)


def distance(x, y, name):
  if name == "cosine":
    return 1 - x @ y / (np.linalg.norm(x) * np.linalg.norm(y))
  if name == "l1":
    return np.abs(x - y).sum()
  squared = ((x - y) ** 2).sum()
  return squared if name == "sq_euclidean" else np.sqrt(squared)


@pytest.mark.parametrize(
  ("name", "soft", "swap"),
  [
    ("sq_euclidean", False, False),
    ("euclidean", False, True),
    ("cosine", True, False),
    ("l1", True, True),
  ],
)
def test_triplet_loss(name, soft, swap):
  compiled = jax.jit(
    lambda a, p, n, where: triplet_loss(
      a, p, n, distance=name, soft=soft, swap=swap, margin=0.3, where=where
    )
  )

  @quick
  @given(seed=st.integers(0, 999), where=flags)
  def check(seed, where):
    triplets = np.random.default_rng(seed).normal(size=(3, B, D))
    expected = []
    for a, p, n, w in zip(*triplets, where, strict=True):
      to_negative = distance(a, n, name)
      if swap:
        to_negative = min(to_negative, distance(p, n, name))
      violation = distance(a, p, name) - to_negative + 0.3
      loss = np.logaddexp(0, violation) if soft else max(0.0, violation)
      expected.append(w * loss)
    losses = compiled(*np.float32(triplets), np.array(where))
    assert losses.dtype == jnp.float32
    np.testing.assert_allclose(losses, expected, rtol=1e-4, atol=1e-5)

  check()


def as_function(loss, where):
  """Each loss as a function of embeddings `(3, B, D)`."""
  same = jnp.arange(B) % 2
  return {
    "contrastive": lambda x: contrastive_loss(x[0, :, 0], same, where=where),
    "binary": lambda x: binary_similarity_loss(x[0, :, 0], same, where=where),
    "triplet": lambda x: triplet_loss(
      x[0], x[1], x[2], distance="euclidean", swap=True, where=where
    ),
  }[loss]


@pytest.mark.parametrize("loss", ["contrastive", "binary", "triplet"])
def test_edges(loss, rng):
  """Equal vectors, NaN padding, compiled and not, half precision."""
  where = np.arange(B) < 4
  function = as_function(loss, where)
  compiled = jax.jit(jax.value_and_grad(lambda x: function(x).sum()))
  x = rng.normal(size=(3, B, D)).astype(np.float32)
  value, gradient = compiled(x)
  np.testing.assert_allclose(value, function(x).sum(), rtol=1e-6)
  assert (np.asarray(gradient)[:, 4:] == 0).all()

  with_nan = x.copy()
  with_nan[:, 4:] = np.nan
  for result, expected in zip(
    compiled(with_nan), (value, gradient), strict=True
  ):
    np.testing.assert_array_equal(result, expected)

  value, gradient = compiled(np.ones_like(x))
  assert np.isfinite(value) and np.isfinite(gradient).all()

  rounded = jnp.asarray(x, jnp.bfloat16)
  losses = function(rounded)
  assert losses.dtype == jnp.float32
  np.testing.assert_allclose(
    losses, function(rounded.astype(jnp.float32)), rtol=1e-3, atol=1e-3
  )


def test_one_pair():
  assert contrastive_loss(jnp.array([0.5]), jnp.array([1])).shape == (1,)
  x = jnp.ones((1, D))
  assert triplet_loss(x, x, x).tolist() == pytest.approx([0.2])
