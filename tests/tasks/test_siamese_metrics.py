"""Scores of Siamese networks: chance, perfection, and what has none."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segsiam_jax import inputs
from segsiam_jax.data.identity import identities
from segsiam_jax.data.identity.protocol import make_protocol
from segsiam_jax.engine import meshes, runs
from segsiam_jax.engine.state import TrainState
from segsiam_jax.evaluate import Evaluator
from segsiam_jax.ops.similarity import LearnedWeights
from segsiam_jax.tasks.siamese_metrics import SiameseMetrics
from tests.siamese_data import Numbers, make_siamese_config


def test_a_constant_tower_scores_by_chance(identity_root):
  """1/N, 50 % and an equal error rate of 50 %, through the whole evaluation."""
  config = make_siamese_config(identity_root)
  data = inputs.open_inputs(config, train=False)
  task = runs.make_task(config, data.element_spec)
  params, model_state = jax.jit(task.init)(jax.random.key(0))
  mesh = meshes.make_mesh(jax.devices()[:1])
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
