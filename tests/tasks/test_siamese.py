import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segsiam_jax import inputs, losses, parts
from segsiam_jax.config import default_config, validate
from segsiam_jax.data.identity import identities
from segsiam_jax.data.identity.protocol import make_protocol
from segsiam_jax.engine import runs, runtime
from segsiam_jax.engine.state import TrainState
from segsiam_jax.errors import UserError
from segsiam_jax.evaluate import Evaluator
from segsiam_jax.fields.siamese import MODELS
from segsiam_jax.fields.siamese_losses import LOSSES
from segsiam_jax.ops.similarity import LearnedWeights
from segsiam_jax.tasks import memory, siamese_losses
from segsiam_jax.tasks.siamese_metrics import SiameseMetrics
from tests.siamese_data import Numbers, make_siamese_config, write_splits


@pytest.fixture(scope="module")
def root(tmp_path_factory):
  return write_splits(tmp_path_factory.mktemp("identities"))


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


def plain(root, **weights):
  """Nothing random and no batch statistics; only these losses."""
  config = make_siamese_config(root)
  config.model.norm = "none"
  config.augment.rotate = config.augment.noise = 0.0
  config.loss.triplet = 0.0
  for name, value in weights.items():
    config.loss[name] = value
  return config


@pytest.mark.parametrize("name", list(MODELS))
def test_every_field_of_a_tower_is_in_the_config(name):
  """And the other way round, with the same default."""
  config = default_config("siamese", name)
  validate_size = {"koch": (105, 105), "signet": (155, 220)}
  config.data.image_size = validate_size.get(name, (64, 64))
  if name == "koch":
    config.loss.triplet, config.loss.binary = 0.0, 1.0
    config.batch.kind = "pairs"
  validate(config)
  ours = {
    field.name: field.default
    for field in dataclasses.fields(parts.load(MODELS[name].make))
    if field.name not in ("dtype", "axis_name", "parent", "name")
  }
  fields = config.model.to_dict()
  for extra in ("name", "head", "normalize"):
    fields.pop(extra)
  assert fields == ours


@pytest.mark.slow
def test_loss_is_the_library_s(root):
  config = plain(root, triplet=1.0, supervised_contrastive=0.5)
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
def test_every_loss_has_a_finite_gradient(root, name):
  config = plain(root, **{name: 1.0})
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
def test_given_pairs_and_triplets_are_the_ones_compared(root, kind, name):
  config = plain(root, **{name: 1.0})
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


def bent(root):
  """Maps, compared by bending them, with distorted views."""
  config = make_siamese_config(root, "strokes")
  config.model.update(width=4, depth=1, head="deformable")
  config.data.mean, config.data.std = (0.0,), (255.0,)
  config.loss.update(triplet=0.0, prototypical=1.0)
  config.loss.prototypical_temperature = 0.05
  config.batch.update(kind="episodes", ways=4, shots=1, queries=1)
  config.eval.views = 2
  return config


@pytest.mark.slow
def test_maps_learn_to_be_bent(root):
  config = bent(root)
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
def test_bent_maps_are_evaluated_pair_by_pair(root):
  config = bent(root)
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


def test_turned_identities_turn_together(root):
  config = plain(root, triplet=1.0)
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


def test_a_constant_tower_scores_by_chance(root):
  """1/N, 50 % and an equal error rate of 50 %, through the whole evaluation."""
  config = make_siamese_config(root)
  data = inputs.open_inputs(config, train=False)
  task = runs.make_task(config, data.element_spec)
  params, model_state = jax.jit(task.init)(jax.random.key(0))
  mesh = runtime.make_mesh(jax.devices()[:1])
  state = TrainState(
    step=jnp.zeros((), int),
    params=jax.tree.map(jnp.zeros_like, params),
    model_state=model_state,
    opt_state=(),
    rng=jax.random.key(0),
  )
  evaluator = Evaluator(config, task, data, mesh=mesh)
  metrics = evaluator(state).metrics
  assert metrics["3_way_1_shot"] == pytest.approx(1 / 3)
  assert metrics["3_way_2_shot"] == pytest.approx(1 / 3)
  assert metrics["auc"] == metrics["eer"] == 0.5
  assert metrics["verification_accuracy"] == 0.5
  assert metrics["threshold_far"] == 0.0
  # And a tower that is not constant does better.
  metrics = evaluator(state.replace(params=params)).metrics
  assert metrics["auc"] > 0.6


def perfect(protocol, head="euclidean", far=0.1, fars=()):
  """Metrics of one-hot embeddings, taken in two processes' order."""
  host = SiameseMetrics(protocol, head, far, fars)
  labels = protocol.labels
  one_hot = np.eye(labels.max() + 1, dtype=np.float32)[labels]
  for part in (np.arange(1, len(labels), 2), np.arange(0, len(labels), 2)):
    host.add(
      {"index": np.append(part, -1), "mask": np.append(np.ones(len(part)), 0)},
      {"embeddings": np.concatenate([one_hot[part], np.full((1, 4), np.nan)])},
    )
  return host.gather().compute()


def test_perfect_embeddings_score_perfectly():
  source = Numbers(np.repeat(np.arange(4), 6))
  protocol = make_protocol(
    source,
    pairs=80,
    folds=4,
    ways=9,
    shots=(1, 2),
    queries=2,
    episodes=9,
    within_group=False,
  )
  metrics = perfect(protocol, fars=(0.1, 1e-4))
  for name in (
    "4_way_1_shot",
    "4_way_2_shot",
    "auc",
    "threshold_tar",
    "verification_accuracy",
    "tar_at_far_0.1",
    "precision_at_1",
    "r_precision",
    "map_at_r",
  ):
    assert metrics[name] == 1.0, name
  assert metrics["eer"] == metrics["threshold_far"] == metrics["threshold"] == 0
  # Forty different pairs cannot show a rate of 1e-4.
  assert "tar_at_far_0.0001" not in metrics


def test_kinds_of_pairs_are_told_apart():
  source = Numbers(np.repeat(np.arange(4), 2))
  source.pairs = identities.Pairs(
    first=np.array([0, 2, 0, 0]),
    second=np.array([1, 3, 2, 1]),
    same=np.array([True, True, False, False]),
    fold=np.zeros(4, int),
    kind=np.array([0, 0, 1, 2]),
    kinds=("genuine", "random", "skilled"),
  )
  protocol = make_protocol(
    source,
    pairs=2,
    folds=2,
    ways=2,
    shots=(1,),
    queries=1,
    episodes=2,
    within_group=False,
  )
  with pytest.warns(UserWarning, match="measured as 0"):
    metrics = perfect(protocol)
  assert metrics["eer/random"] == 0
  assert metrics["eer/skilled"] == 0.5
  # Copies by hand score like the genuine: only no acceptance is safe.
  assert metrics["threshold"] == np.inf
  assert "verification_accuracy" not in metrics


def test_published_trials_have_wilson_intervals():
  source = Numbers(np.repeat(np.arange(4), 2))
  support = np.array([[[0], [2], [4]]]).repeat(3, 0)
  source.episodes = identities.Trials(
    np.array([1, 3, 5]), support, np.arange(3), np.zeros(3, int)
  )
  protocol = make_protocol(
    source,
    pairs=8,
    folds=2,
    ways=2,
    shots=(1,),
    queries=1,
    episodes=2,
    within_group=False,
  )
  metrics = perfect(protocol, far=0.5)
  assert metrics["3_way_1_shot"] == 1.0
  assert 0.4 < metrics["3_way_1_shot_low"] < 0.5
  assert "2_way_1_shot" not in metrics


def test_learned_similarity_needs_no_metric():
  source = Numbers(np.repeat(np.arange(3), 4))
  protocol = make_protocol(
    source,
    pairs=30,
    folds=3,
    ways=3,
    shots=(2,),
    queries=2,
    episodes=4,
    within_group=False,
  )
  learned = LearnedWeights(np.full(3, -2.0), np.float64(1.0))
  host = SiameseMetrics(protocol, "learned", 0.2, learned=learned)
  embeddings = np.eye(3, dtype=np.float32)[protocol.labels]
  host.add(
    {"index": np.arange(12), "mask": np.ones(12)},
    {"embeddings": embeddings},
  )
  metrics = host.gather().compute()
  assert metrics["auc"] == metrics["3_way_2_shot"] == 1.0
  assert metrics["threshold"] == 1.0
  assert "map_at_r" not in metrics


def test_an_example_that_was_not_embedded_is_an_error():
  source = Numbers(np.repeat(np.arange(3), 4))
  protocol = make_protocol(
    source,
    pairs=6,
    folds=3,
    ways=3,
    shots=(1,),
    queries=1,
    episodes=1,
    within_group=False,
  )
  host = SiameseMetrics(protocol, "cosine", 0.2)
  with pytest.raises(ValueError, match="12 of 12 examples were not embedded"):
    host.compute()


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


def test_warnings_of_collapse(root):
  task, *_ = prepare(plain(root, triplet=1.0))
  assert task.watch({"spread": 0.5, "loss": 0.1, "active": 0.3}) == ""
  assert "all alike" in task.watch({"spread": 0.001, "loss": 0.1})
  assert "at its margin" in task.watch({"spread": 0.5, "loss": 0.2001})
  assert "no triplet has a loss" in task.watch(
    {"spread": 0.5, "loss": 0.0, "active": 0.0}
  )


MISTAKES = [
  ({"loss.triplet": 0.0}, "all losses have weight 0"),
  ({"loss.binary": 1.0}, "loss.binary.*needs config.batch.kind = 'pairs'"),
  (
    {"loss.binary": 1.0, "batch.kind": "pairs"},
    "needs config.model.head = 'learned'",
  ),
  ({"model.head": "learned"}, "trained by loss.binary alone"),
  ({"loss.prototypical": 1.0}, "needs config.batch.kind = 'episodes'"),
  ({"batch.kind": "episodes"}, r"not a multiple of batch.ways \* .* = 20"),
  ({"batch.kind": "examples"}, "is for arcface, cosface"),
  ({"batch.per_identity": 3}, "not a multiple of batch.per_identity = 3"),
  ({"batch.per_identity": 8}, "holds one identity"),
  ({"train.grad_accum": 2}, "keep it whole"),
  ({"data.image_size": (16, 8), "augment.turn": "group"}, "need a square"),
  (
    {"augment.turn": "group", "loss.memory_size": 64},
    "makes other identities each time",
  ),
  ({"loss.arcface": 1.0, "loss.memory_size": 64}, "only for contrastive"),
  ({"augment.turn": "group", "loss.arcface": 1.0}, "not with arcface"),
  ({"data.dir": ""}, "the folder of the data is needed"),
  ({"model.head": "deformable"}, "it needs model 'strokes'"),
  ({"batch.by_drawer": True}, "needs config.batch.kind = 'episodes'"),
  (
    {"batch.by_drawer": True, "batch.kind": "episodes", "batch.ways": 2},
    "needs batch.shots = batch.queries = 1",
  ),
]


@pytest.mark.parametrize(("changes", "message"), MISTAKES)
def test_fields_that_do_not_go_together(root, changes, message):
  config = make_siamese_config(root)
  for name, value in changes.items():
    section, field = name.split(".")
    config[section][field] = value
  with pytest.raises(UserError, match=message):
    validate(config)


def test_splits_that_share_an_identity_are_told(root):
  config = make_siamese_config(root)
  config.data.eval_split = "train"
  train, test = (inputs.open_inputs(config, train=t) for t in (True, False))
  with pytest.raises(UserError, match=r"share identities: a0, a1, a2, ... .8"):
    inputs.check_together(config, train, test)
  config.data.shared_identities = True
  with pytest.raises(UserError, match="share 48 of 48 evaluation examples"):
    inputs.check_together(config, train, test)
  config.data.allow_overlap = True
  inputs.check_together(config, train, test)
