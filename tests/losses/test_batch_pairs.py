import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segsiam_jax import losses


def slow_contrastive(x, labels, ids, where, margin, positive_margin, squared):
  same, different = [], []
  for a in range(len(x)):
    for b in range(len(x)):
      if a == b or not (where[a] and where[b]) or ids[a] == ids[b]:
        continue
      d = np.linalg.norm(x[a] - x[b])
      power = 2 if squared else 1
      if labels[a] == labels[b]:
        same.append(max(0, d - positive_margin) ** power)
      else:
        different.append(max(0, margin - d) ** power)
  return (np.mean(same) + np.mean(different)) / 2


@pytest.mark.parametrize("squared", [True, False])
def test_contrastive_is_the_formula(rng, squared):
  x = rng.normal(size=(9, 3)) * 0.6
  labels, where = rng.integers(3, size=9), np.ones(9)
  where[4] = 0
  ids = np.array([0, 1, 2, 3, 4, 5, 5, 7, 8])
  loss = losses.batch_contrastive_loss(
    jnp.asarray(x),
    labels,
    margin=1.2,
    positive_margin=0.1,
    squared=squared,
    where=where,
    ids=ids,
  )
  expected = slow_contrastive(x, labels, ids, where, 1.2, 0.1, squared)
  assert float(loss.mean()) == pytest.approx(expected, rel=1e-5)
  assert loss.weights[4] == 0
  assert float(loss.weights.sum()) == pytest.approx(2)


@pytest.mark.slow
def test_nothing_to_compare_costs_nothing():
  def total(x, labels):
    return losses.batch_contrastive_loss(x, labels).mean()

  for labels in (jnp.zeros(1, int), jnp.arange(3)):
    x = jnp.zeros((len(labels), 2))
    value, grad = jax.value_and_grad(total)(x, labels)
    assert jnp.isfinite(value)
    assert jnp.isfinite(grad).all()
  assert total(jnp.zeros((1, 2)), jnp.zeros(1, int)) == 0


def slow_prototypical(support, queries, temperature):
  out = np.zeros(queries.shape[:-1])
  for e, n, q in np.ndindex(out.shape):
    d = ((queries[e, n, q] - support[e].mean(1)) ** 2).sum(-1) / temperature
    out[e, n, q] = d[n] + np.log(np.exp(-d).sum())
  return out


def test_prototypical_is_the_formula(rng):
  support = rng.normal(size=(2, 4, 3, 5))
  queries = rng.normal(size=(2, 4, 2, 5))
  loss = losses.prototypical_loss(
    jnp.asarray(support), jnp.asarray(queries), temperature=2.0
  )
  np.testing.assert_allclose(
    loss, slow_prototypical(support, queries, 2.0), rtol=1e-4
  )
  assert losses.prototypical_loss(support[0], queries[0]).shape == (4, 2)
  constant = losses.prototypical_loss(
    jnp.zeros((4, 1, 2)), jnp.zeros((4, 3, 2))
  )
  np.testing.assert_allclose(constant, np.log(4), rtol=1e-6)
  with pytest.raises(
    ValueError, match=r"queries: .* N=4, D=5; got \(2, 3, 2, 5\)"
  ):
    losses.prototypical_loss(support, queries[:, :3])


ANCHORED = {
  "triplet": losses.batch_triplet_loss,
  "semi_hard": lambda *args, **kwargs: losses.batch_triplet_loss(
    *args, mining="semi_hard", **kwargs
  ),
  "all": lambda *args, **kwargs: losses.batch_triplet_loss(
    *args, mining="all", **kwargs
  ),
  "nt_xent": losses.nt_xent_loss,
  "supervised_contrastive": losses.supervised_contrastive_loss,
  "multi_similarity": losses.multi_similarity_loss,
  "contrastive": losses.batch_contrastive_loss,
}


@pytest.mark.parametrize("name", list(ANCHORED))
def test_anchors_of_a_memory_are_those_of_the_batch(rng, name):
  """The first rows' values are the same, whether the others are anchors."""
  x = jnp.asarray(rng.normal(size=(10, 4)), jnp.float32)
  labels, ids = jnp.asarray(rng.integers(3, size=10)), jnp.arange(10)
  where = jnp.ones(10).at[8].set(0)
  every = ANCHORED[name](x, labels, where=where, ids=ids)
  some = ANCHORED[name](x, labels, where=where, ids=ids, num_anchors=4)
  assert some.values.shape == some.weights.shape == (4,)
  if name == "contrastive":
    # Weighed by the pairs of the anchors alone.
    assert float(some.weights.sum()) == pytest.approx(2)
    return
  np.testing.assert_allclose(some.values, every.values[:4], rtol=1e-4)
  np.testing.assert_array_equal(some.weights, every.weights[:4])
