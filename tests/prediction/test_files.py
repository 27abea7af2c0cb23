"""Which files are predicted on, and what their outputs are called."""

import json

import pytest
from etils import epath
from PIL import Image

from segsiam_jax.errors import UserError
from segsiam_jax.prediction import files


def test_names_of_outputs_differ(tmp_path):
  paths = [
    tmp_path / name
    for name in ("a/x/1.png", "b/x/1.png", "x/1.png", "a/2.jpg", "1.tif")
  ]
  for path in paths:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (2, 2)).save(path)
  named = files.list_files([str(path) for path in paths])
  assert list(named) == paths
  assert named[paths[0]] == "x_1.png"
  assert named[paths[3]] == "2"
  assert len(set(named.values())) == len(paths)
  # Folders and files may name the same file.
  assert len(files.list_files([str(tmp_path), str(paths[-1])])) == 1
  with pytest.raises(UserError, match=r"--input=nowhere: no such file"):
    files.list_files([str(paths[0]), "nowhere"])
  with pytest.raises(UserError, match="--input: name"):
    files.list_files([])


def test_folders_of_folders(tmp_path):
  for name in ("people/ada/1.png", "people/bob/1.png", "people/notes.txt"):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_bytes(b"")
  found = files.list_files([str(tmp_path / "people")])
  assert [path.parent.name for path in found] == ["ada", "bob"]
  # Where there are images, folders beside them are something else.
  (tmp_path / "people/2.png").write_bytes(b"")
  found = files.list_files([str(tmp_path / "people")])
  assert [path.name for path in found] == ["2.png"]


def test_a_file_that_fails_stops_no_other(tmp_path):
  named = {epath.Path(name): name for name in "abc"}

  def predict_one(path, stem):
    if stem == "b":
      raise UserError("b: is bad")
    return {"stem": stem}

  complaints = files.predict_each(named, epath.Path(tmp_path), predict_one)
  assert complaints == ["b: is bad"]
  lines = (tmp_path / "predictions.jsonl").read_text().splitlines()
  assert [json.loads(line) for line in lines] == [
    {"file": "a", "stem": "a"},
    {"file": "c", "stem": "c"},
  ]
