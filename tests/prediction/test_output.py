"""What a prediction may overwrite, and what not."""

import json

import numpy as np
import pytest
from etils import epath

from segsiam_jax import predict
from segsiam_jax.errors import UserError
from segsiam_jax.prediction.output import LIST_FILE, CannotWriteError, Output


def open_output(folder, inputs=()):
  return Output(epath.Path(folder), inputs)


def test_own_files_are_replaced(tmp_path):
  for content in (b"first", b"second"):
    output = open_output(tmp_path)
    output.claim(["labels/a.png", "b.json"])
    output.write("labels/a.png", content)
    with output.open_text("b.json") as file:
      file.write("{}")
    assert (tmp_path / "labels/a.png").read_bytes() == content
  names = sorted(path.name for path in tmp_path.rglob("*") if path.is_file())
  assert names == [LIST_FILE, "a.png", "b.json"]
  # The list does not grow where nothing changes.
  lines = (tmp_path / LIST_FILE).read_text().split()
  assert len([line for line in lines if "b.json" in line]) == 1


def test_others_files_stay(tmp_path):
  (tmp_path / "labels").mkdir()
  (tmp_path / "labels/truth.png").write_bytes(b"truth")
  with pytest.raises(UserError, match=r"labels/truth\.png exists and was not"):
    open_output(tmp_path).claim(["labels/truth.png"])
  output = open_output(tmp_path)
  output.claim(["labels/mine.png"])
  output.write("labels/mine.png", b"mine")
  # What was corrected by hand is no longer a prediction's.
  (tmp_path / "labels/mine.png").write_bytes(b"corrected")
  with pytest.raises(UserError, match="or has changed since"):
    open_output(tmp_path).claim(["labels/mine.png"])


def test_inputs_stay(tmp_path):
  output = open_output(tmp_path)
  output.claim(["labels/a.png"])
  output.write("labels/a.png", b"mine")
  (tmp_path / "link.png").symlink_to(tmp_path / "labels/a.png")
  for name in ("labels/a.png", "link.png"):
    with pytest.raises(UserError, match="overwrite the input labels/a"):
      open_output(tmp_path, [tmp_path / name]).claim(["labels/a.png"])


def test_a_killed_prediction_goes_on(tmp_path):
  output = open_output(tmp_path)
  output.claim(["a"])
  output.write("a", b"old")
  output.write("a", b"new")
  with (tmp_path / LIST_FILE).open("a") as file:
    file.write('\n{"file": "b", "dig')
  output = open_output(tmp_path)
  output.claim(["a", "b"])
  output.write("b", b"content")
  # Killed after it was listed and before it was moved: the old one is known.
  (tmp_path / "a").write_bytes(b"old")
  open_output(tmp_path).claim(["a", "b"])
  (tmp_path / LIST_FILE).write_bytes(b"\xff[]\n7\n")
  with pytest.raises(UserError, match="exists and was not"):
    open_output(tmp_path).claim(["b"])


def test_what_fails_leaves_the_old(tmp_path):
  output = open_output(tmp_path)
  output.claim(["a", "labels/b"])
  output.write("a", b"old")

  def lines():
    yield {"file": "x"}
    raise OSError(28, "No space left on device")

  with pytest.raises(CannotWriteError, match="No space left on device"):
    output.write_lines("a", lines())
  assert (tmp_path / "a").read_bytes() == b"old"
  (tmp_path / "labels").write_text("")
  with pytest.raises(CannotWriteError, match="labels/b: cannot be written"):
    output.write("labels/b", b"")
  assert sorted(path.name for path in tmp_path.iterdir()) == [
    LIST_FILE,
    "a",
    "labels",
  ]


def test_a_data_set_is_not_predicted_over(trained, blobs, tmp_path):
  config, workdir = trained
  data = tmp_path / "data"
  for kind, name in (("images", "images"), ("masks", "labels")):
    (data / name).mkdir(parents=True)
    for path in sorted((blobs / "test" / kind).iterdir())[:2]:
      (data / name / path.name).write_bytes(path.read_bytes())
  before = {p: p.read_bytes() for p in data.rglob("*") if p.is_file()}

  def run(inputs, output):
    return predict.predict(config, str(workdir), [str(inputs)], str(output))

  with pytest.raises(UserError, match=r"labels/000\.png exists and was not"):
    run(data / "images", data)
  with pytest.raises(UserError, match=r"overwrite the input labels/000\.png"):
    run(data / "labels", data)
  assert before == {p: p.read_bytes() for p in data.rglob("*") if p.is_file()}
  # Predictions are replaced by predictions, but not by nothing.
  assert run(data / "images", tmp_path / "out") == 2
  assert run(data / "images", tmp_path / "out") == 2
  lines = (tmp_path / "out/predictions.jsonl").read_text().splitlines()
  assert [json.loads(line)["file"] for line in lines] == [
    str(data / f"images/{number:03d}.png") for number in range(2)
  ]
  bad = tmp_path / "bad.npy"
  np.save(bad, np.zeros((4, 4, 7), np.uint8))
  with pytest.raises(UserError, match="1 of 1 inputs could not"):
    run(bad, tmp_path / "out")
  text = (tmp_path / "out/predictions.jsonl").read_text()
  assert text.splitlines() == lines
