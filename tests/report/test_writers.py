import json

import numpy as np
import pytest

from segsiam_jax.errors import UserError
from segsiam_jax.files import paths
from segsiam_jax.report import overlays, writers


def test_scalars_are_appended_as_json_lines(tmp_path):
  for step in (1, 2):
    writer = writers.Writer(str(tmp_path), total_steps=2)
    writer.scalars(step, "eval", {"mean_iou": 0.5, "iou/cat": float("nan")})
    writer.image(step, "eval", np.zeros((4, 6, 3), np.uint8))
    writer.close()
  lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
  first, second = map(json.loads, lines)
  assert (first["step"], second["step"]) == (1, 2)
  assert first["mean_iou"] == 0.5
  # JSON has no NaN.
  assert first["iou/cat"] is None
  assert (tmp_path / "images/eval_0000002.png").exists()


def test_table_has_a_row_a_class():
  text = writers.table(
    {"mean_iou": 0.5, "iou/cat": 0.25, "iou/dog": 0.75, "dice/cat": 0.4}
  )
  assert text.splitlines() == [
    "mean_iou 0.5000",
    "          iou      dice",
    "cat    0.2500    0.4000",
    "dog    0.7500       nan",
  ]


def test_files_are_replaced_whole(tmp_path):
  path = paths.resolve(tmp_path / "a.json")
  paths.write_text(path, "one")
  paths.write_text(path, "two")
  assert path.read_text() == "two"
  assert [file.name for file in tmp_path.iterdir()] == ["a.json"]


def test_unwritable_folders_are_named(tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(UserError, match="--output=.*cannot write there"):
    paths.make_writable("--output", str(tmp_path / "file/inside"))


def test_palette_gives_classes_different_colours():
  colors = overlays.palette(200)
  assert len({tuple(color) for color in colors[:200]}) == 200
  assert (colors[255] == 255).all()


def test_overlay_tints_all_but_the_background(rng):
  image = rng.integers(0, 256, (6, 5, 1), dtype=np.uint8)
  label = np.zeros((6, 5), np.uint8)
  label[2:] = 1
  tinted = overlays.overlay(image, label, num_classes=2)
  np.testing.assert_array_equal(tinted[:2], np.repeat(image[:2], 3, -1))
  assert (tinted[2:] != np.repeat(image[2:], 3, -1)).any(-1).all()


def test_grid_fills_up_with_white():
  pictures = [np.zeros((2, 3, 3), np.uint8)] * 3
  made = overlays.grid(pictures, columns=2)
  assert made.shape == (4, 6, 3)
  assert (made[2:, 3:] == 255).all()
