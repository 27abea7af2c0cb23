"""Comparing configs: plan, resume, table and plot."""

import csv
import itertools
import json
import math
import re
import subprocess
import sys
from typing import NamedTuple

import numpy as np
import pytest

from segsiam_jax import compare
from segsiam_jax.config import override
from segsiam_jax.data.semantic.sources import (
  FolderOptions,
  FolderSource,
  Subset,
)
from segsiam_jax.errors import UserError
from segsiam_jax.files import paths
from segsiam_jax.metrics import t_interval
from segsiam_jax.report import comparison
from segsiam_jax.report.comparison import Result


def results():
  values = {
    ("A", 0.1): (0.5, 0.6, 0.7),
    ("A", 1.0): (0.8, 0.8, 0.9),
    ("B", 0.1): (0.4, math.nan, 0.5),
    ("B", 1.0): (0.9, 0.9, 0.9),
  }
  return [
    Result(label, fraction, seed, round(50 * fraction), 10, 1.5, {"iou": value})
    for (label, fraction), group in values.items()
    for seed, value in enumerate(group)
  ]


def test_cells_are_means_with_student_intervals():
  cells = comparison.cells(results(), "iou")
  cell = cells["A", 0.1]
  low, high = t_interval(0.6, 0.1, 3)
  assert cell == pytest.approx((0.6, low, high, 3))
  assert cells["B", 0.1].count == 2 and cells["B", 0.1].mean == 0.45
  assert cells["B", 1.0].low == pytest.approx(0.9)


def test_table_csv_and_plot():
  text = comparison.to_markdown(results(), "iou")
  assert "| | 0.1 (5) | 1 (50) |" in text
  assert f"| A | 0.600 ± {0.6 - t_interval(0.6, 0.1, 3).low:.3f} |" in text
  rows = list(csv.DictReader(comparison.to_csv(results()).splitlines()))
  assert len(rows) == 12 and rows[3]["iou"] == "0.8"
  picture = comparison.to_plot(results(), "iou")
  assert picture.dtype == np.uint8 and picture.shape == (480, 720, 3)
  with pytest.raises(UserError, match="they have iou"):
    comparison.to_plot(results(), "dice")


def test_configs_of_two_data_sets():
  both = [
    Result(label, fraction, 0, round(size * fraction), 10, 1.5, {"iou": 0.5})
    for fraction in (1.0, 0.5)
    for label, size in (("A", 50), ("B", 400))
  ]
  text = comparison.to_markdown(both, "iou")
  assert "| | 0.5 (25, 200) | 1 (50, 400) |" in text
  seen = {}

  def record(lines, **_):
    seen.update({line.label: tuple(line.x) for line in lines})

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(comparison.plots, "line_plot", record)
    comparison.to_plot(both, "iou")
  assert seen == {"A": (25, 50), "B": (200, 400)}


def test_a_result_is_json_and_nan_comes_back(tiny_config, tmp_path):
  [run] = compare.plan({"tiny": tiny_config}, [1.0], [0])
  metrics = {"iou": math.nan, "loss": 1.0}
  found = Result("tiny", 1.0, 0, 12, 10, 1.5, metrics)
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(compare, "_last_metrics", lambda *_: metrics)
    patch.setattr(compare.train, "train_and_evaluate", lambda *_: FakeState({}))
    compare._result(run, paths.resolve(tmp_path))
    text = (tmp_path / compare.RESULT_FILE).read_text()
    assert json.loads(text, parse_constant=pytest.fail)["metrics"] == {
      "iou": None,
      "loss": 1.0,
    }
    again = compare._result(run, paths.resolve(tmp_path))
  assert math.isnan(again.metrics["iou"]) and again.metrics["loss"] == 1.0
  assert again.label == found.label


class FakeState(NamedTuple):
  params: dict


def test_one_seed_has_no_interval():
  assert "| 0.500 |" in comparison.to_markdown(results()[:1], "iou")


@pytest.mark.slow
def test_runs_are_trained_once_and_kept(tiny_config, tmp_path, monkeypatch):
  tiny_config.train.num_steps = 2
  tiny_config.train.eval_every = 2
  planned = compare.plan({"tiny": tiny_config}, [0.5, 1.0], [0])
  assert [run.config.data.train_fraction for run in planned] == [0.5, 1.0]
  first = compare.compare(planned, str(tmp_path), ["mean_iou"])
  assert [result.examples for result in first] == [6, 12]
  assert all(0 < result.metrics["mean_iou"] < 1 for result in first)
  for name in ("results.csv", "results.md", "mean_iou.png"):
    assert (tmp_path / name).stat().st_size > 0

  def fail(*_):
    raise AssertionError("trained again")

  monkeypatch.setattr(compare.train, "train_and_evaluate", fail)
  assert compare.compare(planned, str(tmp_path), ["mean_iou"]) == first
  planned[0].config.loss.dice = 0.5
  with pytest.raises(UserError, match="another config"):
    compare.compare(planned, str(tmp_path))


def test_a_smaller_part_is_in_a_larger_one(blobs):
  source = FolderSource(
    str(blobs), "train", FolderOptions(("background", "disc"))
  )
  parts = [Subset(source, fraction, 3) for fraction in (0.01, 0.25, 0.5, 1.0)]
  assert [len(part) for part in parts] == [1, 3, 6, 12]
  for small, large in itertools.pairwise(parts):
    assert set(small.indices) < set(large.indices)
  assert set(Subset(source, 0.25, 4).indices) != set(parts[1].indices)


def test_override_is_like_the_flag(tiny_config):
  override(tiny_config, "train.num_steps=7")
  override(tiny_config, "data.train_split=train[:50%]")
  override(tiny_config, "data.image_size=(16, 8)")
  assert tiny_config.train.num_steps == 7
  assert tiny_config.data.train_split == "train[:50%]"
  assert tuple(tiny_config.data.image_size) == (16, 8)
  override(tiny_config, "optimizer.nesterov=true")
  override(tiny_config, "optimizer.learning_rate=1")
  override(tiny_config, "data.class_names=cell")
  assert tiny_config.optimizer.nesterov is True
  assert tiny_config.optimizer.learning_rate == 1.0
  assert tiny_config.data.class_names == ("cell",)


@pytest.mark.parametrize(
  "wrong, told",
  [
    ("train.num_step=7", "did you mean train.num_steps"),
    ("train.num_steps", "expected FIELD=VALUE"),
    ("train=7", "expected FIELD=VALUE"),
    ("train.num_steps=x", "'train.num_steps=x': expected int"),
    ("train.num_steps=7.5", "expected int"),
    ("optimizer.learning_rate=", "expected float"),
    ("optimizer.nesterov=2", "expected bool"),
    ("data.image_size=(16, 8", "expected tuple"),
  ],
)
def test_a_wrong_override_changes_nothing(tiny_config, wrong, told):
  before = tiny_config.to_json_best_effort()
  with pytest.raises(UserError, match=re.escape(told)) as caught:
    override(tiny_config, wrong)
  assert "\n" not in str(caught.value)
  assert tiny_config.to_json_best_effort() == before


@pytest.mark.parametrize(
  "arguments, told",
  [
    ([], "--workdir"),
    (["--workdir=W"], "--configs"),
    (["--workdir=W", "--configs=nowhere.py"], "nowhere.py"),
    (["--workdir=W", "--configs=C", "--fractions=0,1"], "0 < fraction"),
    (["--workdir=W", "--configs=C", "--seeds=a"], "expected numbers"),
    (["--workdir=W", "--configs=C", "--set=train.x=1"], "train.x=1"),
  ],
)
def test_a_mistake_is_one_line(arguments, told, tmp_path):
  config = tmp_path / "c.py"
  config.write_text(
    "from segsiam_jax.config import default_config\n"
    "def get_config():\n  return default_config('semantic', 'unet')\n"
  )
  given = [
    argument.replace("=C", f"={config}").replace("=W", f"={tmp_path / 'w'}")
    for argument in arguments
  ]
  done = subprocess.run(
    [sys.executable, "-m", "segsiam_jax.compare", *given],
    capture_output=True,
    text=True,
  )
  assert done.returncode == 2
  assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
  assert told in done.stderr
  assert not (tmp_path / "w").exists()


def test_results_file_is_json_even_with_nan(tmp_path):
  lines = [
    {"step": 2, "split": "eval", "time": 1.0, "iou": None, "accuracy": 0.5},
    {"step": 2, "split": "train", "time": 1.0, "iou": 0.1},
  ]
  (tmp_path / "metrics.jsonl").write_text(
    "\n".join(json.dumps(line) for line in lines)
  )
  metrics = compare._last_metrics(tmp_path, 2)
  assert math.isnan(metrics["iou"]) and metrics["accuracy"] == 0.5
