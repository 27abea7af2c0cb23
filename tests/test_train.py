"""The loop end to end: resume, preemption, what a run leaves behind."""

import json
import shutil
import signal

import jax
import numpy as np
import pytest

from segsiam_jax import evaluate, predict, train
from segsiam_jax.engine.checkpoint import Checkpointer
from segsiam_jax.errors import Preempted, UserError
from tests.step_runs import assert_close
from tests.train_runs import Run, assert_equal, read_metrics, restored


def data_position(workdir, step):
  file = workdir / f"checkpoints/{step}/data/process_0-of-1.json"
  return json.loads(file.read_text())


@pytest.fixture(scope="module")
def finished(tmp_path_factory, blobs):
  """A run of ten steps that nothing disturbed: (config, workdir, state)."""
  from tests.conftest import make_tiny_config

  config = make_tiny_config(blobs)
  config.train.ema_decay = 0.9
  workdir = tmp_path_factory.mktemp("run")
  state = train.train_and_evaluate(config, str(workdir))
  return config, workdir, state


def test_a_run_learns_and_leaves_its_files(finished):
  _, workdir, state = finished
  lines = read_metrics(workdir)
  losses = [line["loss"] for line in lines if line["split"] == "train"]
  assert losses[-1] < losses[0]
  scores = [line for line in lines if line["split"] == "eval"]
  assert [line["step"] for line in scores] == [5, 10]
  assert {"mean_iou", "mean_dice", "pixel_accuracy", "iou/disc"} <= set(
    scores[0]
  )
  assert int(state.step) == 10
  assert (workdir / "config.json").exists()
  assert list((workdir / "tensorboard").iterdir())
  assert (workdir / "images/eval_0000010.png").exists()


def test_ten_steps_are_five_and_five(finished, tmp_path, monkeypatch):
  config, workdir, expected = finished
  calls = []
  reached = train.runtime.Preemption.reached

  def stop_at_five(self):
    calls.append(1)
    return len(calls) >= 5 or reached(self)

  monkeypatch.setattr(train.runtime.Preemption, "reached", stop_at_five)
  with pytest.raises(Preempted):
    train.train_and_evaluate(config, str(tmp_path))
  monkeypatch.undo()
  assert data_position(tmp_path, 5)["next_index"] == 5
  state = train.train_and_evaluate(config, str(tmp_path))
  assert_equal(state, expected)
  assert data_position(tmp_path, 10) == data_position(workdir, 10)
  # The evaluation that the preemption skipped was made up for.
  steps = [
    line["step"] for line in read_metrics(tmp_path) if line["split"] == "eval"
  ]
  assert steps == [5, 10]


def test_running_again_changes_nothing(finished):
  config, workdir, expected = finished
  before = (workdir / "metrics.jsonl").read_text()
  state = train.train_and_evaluate(config, str(workdir))
  assert_equal(state, expected)
  assert (workdir / "metrics.jsonl").read_text() == before


def test_a_workdir_belongs_to_one_run(finished):
  config, workdir, _ = finished
  other = config.copy_and_resolve_references()
  other.model.base_width = 8
  with pytest.raises(UserError, match=r"holds a run with config\.model\.base"):
    train.train_and_evaluate(other, str(workdir))
  assert (workdir / "checkpoints/10").exists()


@pytest.mark.slow
def test_weights_start_another_run(finished, tmp_path):
  config, workdir, trained = finished
  other = config.copy_and_resolve_references()
  other.init_from = str(workdir)
  other.data.class_names = ("background", "disc", "ring")
  with pytest.raises(UserError, match=r"params/logits/bias is \(2,\), not"):
    train.train_and_evaluate(other, str(tmp_path))
  other.init_skip = "logits"
  other.train.num_steps = 1
  other.optimizer.learning_rate = 0.0
  state = train.train_and_evaluate(other, str(tmp_path))
  assert int(state.step) == 1
  np.testing.assert_array_equal(
    state.params["encoder"]["level1"]["conv1"]["kernel"],
    trained.ema_params["encoder"]["level1"]["conv1"]["kernel"],
  )
  assert state.params["logits"]["bias"].shape == (3,)


@pytest.mark.slow
def test_the_average_starts_from_loaded_weights(finished, tmp_path):
  config, workdir, trained = finished
  other = config.copy_and_resolve_references()
  other.init_from = str(workdir)
  other.train.num_steps = 1
  state = train.train_and_evaluate(other, str(tmp_path))
  jax.tree.map(
    lambda average, loaded, now: np.testing.assert_allclose(
      average, 0.1 * loaded + 0.9 * now, rtol=1e-5, atol=1e-6
    ),
    *(state.ema_params, trained.ema_params, state.params),
  )


def test_evaluate_alone_gives_the_same_scores(finished):
  config, workdir, _ = finished
  logged = next(
    line
    for line in read_metrics(workdir)
    if line["split"] == "eval" and line["step"] == 10
  )
  metrics = evaluate.evaluate(config, str(workdir), which="latest")
  for name in ("mean_iou", "loss", "iou/disc"):
    assert metrics[name] == pytest.approx(logged[name], rel=1e-6)
  with pytest.raises(UserError, match="no checkpoint of step 7"):
    evaluate.evaluate(config, str(workdir), which="7")
  with pytest.raises(UserError, match="'best', 'latest' or a step"):
    evaluate.evaluate(config, str(workdir), which="newest")


@pytest.mark.slow
def test_backends_go_on_from_each_other_s_checkpoints(finished, tmp_path):
  """To the same parameters: jit alone, and all of them in turns."""
  config = finished[0].copy_and_resolve_references()
  # Adam would make a step of an error of rounding.
  config.optimizer.update(name="momentum", schedule="constant")
  config.train.update(eval_every=100, checkpoint_every=100)

  def go_on(workdir, backend, num_steps):
    config.backend, config.train.num_steps = backend, num_steps
    return train.train_and_evaluate(config, str(tmp_path / workdir))

  begun = go_on("jit", "jit", 2)
  shutil.copytree(tmp_path / "jit", tmp_path / "both")
  alone = go_on("jit", "jit", 5)
  go_on("both", "pmap", 3)
  go_on("both", "shard_map", 4)
  both = go_on("both", "jit", 5)
  assert int(both.step) == 5
  assert_close(both, alone)
  kernels = [
    state.params["encoder"]["level1"]["conv1"]["kernel"]
    for state in (begun, alone)
  ]
  assert np.abs(kernels[0] - kernels[1]).max() > 1e-4


def test_predict_writes_labels_overlays_and_lines(finished, blobs, tmp_path):
  from PIL import Image

  config, workdir, _ = finished
  color = Image.effect_noise((90, 70), 60).convert("RGB")
  color.save(tmp_path / "photo.jpg")
  Image.effect_noise((33, 50), 60).save(tmp_path / "grey.png")
  out = tmp_path / "out"
  inputs = [str(blobs / "test/images"), str(tmp_path)]
  assert predict.predict(config, str(workdir), inputs, str(out)) == 7
  with Image.open(out / "labels/photo.png") as label:
    assert label.size == (90, 70)
    assert np.asarray(label).max() <= 1
  with Image.open(out / "overlays/grey.png") as overlay:
    # Below the image are the names of the classes.
    assert overlay.size == (240, 50 + 16)
  lines = (out / "predictions.jsonl").read_text().splitlines()
  line = json.loads(lines[0])
  assert sum(line["pixels"].values()) == 32 * 32
  assert set(line["pixels"]) == {"background", "disc"}

  (tmp_path / "broken.png").write_bytes(b"no image")
  with pytest.raises(UserError, match="1 of 3 inputs.*the others are in"):
    predict.predict(config, str(workdir), [str(tmp_path)], str(out))
  with pytest.raises(UserError, match="no such file or folder"):
    predict.predict(config, str(workdir), ["nowhere.png"], str(out))


def test_resized_predictions_return_to_the_image_s_size(
  finished, blobs, tmp_path
):
  from PIL import Image

  config = finished[0].copy_and_resolve_references()
  config.data.fit = "resize"
  Image.effect_noise((90, 70), 60).save(tmp_path / "a.png")
  predict.predict(
    config, str(finished[1]), [str(tmp_path / "a.png")], str(tmp_path / "out")
  )
  with Image.open(tmp_path / "out/labels/a.png") as label:
    assert label.size == (90, 70)


def test_not_a_number_stops_the_run(tiny_config, tmp_path):
  tiny_config.optimizer.name = "sgd"
  tiny_config.optimizer.learning_rate = 1e30
  tiny_config.model.norm = "none"
  with pytest.raises(UserError, match="the loss is .* lower"):
    train.train_and_evaluate(tiny_config, str(tmp_path))


def test_keeps_the_last_and_the_best(tmp_path, tiny_config):
  import grain

  numbers = grain.MapDataset.range(9).to_iter_dataset()
  iterator = iter(numbers)
  state = {"step": jax.numpy.zeros(())}
  scores = {1: 0.2, 2: 0.9, 3: float("nan"), 4: 0.5, 5: None, 6: 0.4}
  with Checkpointer(tmp_path, keep=2, best_metric="mean_iou") as saved:
    for step, score in scores.items():
      metrics = None if score is None else {"mean_iou": score}
      saved.save(step, state, iterator, metrics=metrics)
    saved.wait()
    assert saved.latest_step == 6
    assert saved.best_step == 2
  kept = {
    int(path.name)
    for path in (tmp_path / "checkpoints").iterdir()
    if path.name.isdigit()
  }
  assert kept == {2, 5, 6}


# What follows runs the command line in its own process.


@pytest.mark.slow
# Orbax 0.12, of arrays that are read as they are.
@pytest.mark.filterwarnings("ignore:Sharding info not provided")
def test_killed_runs_end_like_undisturbed_ones(blobs, tmp_path):
  steps = 40
  calm, killed = tmp_path / "calm", tmp_path / "killed"
  run = Run(blobs, calm, steps)
  assert run.end() == 0, run.messages
  for goal in (1, 9, 20):
    run = Run(blobs, killed, steps)
    run.wait_for(lambda run=run, goal=goal: run.last_step() >= goal)
    run.end(signal.SIGKILL)
  run = Run(blobs, killed, steps)
  assert run.end() == 0, run.messages
  assert "resumed at step" in run.messages
  assert_equal(restored(calm, steps), restored(killed, steps))
  assert data_position(calm, steps) == data_position(killed, steps)


@pytest.mark.slow
def test_sigterm_saves_and_exits_75(blobs, tmp_path):
  workdir = tmp_path / "run"
  run = Run(blobs, workdir, 100_000)
  run.wait_for(lambda: run.last_step() >= 3)
  assert run.end(signal.SIGTERM) == 75, run.messages
  assert "run again to continue" in run.messages
  step = run.last_step()
  run = Run(blobs, workdir, 100_000)
  run.wait_for(lambda: run.last_step() > step)
  run.end(signal.SIGKILL)


@pytest.mark.slow
def test_sigterm_while_compiling_saves_the_first_step(blobs, tmp_path):
  run = Run(blobs, tmp_path / "run", 100_000)
  run.wait_for((run.workdir / "config.json").exists)
  assert run.end(signal.SIGTERM) == 75, run.messages
  assert run.last_step() >= 1
