"""What a run that goes on finds again, and what it refuses."""

import json
import logging
import pathlib
import shutil

import grain
import pytest
from PIL import Image

from segsiam_jax import evaluate, predict, train
from segsiam_jax.data import pipeline, readers
from segsiam_jax.engine import checkpoint, resuming
from segsiam_jax.errors import Preempted, UserError
from tests.conftest import make_tiny_config
from tests.train_runs import OF_TIME, assert_equal, read_metrics


def timeless(workdir):
  """The lines of metrics.jsonl without times."""
  return [
    {k: v for k, v in line.items() if k not in OF_TIME}
    for line in read_metrics(workdir)
  ]


def steps_of(workdir, split="eval"):
  return [line["step"] for line in timeless(workdir) if line["split"] == split]


@pytest.fixture
def config(blobs):
  config = make_tiny_config(blobs)
  config.train.num_pictures = 0
  config.train.num_steps = 6
  config.train.log_every = 4
  config.train.eval_every = 3
  return config


@pytest.fixture
def stop_at(monkeypatch):
  """Tells the next run to stop when it asks for the n-th time."""
  reached = train.runtime.Preemption.reached

  def stop_at(number):
    calls = []

    def told(self):
      calls.append(1)
      return len(calls) >= number or reached(self)

    monkeypatch.setattr(train.runtime.Preemption, "reached", told)

  yield stop_at


@pytest.fixture
def going_on(monkeypatch):
  reached = train.runtime.Preemption.reached
  return lambda: monkeypatch.setattr(
    train.runtime.Preemption, "reached", reached
  )


@pytest.fixture(scope="module")
def calm(blobs, tmp_path_factory):
  """(workdir, state) of that config, undisturbed."""
  config = make_tiny_config(blobs)
  config.train.update(num_pictures=0, num_steps=6, log_every=4, eval_every=3)
  workdir = tmp_path_factory.mktemp("calm")
  return workdir, train.train_and_evaluate(config, str(workdir))


@pytest.mark.slow
def test_the_log_of_a_run_that_was_stopped_is_that_of_a_calm_one(
  config, calm, tmp_path, stop_at, going_on
):
  """In the middle of an interval, and twice; what a killed one wrote goes."""
  for calls in (2, 2):
    stop_at(calls)
    with pytest.raises(Preempted):
      train.train_and_evaluate(config, str(tmp_path))
  going_on()
  with (tmp_path / "metrics.jsonl").open("a") as file:
    file.write('{"step": 5, "split": "train", "loss": 1}\n{"step": 6, "spl')
  state = train.train_and_evaluate(config, str(tmp_path))
  assert_equal(state, calm[1])
  assert timeless(tmp_path) == timeless(calm[0])
  assert not list(tmp_path.glob("train.lock*"))


def test_a_checkpoint_is_there_before_its_evaluation(
  config, calm, tmp_path, monkeypatch
):
  def broken(*args):
    raise UserError("b.png: not a readable image")

  with monkeypatch.context() as patched:
    patched.setattr(train.Evaluator, "__call__", broken)
    message = "evaluation at step 3: b.png: .*continues from step 3"
    for _ in range(2):
      with pytest.raises(UserError, match=message):
        train.train_and_evaluate(config, str(tmp_path))
  assert checkpoint.find(str(tmp_path), "latest", "", "max").endswith("/3")
  train.train_and_evaluate(config, str(tmp_path))
  assert timeless(tmp_path) == timeless(calm[0])
  # The evaluation that was made up for is stored with its checkpoint.
  for step in (3, 6):
    folder = str(tmp_path / f"checkpoints/{step}")
    logged = [x for x in read_metrics(tmp_path) if x["step"] == step]
    found = checkpoint.metrics_of(folder)
    assert found["mean_iou"] == logged[-1]["mean_iou"]
    assert found == checkpoint.metrics_of(f"{calm[0]}/checkpoints/{step}")


def test_an_evaluation_that_was_cut_short_comes_once(
  config, tmp_path, stop_at, going_on
):
  """Even the last one, after which there is nothing more to do."""
  config.train.num_steps = config.train.eval_every = 2
  stop_at(3)
  with pytest.raises(Preempted, match="step 2"):
    train.train_and_evaluate(config, str(tmp_path))
  assert steps_of(tmp_path) == []
  # Cut short again.
  stop_at(1)
  with pytest.raises(Preempted, match="step 2"):
    train.train_and_evaluate(config, str(tmp_path))
  going_on()
  for _ in range(3):
    train.train_and_evaluate(config, str(tmp_path))
    assert steps_of(tmp_path) == [2]


def test_damaged_metrics_are_made_up_for(config, calm, tmp_path):
  workdir = tmp_path / "run"
  shutil.copytree(calm[0], workdir)
  for step in (3, 6):
    path = workdir / f"checkpoints/{step}/metrics/metrics"
    path.write_text(path.read_text()[:9])
  train.train_and_evaluate(config, str(workdir))
  assert timeless(workdir) == timeless(calm[0])
  before = checkpoint.metrics_of(f"{calm[0]}/checkpoints/6")
  assert checkpoint.metrics_of(f"{workdir}/checkpoints/6") == before


@pytest.mark.slow
def test_a_damaged_checkpoint_is_trained_anew(config, calm, tmp_path, caplog):
  workdir = tmp_path / "run"
  shutil.copytree(calm[0], workdir)
  path = max((workdir / "checkpoints/6/state/d").iterdir())
  path.write_bytes(path.read_bytes()[:-1])
  for run in (
    lambda: evaluate.evaluate(config, str(workdir), which="latest"),
    lambda: predict.predict(
      config,
      str(workdir),
      [config.data.dir + "/test/images"],
      str(tmp_path / "out"),
      which="latest",
    ),
  ):
    with pytest.raises(UserError, match=f"6 is damaged: .*{path.name} has"):
      run()
  with caplog.at_level(logging.WARNING):
    state = train.train_and_evaluate(config, str(workdir))
  assert "checkpoint of step 6 is damaged" in caplog.text
  assert_equal(state, calm[1])
  assert timeless(workdir) == timeless(calm[0])


def test_a_checkpoint_that_does_not_fit_is_not_damaged(config, calm, tmp_path):
  """With and without checksums, nothing is put aside."""
  workdir = tmp_path / "run"
  shutil.copytree(calm[0], workdir)
  config.train.ema_decay = 0.5
  for _ in range(2):
    with pytest.raises(UserError, match="6: does not fit this config"):
      train.train_and_evaluate(config, str(workdir))
    for path in workdir.glob("checkpoints/*/checksums.json"):
      path.unlink()
  assert not list(workdir.glob("checkpoints/damaged*"))
  config.train.ema_decay = 0.0
  train.train_and_evaluate(config, str(workdir))


def test_a_run_is_not_beyond_its_steps(config, calm, tmp_path):
  workdir = tmp_path / "run"
  shutil.copytree(calm[0], workdir)
  before = {p: p.stat().st_mtime_ns for p in workdir.rglob("*") if p.is_file()}
  config.train.num_steps = 4
  with pytest.raises(UserError, match="num_steps = 4: the run is at step 6"):
    train.train_and_evaluate(config, str(workdir))
  after = {p: p.stat().st_mtime_ns for p in workdir.rglob("*") if p.is_file()}
  assert after == before


@pytest.mark.parametrize(
  ("metric", "mode", "message"),
  [
    ("miou", "max", "no such metric; did you mean 'mean_iou'"),
    ("iou/dics", "max", "did you mean 'iou/disc'"),
    ("Loss", "min", "did you mean 'loss'"),
    ("loss", "max", "best_mode=min"),
    ("mean_iou", "min", "best_mode=max"),
  ],
)
def test_a_best_metric_is_known_and_directed(
  config, tmp_path, metric, mode, message
):
  config.train.best_metric, config.train.best_mode = metric, mode
  with pytest.raises(UserError, match=message):
    train.train_and_evaluate(config, str(tmp_path))
  assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_changed_best_metric_deletes_no_best_checkpoint(config, tmp_path):
  config.train.update(num_steps=2, eval_every=1, keep=1)
  train.train_and_evaluate(config, str(tmp_path))
  best = checkpoint.find(str(tmp_path), "best", "mean_iou", "max")
  config.train.best_metric, config.train.best_mode = "loss", "min"
  for config.train.num_steps in (4, 6):
    train.train_and_evaluate(config, str(tmp_path))
  steps = {path.name for path in (tmp_path / "checkpoints").iterdir()}
  assert pathlib.Path(best).name in steps and "6" in steps
  assert "3" not in steps


@pytest.fixture
def data(blobs, tmp_path, config):
  """A run on a folder of its own: (its data, its workdir)."""
  root = tmp_path / "data"
  shutil.copytree(blobs, root)
  config.data.dir = str(root)
  config.train.num_steps = config.train.eval_every = 1
  train.train_and_evaluate(config, str(tmp_path / "run"))
  config.train.num_steps = 2
  return root, tmp_path / "run"


def change(root, split, name, other):
  for kind in ("images", "masks"):
    path = root / split / kind / name
    if other is None:
      path.unlink()
    elif path.exists():
      path.rename(path.with_name(other))
    else:
      Image.new("RGB" if kind == "images" else "L", (32, 32)).save(path)


@pytest.mark.parametrize(
  ("name", "other", "message"),
  [
    ("012.png", "", "had 12 examples when this run began, and has 13 now"),
    ("005.png", None, "had 12 examples when this run began, and has 11 now"),
    ("000.png", "a.png", "other examples.*000.png to 011.png before, 001.png"),
  ],
)
def test_training_data_that_changed_are_refused(
  config, data, name, other, message
):
  root, workdir = data
  change(root, "train", name, other)
  before = {p: p.read_bytes() for p in workdir.rglob("*") if p.is_file()}
  with pytest.raises(UserError, match=message):
    train.train_and_evaluate(config, str(workdir))
  after = {p: p.read_bytes() for p in workdir.rglob("*") if p.is_file()}
  assert after == before


@pytest.mark.slow
def test_data_that_moved_or_are_not_known_are_accepted(
  config, data, tmp_path, caplog
):
  root, workdir = data
  root.rename(tmp_path / "moved")
  config.data.dir = str(tmp_path / "moved")
  change(tmp_path / "moved", "test", "000.png", "b.png")
  with caplog.at_level(logging.WARNING):
    train.train_and_evaluate(config, str(workdir))
  assert "the evaluation split has other examples" in caplog.text
  # As of an earlier version, and damaged.
  for spoil in (
    lambda path: path.unlink(),
    lambda path: path.write_text("{}"),
    lambda path: path.write_text("[3"),
  ):
    spoil(workdir / resuming.DATA_FILE)
    train.train_and_evaluate(config, str(workdir))
    now = json.loads((workdir / resuming.DATA_FILE).read_text())
    assert now["train"]["examples"] == 12


@pytest.mark.parametrize("batches", [0, 1, 5, 12])
def test_a_position_holds_for_any_number_of_reading_processes(batches):
  """Without starting one: they take turns, each from its own place."""
  plan = grain.MapDataset.range(100)

  def iterator(workers):
    dataset = plan.to_iter_dataset()
    if workers:
      options = grain.MultiprocessingOptions(num_workers=workers)
      dataset = dataset.mp_prefetch(options)
    return iter(dataset)

  for before in (0, 1, 2, 3):
    first = iterator(before)
    readers.go_to(first, batches)
    position = first.get_state()
    assert readers.batches_read(position) == batches
    for after in (0, 1, 2, 3):
      second = iterator(after)
      readers.go_to(second, readers.batches_read(position))
      assert readers.batches_read(second.get_state()) == batches
      if before == after:
        assert second.get_state() == position
  for position in ({}, [], {"next_index": None}, {"iterators": 3}):
    with pytest.raises(ValueError, match="not a position"):
      readers.batches_read(position)


@pytest.mark.slow
def test_reading_processes_may_come_and_go(config, calm, tmp_path):
  for steps, workers in ((1, 2), (3, 0), (4, 1), (6, 3)):
    config.train.update(num_steps=steps)
    config.optimizer.schedule = "constant"
    config.data.workers = workers
    state = train.train_and_evaluate(config, str(tmp_path / "parts"))
  config.data.workers = 0
  whole = train.train_and_evaluate(config, str(tmp_path / "whole"))
  assert_equal(state, whole)


@pytest.mark.slow
def test_an_image_that_goes_bad_loses_no_step(config, tmp_path, monkeypatch):
  """It was good when the data were opened; the steps before it are saved."""
  config.train.update(checkpoint_every=9, eval_every=9, best_metric="")
  whole = train.train_and_evaluate(config, str(tmp_path / "whole"))
  read, batches = pipeline._ReadRows.random_map, []

  def goes_bad(self, plan, rng):
    batches.append(plan)
    if len(batches) == 4:
      raise UserError("a.png: not a readable image")
    return read(self, plan, rng)

  workdir = tmp_path / "cut"
  with monkeypatch.context() as patch:
    patch.setattr(pipeline._ReadRows, "random_map", goes_bad)
    with pytest.raises(
      UserError, match=r"step 4: a\.png: not a readable.* from step 3"
    ):
      train.train_and_evaluate(config, str(workdir))
  assert_equal(train.train_and_evaluate(config, str(workdir)), whole)
  assert timeless(workdir) == timeless(tmp_path / "whole")
