"""The examples run, and a task that the library does not know is one."""

import json
import pathlib
import subprocess
import sys

import pytest

from examples.depth import config as depth
from segsiam_jax import evaluate, predict, train
from segsiam_jax.config import of_workdir, validate
from segsiam_jax.errors import UserError
from segsiam_jax.fields import tasks

ROOT = pathlib.Path(__file__).parent.parent


def test_a_task_outside_the_library_trains_resumes_and_evaluates(tmp_path):
  config = depth.get_config("debug")
  validate(config)
  workdir = str(tmp_path)
  state = train.train_and_evaluate(config, workdir)
  assert int(state.step) == 4
  config.train.num_steps = 6
  assert int(train.train_and_evaluate(config, workdir).step) == 6
  lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
  scores = [line for line in map(json.loads, lines) if line["split"] == "eval"]
  again = evaluate.evaluate(of_workdir.get_config(workdir), workdir, "latest")
  assert again["abs_rel"] == scores[-1]["abs_rel"]
  assert list((tmp_path / "images").iterdir())
  with pytest.raises(UserError, match="predicts no files"):
    predict.predict(config, workdir, ["image.png"])


@pytest.mark.slow
def test_programs_run(tmp_path):
  """In processes of their own, as batches are too small for four devices."""
  for name in ("segment", "detect", "compare_images"):
    done = subprocess.run(
      [sys.executable, "-m", f"examples.{name}", str(tmp_path / name)],
      capture_output=True,
      text=True,
      cwd=pathlib.Path(__file__).parents[1],
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


@pytest.mark.parametrize(
  ("task", "words"),
  [
    ("semantics", "did you mean 'semantic'"),
    ("nowhere:TASK", "No module named 'nowhere'.*PYTHONPATH"),
    ("examples.depth.task:NOTHING", "no attribute 'NOTHING'"),
    ("examples.depth.task:make_task", "TaskParts"),
    (3, "expected one of"),
  ],
)
def test_tasks_that_are_none(task, words):
  with pytest.raises(UserError, match=words):
    tasks.find(task)


@pytest.mark.slow
def test_the_notebook_runs():
  notebook = json.loads((ROOT / "docs/first_hour.ipynb").read_text())
  names: dict = {}
  for cell in notebook["cells"]:
    if cell["cell_type"] == "code":
      exec("".join(cell["source"]), names)
  assert names["score"]["mean_iou"] > 0.8
  assert names["found"].labels.shape == (64, 64)
