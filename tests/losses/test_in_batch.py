"""In-batch losses against float64 loops over all pairs and triplets."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segsiam_jax.losses import (
  WeightedLoss,
  batch_triplet_loss,
  multi_similarity_loss,
  nt_xent_loss,
  supervised_contrastive_loss,
)
from segsiam_jax.metrics.base import Mean
from segsiam_jax.ops import (
  l2_normalize,
  mine_distance_weighted,
  pair_masks,
  pairwise_distances,
)
from tests.losses.in_batch_references import (
  averaged,
  cosines_of,
  distances_of,
  reference_multi_similarity,
  reference_nt_xent,
  reference_supcon,
  reference_triplets,
)

B, D = 12, 6


def triplets(**options):
  ours = dict(options)
  if ours.pop("squared", False):
    ours["distance"] = "sq_euclidean"
  if "fallback" in ours:
    ours["semi_hard_fallback"] = ours.pop("fallback")
  return (
    functools.partial(batch_triplet_loss, **ours),
    functools.partial(reference_triplets, **options),
  )


LOSSES = {
  "hard": triplets(mining="hard"),
  "hard, soft": triplets(mining="hard", soft=True, margin=0.0),
  "semi-hard": triplets(mining="semi_hard", squared=True, margin=1.0),
  "semi-hard, skip": triplets(
    mining="semi_hard", fallback="skip", average_over="active"
  ),
  "all": triplets(mining="all", soft=True),
  "all, active": triplets(mining="all", average_over="active"),
  "nt-xent": (nt_xent_loss, reference_nt_xent),
  "supcon": (supervised_contrastive_loss, reference_supcon),
  "multi-similarity": (multi_similarity_loss, reference_multi_similarity),
  "multi-similarity, all": (
    functools.partial(multi_similarity_loss, epsilon=None),
    functools.partial(reference_multi_similarity, epsilon=None),
  ),
}


@jax.jit
def evaluate_all(x, labels, where):
  """Mean, values, weights and gradient; all losses, to compile only once."""

  def evaluate(loss):
    def mean(x):
      result = loss(x, labels, where=where)
      return result.mean(), result

    (value, result), gradient = jax.value_and_grad(mean, has_aux=True)(x)
    return value, result, gradient

  return {name: evaluate(loss) for name, (loss, _) in LOSSES.items()}


def check(name, x, labels, where):
  """Compares with the loops and returns what was computed."""
  x, where = np.asarray(x, np.float32), np.asarray(where, np.float32)
  value, result, gradient = jax.device_get(
    evaluate_all(x, np.asarray(labels), where)[name]
  )
  values, weights = LOSSES[name][1](np.float64(x), labels, where)
  np.testing.assert_array_equal(result.weights, weights)
  np.testing.assert_allclose(result.values, values, rtol=1e-4, atol=2e-5)
  expected = np.dot(values, weights) / max(sum(weights), 1)
  np.testing.assert_allclose(value, expected, rtol=1e-4, atol=2e-5)
  assert np.isfinite(gradient).all()
  return value, result, gradient


@pytest.mark.parametrize("name", LOSSES)
@settings(max_examples=15, deadline=None, derandomize=True)
@given(
  seed=st.integers(0, 9999),
  labels=st.lists(st.integers(0, 3), min_size=B, max_size=B),
  where=st.lists(st.sampled_from([0.0, 1.0]), min_size=B, max_size=B),
)
def test_values(name, seed, labels, where):
  check(name, np.random.default_rng(seed).normal(size=(B, D)), labels, where)


@pytest.mark.parametrize("name", LOSSES)
def test_degenerate_batches(name, rng):
  x = rng.normal(size=(B, D))
  everything = np.ones(B)
  pairs = np.append(np.arange(B - 1) // 2, 9)  # Two singletons.
  check(name, x, pairs, everything)
  check(name, np.zeros((B, D)), pairs, everything)
  # All equal: distances are 0, whatever rounding does to the products.
  _, result, _ = check(name, np.tile(x[:1], (B, 1)), pairs, everything)
  if name == "hard":
    np.testing.assert_allclose(result.values[:-2], 0.2, atol=1e-6)
  # No negatives; no positives; nothing.
  single_class, _, _ = check(name, x, np.zeros(B, int), everything)
  singletons, _, gradient = check(name, x, np.arange(B), everything)
  nothing, _, _ = check(name, x, pairs, np.zeros(B))
  assert nothing == 0
  if name != "multi-similarity, all":  # Its two terms stand alone.
    assert single_class == singletons == 0
    assert (gradient == 0).all()


@pytest.mark.parametrize("name", LOSSES)
def test_gradient(name, rng):
  """Against differences of the loops, with padding of NaNs."""
  x = rng.normal(size=(B, D)).astype(np.float32)
  labels = np.array([0, 0, 0, 1, 1, 2, 3, 3, 3, 3, 1, 0])
  where = (np.arange(B) < 10).astype(np.float32)
  padded = x.copy()
  padded[10:] = np.nan
  _, _, gradient = evaluate_all(padded, labels, where)[name]

  def mean(x):
    values, weights = LOSSES[name][1](x, labels, where)
    return np.dot(values, weights) / max(sum(weights), 1)

  step, expected = 1e-5, np.zeros((B, D))
  for index in np.ndindex(B, D):
    shift = np.zeros((B, D))
    shift[index] = step
    expected[index] = (mean(x + shift) - mean(x - shift)) / (2 * step)
  np.testing.assert_allclose(gradient, expected, rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize(
  "name", ["hard", "semi-hard", "all", "nt-xent", "supcon", "multi-similarity"]
)
def test_eager_and_half_precision(name, rng):
  loss = LOSSES[name][0]
  x = jnp.asarray(rng.normal(size=(B, D)), jnp.bfloat16)
  labels, everything = jnp.arange(B) // 3, jnp.ones(B)
  eager = loss(x, labels, where=everything)
  assert eager.values.dtype == eager.weights.dtype == jnp.float32
  value, result, _ = check(name, x, labels, everything)
  for left, right in zip(eager, result, strict=True):
    np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(eager.mean(), value, rtol=1e-5)
  # No mask is a mask of ones.
  np.testing.assert_allclose(loss(x, labels).mean(), value, rtol=1e-5)


def test_one_example():
  """No pair, no loss; all in one program."""

  def total(x):
    where = jnp.ones(1)
    return sum(
      loss(x, jnp.zeros(1, int), where=where).mean()
      for loss, _ in LOSSES.values()
    )

  value, gradient = jax.jit(jax.value_and_grad(total))(jnp.ones((1, D)))
  assert value == 0 and (np.asarray(gradient) == 0).all()


def test_ids_are_no_pairs(rng):
  """Two copies of one example neither attract nor repel."""
  x = rng.normal(size=(B, D)).astype(np.float32)
  labels, ids = np.arange(B) // 3, np.arange(B)
  x[1], ids[1] = x[0], ids[0]
  loss = nt_xent_loss(x, labels, ids=ids)
  assert loss.weights.tolist() == [1.0, 1.0] + [2.0] * (B - 2)
  loss = batch_triplet_loss(x, labels, mining="all", ids=ids)
  assert loss.weights.tolist() == [9.0, 9.0] + [18.0] * (B - 2)
  assert batch_triplet_loss(x, labels, mining="all").weights[0] == 18


def test_distance_weighted(rng):
  """The loss of the negatives that the miner draws for each pair."""
  labels, key = np.arange(B) // 3, jax.random.key(3)

  @jax.jit
  def evaluate(x):
    def mean(x):
      loss = batch_triplet_loss(
        x, labels, mining="distance_weighted", rng=key, margin=0.5
      )
      return loss.mean(), loss

    unit = pairwise_distances(l2_normalize(x))
    masks = pair_masks(labels)
    mined = mine_distance_weighted(key, unit, *masks, embedding_size=D)
    return jax.value_and_grad(mean, has_aux=True)(x), mined

  x = rng.normal(size=(B, D)).astype(np.float32)
  ((_, loss), _), mined = evaluate(x)
  d = distances_of(np.float64(x), squared=False)
  values, weights = averaged(
    [
      [
        max(0.0, d[a, p] - d[a, mined.index[a, p]] + 0.5)
        for p in range(B)
        if mined.valid[a, p]
      ]
      for a in range(B)
    ]
  )
  np.testing.assert_allclose(loss.values, values, rtol=1e-4, atol=1e-5)
  assert loss.weights.tolist() == weights

  ((value, _), gradient), _ = evaluate(np.ones_like(x))
  np.testing.assert_allclose(value, 0.5, rtol=1e-5)
  assert np.isfinite(gradient).all()


@pytest.mark.parametrize("name", ["nt-xent", "supcon"])
def test_simclr_views(name, rng):
  """Two views of 4 images: cross-entropy over the other 7 examples."""
  x = rng.normal(size=(B, D)).astype(np.float32)
  labels = np.arange(B) % 4
  where = (np.arange(B) < 8).astype(np.float32)
  _, result, _ = evaluate_all(x, labels, where)[name]
  s = cosines_of(np.float64(x[:8])) / 0.1
  np.fill_diagonal(s, -np.inf)
  expected = [np.logaddexp.reduce(s[i]) - s[i, (i + 4) % 8] for i in range(8)]
  np.testing.assert_allclose(result.values[:8], expected, rtol=1e-4, atol=1e-5)


def test_memory_of_all_triplets():
  """No array over triplets, in either direction."""
  size = 512

  def mean(x):
    labels = jnp.arange(size) // 4
    return batch_triplet_loss(x, labels, mining="all").mean()

  memory = (
    jax.jit(jax.grad(mean))
    .lower(jax.ShapeDtypeStruct((size, D), jnp.float32))
    .compile()
    .memory_analysis()
  )
  assert memory.temp_size_in_bytes < 40 * size**2 * 4


def test_parts_add_up():
  """`Mean` over parts, merged, is the mean that is differentiated."""
  loss = WeightedLoss(
    values=jnp.array([1.0, 2.0, 0.0]), weights=jnp.array([3.0, 1.0, 0.0])
  )
  assert float(loss.mean()) == 1.25
  parts = [
    Mean.of(loss.values[part], where=loss.weights[part])
    for part in (slice(1), slice(1, 3))
  ]
  assert parts[0].merge(parts[1]).compute()[""] == 1.25
  nothing = WeightedLoss(jnp.zeros(2), jnp.zeros(2))
  assert float(nothing.mean()) == 0.0


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"mining": "best"}, r"mining must be .*got 'best'"),
    ({"mining": "distance_weighted"}, r"needs rng"),
    ({"average_over": "all"}, r"average_over must be .*got 'all'"),
    ({"distance": "dot"}, r"metric must be .*got 'dot'"),
  ],
)
def test_errors(options, message):
  with pytest.raises(ValueError, match=message):
    batch_triplet_loss(jnp.ones((2, 2)), jnp.zeros(2, int), **options)
