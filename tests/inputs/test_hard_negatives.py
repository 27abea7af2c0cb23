"""The numbers are the same over devices, backends and resumed runs."""

import json

import jax
import numpy as np
import pytest

from segsiam_jax import evaluate, train
from segsiam_jax.engine.checkpoint import Checkpointer
from segsiam_jax.errors import Preempted, UserError
from segsiam_jax.inputs import hard_negatives
from tests import step_runs
from tests.siamese_data import make_siamese_config, write_splits
from tests.train_runs import assert_equal


@pytest.fixture(scope="module")
def root(tmp_path_factory):
  return write_splits(tmp_path_factory.mktemp("identities"))


@pytest.fixture(scope="module")
def batch_hard(root):
  """BatchNorm, augmentation and batch-hard mining; plain momentum."""
  config = make_siamese_config(root)
  config.optimizer.name = "momentum"
  config.optimizer.learning_rate = 0.02
  config.loss.triplet_margin = 0.5
  return config


def variant(config, kind):
  config = config.copy_and_resolve_references()
  if kind == "memory":
    config.loss.memory_size = 24
    config.loss.memory_start = 16
    config.loss.nt_xent = 1.0
    config.loss.triplet_mining = "semi_hard"
  elif kind == "pairs":
    config.batch.kind = "pairs"
    config.loss.triplet, config.loss.contrastive = 0.0, 1.0
  elif kind == "triplets":
    config.batch.kind = "triplets"
  elif kind == "proxies":
    config.loss.triplet, config.loss.cosface = 0.0, 1.0
    config.loss.proxy_scale = 8.0
    config.data.class_names = tuple(f"a{n}" for n in range(8))
  elif kind == "random_mining":
    config.loss.triplet_mining = "distance_weighted"
  return config


def check(config):
  """One loss curve: of one device, of four, under jit and under pmap."""
  reference = step_runs.train(config, num_devices=1)
  assert reference[1][-1]["loss"] != reference[1][0]["loss"]
  for backend in ("jit", "pmap", "shard_map"):
    state, history, _ = step_runs.train(config, 4, backend)
    for ours, theirs in zip(history, reference[1], strict=True):
      assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-6)
    step_runs.assert_close(state, reference[0], rtol=1e-3)


@pytest.mark.slow
def test_batch_hard_agrees_over_devices_and_backends(batch_hard):
  check(batch_hard)


@pytest.mark.slow
@pytest.mark.parametrize(
  "kind", ["memory", "pairs", "triplets", "proxies", "random_mining"]
)
def test_others_agree_over_devices_and_backends(batch_hard, kind):
  check(variant(batch_hard, kind))


def slow_hardest(embeddings, labels, contents, count):
  out = np.full((len(labels), count), -1)
  for a in range(len(labels)):
    distances = np.linalg.norm(embeddings - embeddings[a], axis=1)
    order = [
      b
      for b in np.argsort(distances, kind="stable")
      if labels[b] != labels[a] and contents[b] != contents[a]
    ][:count]
    out[a, : len(order)] = order
  return out


@pytest.mark.parametrize("block", [1 << 26, 7 * 20])
def test_hardest_negatives_are_the_nearest_others(rng, monkeypatch, block):
  monkeypatch.setattr(hard_negatives, "_BLOCK_FLOATS", block)
  embeddings = rng.normal(size=(20, 3)).astype(np.float32)
  labels = rng.integers(2, size=20)
  contents = np.arange(20)
  contents[:4] = 0
  for count in (3, 15):
    found = hard_negatives.hardest_negatives(
      embeddings, labels, contents, count=count
    )
    np.testing.assert_array_equal(
      found, slow_hardest(embeddings, labels, contents, count)
    )


def read_losses(workdir):
  lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
  return [line["loss"] for line in lines if line["split"] == "train"]


@pytest.mark.slow
def test_a_mined_run_resumes_with_the_same_batches(root, tmp_path, monkeypatch):
  config = make_siamese_config(root)
  config.batch.kind, config.batch.mine_every = "triplets", 2
  config.train.log_every = 1
  whole = train.train_and_evaluate(config, str(tmp_path / "whole"))
  names = {path.name for path in (tmp_path / "whole/negatives").iterdir()}
  assert names == {"4.npy", "6.npy"}

  calls = []

  def stop_after_three(self):
    calls.append(1)
    return len(calls) >= 3

  monkeypatch.setattr(train.runtime.Preemption, "reached", stop_after_three)
  with pytest.raises(Preempted):
    train.train_and_evaluate(config, str(tmp_path / "parts"))
  monkeypatch.undo()
  state = train.train_and_evaluate(config, str(tmp_path / "parts"))
  assert_equal(state, whole)
  assert read_losses(tmp_path / "parts") == read_losses(tmp_path / "whole")

  (tmp_path / "whole/negatives/6.npy").unlink()
  config.train.num_steps = 7
  with pytest.raises(UserError, match=r"6\.npy: missing"):
    train.train_and_evaluate(config, str(tmp_path / "whole"))


@pytest.mark.slow
def test_what_a_checkpoint_needs_lives_as_long(root, tmp_path, monkeypatch):
  """Three searches after the last checkpoint, the run dies."""
  config = make_siamese_config(root)
  config.batch.kind, config.batch.mine_every = "triplets", 2
  config.train.update(num_steps=9, log_every=1)
  config.train.update(eval_every=9, checkpoint_every=3)
  whole = train.train_and_evaluate(config, str(tmp_path / "whole"))
  save, workdir = Checkpointer.save, tmp_path / "parts"
  after = hard_negatives.Miner.after

  def save_once(self, step, *args, **kwargs):
    if step == 3:
      save(self, step, *args, **kwargs)

  def die(self, step, *args):
    if step == 9:
      raise RuntimeError("the power is off")
    return after(self, step, *args)

  with monkeypatch.context() as patched:
    patched.setattr(Checkpointer, "save", save_once)
    patched.setattr(hard_negatives.Miner, "after", die)
    with pytest.raises(RuntimeError, match="power"):
      train.train_and_evaluate(config, str(workdir))
  assert (workdir / "checkpoints/3/negatives/2.npy").exists()
  names = {path.name for path in (workdir / "negatives").iterdir()}
  assert names == {"6.npy", "8.npy"}
  state = train.train_and_evaluate(config, str(workdir))
  assert_equal(state, whole)
  assert read_losses(workdir) == read_losses(tmp_path / "whole")


@pytest.mark.slow
def test_pre_trained_as_a_classifier_then_fine_tuned(root, tmp_path):
  """The threshold stays with its checkpoint, and frozen layers stay."""
  config = make_siamese_config(root)
  config.loss.triplet, config.loss.cross_entropy = 0.0, 1.0
  config.batch.kind = "examples"
  first = train.train_and_evaluate(config, str(tmp_path / "classifier"))
  assert first.params["classifier"]["kernel"].shape == (8, 8)
  # Other identities are evaluated than the classifier knows.
  scores = evaluate.evaluate(config, str(tmp_path / "classifier"))
  with Checkpointer(
    tmp_path / "classifier", best_metric="auc", best_mode="max"
  ) as saved:
    kept = saved._manager.metrics(saved.best_step)
  assert kept["threshold"] == pytest.approx(scores["threshold"], rel=1e-5)
  assert kept["auc"] == pytest.approx(scores["auc"], rel=1e-5)

  config = make_siamese_config(root)
  config.init_from = str(tmp_path / "classifier/checkpoints/6")
  config.train.frozen_norm = True
  config.optimizer.frozen = "^tower/(conv|bn)1"
  config.optimizer.rate_scales = ("^tower/=0.1",)
  state = train.train_and_evaluate(config, str(tmp_path / "tuned"))
  before = jax.device_get(first.params["tower"])
  after = jax.device_get(state.params["tower"])
  np.testing.assert_array_equal(
    before["conv1"]["kernel"], after["conv1"]["kernel"]
  )
  assert (before["conv2"]["kernel"] != after["conv2"]["kernel"]).any()
  assert_equal(state.model_state, first.model_state)
