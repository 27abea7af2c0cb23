"""Which checkpoints stay, which is the best, and damaged ones."""

import json
import logging
import math
import shutil

import grain
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segsiam_jax.engine import checkpoint
from segsiam_jax.engine.checkpoint import Checkpointer
from segsiam_jax.errors import UserError
from segsiam_jax.files import checkpoint_files


def batches():
  return iter(grain.MapDataset.range(20).to_iter_dataset())


def state_of(step):
  return {"step": jnp.int32(step), "weights": jnp.arange(40.0) + step}


def save(workdir, scores, **options):
  """Saves a checkpoint for each step, with its metrics if there are any."""
  iterator = batches()
  with Checkpointer(workdir, **options) as saved:
    for step, metrics in scores.items():
      next(iterator)
      saved.save(step, state_of(step), iterator, meta={"evaluated": True})
      if metrics is not None:
        saved.record(step, metrics)
    saved.wait()


def restore(workdir):
  """(step, batches read) that a run would go on with, from the start."""
  iterator = batches()
  with Checkpointer(workdir) as saved:
    state, meta = saved.restore(state_of(0), iterator)
  assert meta == {"evaluated": True}
  step = int(state["step"])
  np.testing.assert_array_equal(state["weights"], np.arange(40.0) + step)
  return step, iterator.get_state()["next_index"]


def steps_of(workdir):
  folder = workdir / "checkpoints"
  return sorted(int(p.name) for p in folder.iterdir() if p.name.isdigit())


@pytest.fixture(scope="module")
def intact(tmp_path_factory):
  """A workdir with two checkpoints."""
  workdir = tmp_path_factory.mktemp("intact")
  save(workdir, {1: {"iou": 0.5}, 2: {"iou": 0.25}})
  return workdir


def files_of(workdir, step):
  folder = workdir / f"checkpoints/{step}"
  return sorted(
    path.relative_to(folder).as_posix()
    for path in folder.rglob("*")
    if path.is_file()
  )


def halve(path):
  content = path.read_bytes()
  path.write_bytes(content[: len(content) // 2])


def empty(path):
  path.write_bytes(b"")


def flip(path):
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 0x40
  path.write_bytes(content)


def delete(path):
  path.unlink()


def replace(path):
  path.write_text("{}")


@pytest.mark.parametrize("spoil", [halve, empty, flip, delete, replace])
def test_a_damaged_checkpoint_is_passed_over(intact, tmp_path, spoil, caplog):
  """Whatever file it is; what is no part of the state stops nothing."""
  for number, name in enumerate(files_of(intact, 2)):
    workdir = tmp_path / str(number)
    shutil.copytree(intact, workdir)
    spoil(workdir / "checkpoints/2" / name)
    caplog.clear()
    with caplog.at_level(logging.WARNING):
      step, position = restore(workdir)
    assert position == step
    if name.split("/")[0] in ("state", "data", "meta"):
      assert step == 1, name
      assert f"checkpoints/2/{name}" in caplog.text
      assert "continues from step 1" in caplog.text
      assert (workdir / "checkpoints/damaged-2.1").is_dir()
      assert steps_of(workdir) == [1]
    if name == "metrics/metrics":
      assert step == 2


# Orbax leaves tasks of a failed restore behind.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("spoil", [halve, empty, delete, replace])
def test_without_checksums_what_cannot_be_read_is_damaged(
  intact, tmp_path, spoil
):
  """As earlier versions have saved them; flipped bytes are not found."""
  for number, name in enumerate(files_of(intact, 2)):
    workdir = tmp_path / str(number)
    shutil.copytree(intact, workdir)
    for step in (1, 2):
      (workdir / f"checkpoints/{step}/checksums.json").unlink()
    path = workdir / "checkpoints/2" / name
    if path.exists():
      spoil(path)
    step, position = restore(workdir)
    assert position == step
    if name in ("meta/metadata", "data/process_0-of-1.json"):
      assert step == 1


def test_damage_to_an_old_checkpoint_matters_to_nobody(intact, tmp_path):
  shutil.copytree(intact, tmp_path, dirs_exist_ok=True)
  for path in (tmp_path / "checkpoints/1").rglob("*"):
    if path.is_file():
      empty(path)
  assert restore(tmp_path) == (2, 2)
  assert steps_of(tmp_path) == [1, 2]


def test_a_missing_part_is_a_damage(intact, tmp_path):
  for part in ("state", "data", "meta"):
    workdir = tmp_path / part
    shutil.copytree(intact, workdir)
    shutil.rmtree(workdir / "checkpoints/2" / part)
    assert restore(workdir) == (1, 1)


def test_without_an_intact_checkpoint_nothing_is_lost(intact, tmp_path):
  shutil.copytree(intact, tmp_path, dirs_exist_ok=True)
  for step in (1, 2):
    halve(tmp_path / f"checkpoints/{step}/state/_METADATA")
  with pytest.raises(UserError, match=r"no checkpoint is intact .*2/state/_ME"):
    restore(tmp_path)
  assert steps_of(tmp_path) == [1, 2]


def test_readers_name_a_damaged_checkpoint_and_stop(intact, tmp_path):
  shutil.copytree(intact, tmp_path, dirs_exist_ok=True)
  flip(tmp_path / "checkpoints/2/state/manifest.ocdbt")
  with pytest.raises(UserError, match="2 is damaged: .*manifest.ocdbt has oth"):
    checkpoint.find(str(tmp_path), "latest", "", "max")
  with pytest.raises(UserError, match=r"--checkpoint, of 1, 2"):
    checkpoint.find(str(tmp_path), "2", "", "max")
  with pytest.raises(UserError, match="checkpoint 2 is damaged"):
    checkpoint.find(str(tmp_path / "checkpoints/2"), "best", "", "max")
  assert checkpoint.find(str(tmp_path), "best", "iou", "max").endswith("/1")


def test_damaged_metrics_are_told_by_name(intact, tmp_path, caplog):
  shutil.copytree(intact, tmp_path, dirs_exist_ok=True)
  halve(tmp_path / "checkpoints/1/metrics/metrics")
  with caplog.at_level(logging.WARNING):
    folder = checkpoint.find(str(tmp_path), "best", "iou", "max")
  assert folder.endswith("/2") and "step 1 has no metrics" in caplog.text
  with pytest.raises(UserError, match="1/metrics/metrics: damaged"):
    checkpoint.metrics_of(str(tmp_path / "checkpoints/1"))


def test_readers_write_and_remove_nothing(intact, tmp_path):
  """Not even what a writer has not finished."""
  shutil.copytree(intact, tmp_path, dirs_exist_ok=True)
  half = tmp_path / "checkpoints/3.orbax-checkpoint-tmp/state"
  half.mkdir(parents=True)
  before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
  for which in ("best", "latest", "1"):
    folder = checkpoint.find(str(tmp_path), which, "iou", "max")
    checkpoint.metrics_of(folder)
    weights = jax.device_put(np.zeros(40, np.float32))
    with pytest.raises(UserError, match="weights cannot be read"):
      checkpoint.restore_weights(folder, {"weights": weights}, {})
  after = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
  assert after == before
  save(tmp_path, {4: None})
  assert not half.exists()


def test_metrics_are_kept_with_every_checkpoint(tmp_path):
  metrics = {"iou": 0.5, "nan": math.nan, "inf": -math.inf}
  save(tmp_path, {3: metrics})
  path = tmp_path / "checkpoints/3/metrics/metrics"
  json.loads(path.read_text(), parse_constant=pytest.fail)
  found = checkpoint.metrics_of(str(tmp_path / "checkpoints/3"))
  np.testing.assert_equal(found, metrics)
  with Checkpointer(tmp_path, best_metric="iou") as saved:
    assert saved.has_scores(3) and saved.best_step == 3


def test_metrics_of_earlier_versions_are_read(intact, tmp_path):
  shutil.copytree(intact, tmp_path, dirs_exist_ok=True)
  path = tmp_path / "checkpoints/1/metrics/metrics"
  path.write_text('{"iou": 0.125, "auc": NaN}')
  (tmp_path / "checkpoints/2/metrics/metrics").write_text("{}")
  with Checkpointer(tmp_path, best_metric="iou") as saved:
    assert saved.best_step == 1 and not saved.has_scores(2)


def test_the_best_by_the_metric_of_its_time_stays(tmp_path):
  save(
    tmp_path,
    {1: {"iou": 0.9, "auc": 0.1}, 2: {"iou": 0.1, "auc": 0.2}},
    keep=1,
    best_metric="iou",
  )
  for metric, step in (("auc", 3), ("loss", 4), ("auc", 5)):
    with Checkpointer(tmp_path, keep=1, best_metric=metric) as saved:
      saved.keep_best_of("iou", "max")
      saved.save(step, state_of(step), batches(), meta={"evaluated": True})
      saved.record(step, {"iou": 0.0, "auc": step / 10, "loss": 0.0})
  assert 1 in steps_of(tmp_path)
  # What never was the best goes as ever.
  assert 2 not in steps_of(tmp_path) and 3 not in steps_of(tmp_path)


def test_the_best_of_an_unchanged_metric_may_be_overtaken(tmp_path):
  for step in (1, 2, 3):
    with Checkpointer(tmp_path, keep=1, best_metric="iou") as saved:
      saved.keep_best_of("iou", "max")
      saved.save(step, state_of(step), batches(), meta={"evaluated": True})
      saved.record(step, {"iou": step / 10})
  # That of step 2 goes with the next save.
  assert steps_of(tmp_path) == [2, 3]


def test_an_unknown_metric_is_told_with_the_nearest(intact):
  with pytest.raises(UserError, match="'iuo': no evaluation .* mean 'iou'"):
    checkpoint.find(str(intact), "best", "iuo", "max")


def test_a_save_that_fails_is_one_line(tmp_path, monkeypatch):
  """In the background, where libraries wrap what the system says."""

  def full(folder):
    raise OSError(28, "No space left on device")

  with Checkpointer(tmp_path) as saved:
    saved.save(1, state_of(1), batches(), meta={"evaluated": True})
    saved.wait()
    monkeypatch.setattr(checkpoint_files, "write_checksums", full)
    saved.save(2, state_of(2), batches(), meta={"evaluated": True})
    message = "saving step 2 failed .No space left on device.*untouched"
    with pytest.raises(UserError, match=message):
      saved.record(2, {"iou": 0.5})
  monkeypatch.undo()
  assert steps_of(tmp_path) == [1]
  assert restore(tmp_path) == (1, 0)
