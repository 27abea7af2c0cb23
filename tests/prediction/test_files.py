"""Which files are predicted on, and what their outputs are called."""

import json
import math
import os
import pathlib

import pytest
from etils import epath
from PIL import Image

from segsiam_jax.errors import UserError
from segsiam_jax.prediction import files
from segsiam_jax.prediction.output import Output


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


def test_long_and_equal_names(tmp_path):
  names = ("EVE/1.png", "eve/1.png", f"{'ü' * 123}/1.png", f"{'x' * 250}.png")
  for name in names:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(b"")
  named = files.list_files([str(tmp_path / name) for name in names])
  stems = list(named.values())
  # On a file system that ignores case, too, they are several files.
  assert len({stem.lower() for stem in stems}) == len(names)
  assert all(len(f"{stem}.png".encode()) <= 255 for stem in stems)


def test_only_images_of_folders(tmp_path):
  for name in ("a/1.png", "a/._1.png", ".ipynb_checkpoints/2.png", "b/3.txt"):
    (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "in" / name).write_bytes(b"")
  (tmp_path / "in/empty").mkdir()
  os.mkfifo(tmp_path / "in/a/pipe.png")
  [found] = files.list_files([str(tmp_path / "in")])
  assert found == tmp_path / "in/a/1.png"
  for name, words in (("b", "no image files"), ("a/pipe.png", "neither a")):
    with pytest.raises(UserError, match=words):
      files.list_files([str(tmp_path / "in" / name)])


def test_one_file_by_two_names(tmp_path, monkeypatch):
  (tmp_path / "1.png").write_bytes(b"")
  monkeypatch.chdir(tmp_path)
  monkeypatch.setenv("HOME", str(tmp_path))
  named = files.list_files(["1.png", str(tmp_path / "1.png"), "~/1.png"])
  assert list(named.values()) == ["1"] and str(*named) == "1.png"


def test_a_file_that_fails_stops_no_other(tmp_path):
  named = {pathlib.Path(name): name for name in "abc"}
  output = Output(epath.Path(tmp_path), named)
  output.claim([files.LINES_FILE])

  def predict_one(path, stem):
    if stem == "b":
      raise UserError("b: is bad")
    return {"stem": stem, "score": math.inf}

  complaints = files.predict_each(named, output, predict_one)
  assert complaints == ["b: is bad"]
  lines = (tmp_path / "predictions.jsonl").read_text().splitlines()
  assert [json.loads(line) for line in lines] == [
    {"file": "a", "stem": "a", "score": None},
    {"file": "c", "stem": "c", "score": None},
  ]
  # A run without results leaves those of an earlier one.
  only = {pathlib.Path("b"): "b"}
  assert files.predict_each(only, output, predict_one) == ["b: is bad"]
  assert (tmp_path / "predictions.jsonl").read_text().splitlines() == lines
