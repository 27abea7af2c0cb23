"""The Siamese task: losses of every kind, maps, memory and warnings."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segsiam_jax import inputs, losses
from segsiam_jax.config import validate
from segsiam_jax.engine import runs
from segsiam_jax.fields.siamese_losses import LOSSES
from segsiam_jax.tasks import memory, siamese_losses
from tests.siamese_data import make_siamese_config


def prepare(config, train=True):
  """(task, params, model_state, first batch) of a config."""
  validate(config)
  data = inputs.open_inputs(config, train=train)
  config = inputs.of_evaluation(config, data.source, ())
  task = runs.make_task(config, data.element_spec)
  params, model_state = jax.jit(task.init)(jax.random.key(0))
  iterator = iter(data.batches)
  batch = next(iterator)
  if train:
    iterator.close()
  return task, params, model_state, batch


def plain(identity_root, **weights):
  """Nothing random and no batch statistics; only these losses."""
  config = make_siamese_config(identity_root)
  config.model.norm = "none"
  config.augment.rotate = config.augment.noise = 0.0
  config.loss.triplet = 0.0
  for name, value in weights.items():
    config.loss[name] = value
  return config


@pytest.mark.slow
def test_loss_is_the_library_s(identity_root):
  config = plain(identity_root, triplet=1.0, supervised_contrastive=0.5)
  task, params, model_state, batch = prepare(config)
  out = jax.jit(task.loss_fn)(params, model_state, batch, jax.random.key(1))
  embeddings = task.predict(params, model_state, batch)["embeddings"]
  np.testing.assert_allclose(jnp.linalg.norm(embeddings, axis=1), 1, rtol=1e-5)
  triplet = losses.batch_triplet_loss(embeddings, batch["label"]).mean()
  contrastive = losses.supervised_contrastive_loss(
    embeddings, batch["label"]
  ).mean()
  assert float(out.loss) == pytest.approx(
    float(triplet + 0.5 * contrastive), rel=1e-4
  )
  values = {name: m.compute()[""] for name, m in out.metrics.items()}
  assert values["triplet"] == pytest.approx(float(triplet), rel=1e-4)
  assert 0 < values["active"] <= 1
  center = embeddings - embeddings.mean(0)
  spread = jnp.sqrt(jnp.square(center).sum(1).mean())
  assert values["spread"] == pytest.approx(float(spread), rel=1e-3)


KINDS = {
  "binary": "pairs",
  "prototypical": "episodes",
  "arcface": "examples",
  "cross_entropy": "examples",
}


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_has_a_finite_gradient(identity_root, name):
  config = plain(identity_root, **{name: 1.0})
  config.batch.kind = KINDS.get(name, "identities")
  config.batch.ways, config.batch.queries = 4, 1
  if name == "binary":
    config.model.head, config.model.normalize = "learned", False
  task, params, model_state, batch = prepare(config)

  @jax.jit
  def loss(params):
    return task.loss_fn(params, model_state, batch, jax.random.key(1)).loss

  value, grads = jax.value_and_grad(loss)(params)
  assert jnp.isfinite(value)
  assert value > 0
  for leaf in jax.tree.leaves(grads):
    assert jnp.isfinite(leaf).all()
  assert jnp.abs(grads["tower"]["conv1"]["kernel"]).max() > 0


@pytest.mark.parametrize(
  ("kind", "name"), [("pairs", "contrastive"), ("triplets", "triplet")]
)
def test_given_pairs_and_triplets_are_the_ones_compared(
  identity_root, kind, name
):
  config = plain(identity_root, **{name: 1.0})
  config.batch.kind = kind
  task, params, model_state, batch = prepare(config)
  out = jax.jit(task.loss_fn)(params, model_state, batch, jax.random.key(1))

  def embed(branch):
    return task.predict(params, model_state, {"image": batch[branch]})[
      "embeddings"
    ]

  if kind == "pairs":
    same = batch["label"] == batch["other_label"]
    apart = jnp.linalg.norm(embed("image") - embed("other"), axis=1)
    expected = losses.contrastive_loss(apart, same).mean()
  else:
    expected = losses.triplet_loss(
      embed("image"),
      embed("positive"),
      embed("negative"),
      distance="euclidean",
    ).mean()
  assert float(out.loss) == pytest.approx(float(expected), rel=1e-4)


def bent(identity_root):
  """Maps, compared by bending them, with distorted views."""
  config = make_siamese_config(identity_root, "strokes")
  config.model.update(width=4, depth=1, head="deformable")
  config.data.mean, config.data.std = (0.0,), (255.0,)
  config.loss.update(triplet=0.0, prototypical=1.0)
  config.loss.prototypical_temperature = 0.05
  config.batch.update(kind="episodes", ways=4, shots=1, queries=1)
  config.eval.views = 2
  return config


@pytest.mark.slow
def test_maps_learn_to_be_bent(identity_root):
  config = bent(identity_root)
  task, params, model_state, batch = prepare(config)
  assert (params["penalty"], params["temperature"]) == (
    pytest.approx(np.log(0.01)),
    0,
  )

  def loss(params):
    return task.loss_fn(params, model_state, batch, jax.random.key(1)).loss

  value, grads = jax.jit(jax.value_and_grad(loss))(params)
  assert value > 0
  for leaf in jax.tree.leaves(grads):
    assert jnp.isfinite(leaf).all()
    assert jnp.abs(leaf).max() > 0
  # An image itself, and a distorted view.
  out = task.predict(params, model_state, batch)
  assert out["embeddings"].shape == (8, 2 * 8 * 8 * 12)
  plain_map, view = jnp.split(out["embeddings"], 2, axis=1)
  for part in (plain_map, view):
    np.testing.assert_allclose(jnp.linalg.norm(part, axis=1), 1, rtol=1e-5)
  assert jnp.abs(plain_map - view).max() > 0.01
  config.eval.views = 1
  alone = prepare(config)[0].predict(params, model_state, batch)
  np.testing.assert_allclose(alone["embeddings"], plain_map, atol=1e-6)


@pytest.mark.slow
def test_bent_maps_are_evaluated_pair_by_pair(identity_root):
  config = bent(identity_root)
  data = inputs.open_inputs(config, train=False)
  task = runs.make_task(config, data.element_spec)
  params, model_state = task.init(jax.random.key(0))
  metrics = task.host_metrics(data.source, params)
  for batch in data.batches:
    metrics.add(batch, task.predict(params, model_state, batch))
  values = metrics.compute()
  assert values["3_way_1_shot"] > 0.4
  assert 0 < values["auc"] <= 1
  assert "map_at_r" not in values
  # The nearest of several shots counts.
  trials = data.source.protocol.trials["3_way_2_shot"]
  embeddings = metrics.embeddings
  scores = metrics.score(
    embeddings[trials.query][:, None, None], embeddings[trials.support]
  )
  right = scores.max(-1).argmax(-1) == trials.answer
  assert values["3_way_2_shot"] == pytest.approx(right.mean(), abs=1e-6)


def test_turned_identities_turn_together(identity_root):
  config = plain(identity_root, triplet=1.0)
  config.augment.turn = "identity"
  config.data.image_size = (4, 4)
  _, _, _, batch = prepare(config)
  images = np.zeros((8, 4, 4, 1), np.uint8)
  images[:, 0, 1] = 255
  from segsiam_jax.ops import distort

  keys = jax.vmap(jax.random.fold_in, (None, 0))(
    jax.random.key(3), batch["label"]
  )
  turned = np.asarray(jax.vmap(distort.turn)(keys, images))
  for label in np.unique(batch["label"]):
    mine = turned[batch["label"] == label]
    assert (mine == mine[:1]).all()
  assert len({picture.tobytes() for picture in turned}) > 1


def embedded(labels, start=0):
  size = len(labels)
  return siamese_losses.Embedded(
    jnp.arange(start, start + size, dtype=jnp.float32)[:, None],
    jnp.asarray(labels),
    jnp.arange(start, start + size),
    jnp.ones(size),
  )


def test_memory_keeps_the_latest():
  state = memory.empty(5, 1)
  state = memory.remember(state, embedded([1, 2, 3]))
  known = memory.beside(embedded([9]), state, start=0)
  assert known.where.tolist() == [1, 1, 1, 1, 0, 0]
  late = memory.beside(embedded([9]), state, start=4)
  assert late.where.tolist() == [1, 0, 0, 0, 0, 0]
  state = memory.remember(state, embedded([4, 5, 6], start=3))
  assert state["labels"].tolist() == [6, 2, 3, 4, 5]
  assert state["contents"].tolist() == [5, 1, 2, 3, 4]
  assert (int(state["next"]), int(state["seen"])) == (1, 6)
  padded = embedded([7, 7, 7])._replace(where=jnp.array([1.0, 0.0, 0.0]))
  assert memory.remember(state, padded)["labels"].tolist() == [6, 7, -1, -1, 5]


def test_warnings_of_collapse(identity_root):
  task, *_ = prepare(plain(identity_root, triplet=1.0))
  assert task.watch({"spread": 0.5, "loss": 0.1, "active": 0.3}) == ""
  assert "all alike" in task.watch({"spread": 0.001, "loss": 0.1})
  assert "at its margin" in task.watch({"spread": 0.5, "loss": 0.2001})
  assert "no triplet has a loss" in task.watch(
    {"spread": 0.5, "loss": 0.0, "active": 0.0}
  )
