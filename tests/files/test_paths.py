"""Paths as users type them: characters of patterns, and the home folder."""

import os
import pathlib
import shutil
import sys

import pytest

from segsiam_jax import command_line, compare, inputs, predict, train
from segsiam_jax.engine import checkpoint
from segsiam_jax.errors import UserError
from segsiam_jax.files import paths
from segsiam_jax.pretrained.state_dict import read_state_dict


def test_names_are_no_patterns(tmp_path):
  for name in ("[ab]*", "a?", "ab", "a"):
    (tmp_path / name / "in").mkdir(parents=True)
  for name in ("[ab]*", "a?"):
    folder = paths.resolve(tmp_path / name)
    assert [str(path) for path in (folder / "in").parent.glob("i*")] == [
      str(tmp_path / name / "in")
    ]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["run [ab]*?{c}"])
def test_a_workdir_of_any_name_is_read_back(tiny_config, tmp_path, name):
  tiny_config.train.num_steps = tiny_config.train.eval_every = 2
  tiny_config.train.checkpoint_every = 1
  tiny_config.train.num_pictures = 0
  workdir = str(tmp_path / name)
  train.train_and_evaluate(tiny_config, workdir)
  shutil.rmtree(tmp_path / name / "checkpoints/2")
  train.train_and_evaluate(tiny_config, workdir)
  folder = checkpoint.find(workdir, "latest", "", "max")
  assert checkpoint.step_of(folder) == 2
  image = f"{tiny_config.data.dir}/test/images/000.png"
  assert predict.predict(tiny_config, workdir, [image]) == 1
  assert (tmp_path / name / "predictions/labels/000.png").exists()


def test_a_backslash_is_refused_before_anything_is_written(tmp_path):
  with pytest.raises(UserError, match="a name with a backslash"):
    paths.make_writable("--workdir", str(tmp_path / "a\\b/c"))
  assert not list(tmp_path.iterdir())
  paths.make_writable("--output", str(tmp_path / "a\\b"))
  assert (tmp_path / "a\\b").is_dir()


def test_names_that_are_not_utf_8(tmp_path, monkeypatch):
  """Libraries of checkpoints take UTF-8 alone; everything else takes any."""
  name = os.fsdecode(os.fsencode(tmp_path / "a") + b"\xff")
  for function in (
    lambda: paths.make_writable("--workdir", name),
    lambda: checkpoint.find(name, "best", "", "max"),
  ):
    with pytest.raises(UserError, match="not UTF-8; choose another"):
      function()
  assert not list(tmp_path.iterdir())
  paths.make_writable("--output", name)
  assert len(list(tmp_path.iterdir())) == 1
  paths.make_writable("--workdir", str(tmp_path / "r\xfcn"))
  # As a locale without UTF-8 has it.
  monkeypatch.setattr(sys, "getfilesystemencoding", lambda: "ascii")
  with pytest.raises(UserError, match="set PYTHONUTF8=1"):
    paths.make_writable("--workdir", name)


def test_examples_whose_names_are_not_utf_8(blobs, tiny_config, tmp_path):
  for kind in ("images", "masks"):
    for split in ("train", "test"):
      folder = tmp_path / "data" / split / kind
      shutil.copytree(blobs / split / kind, folder)
      os.rename(folder / "001.png", os.fsencode(folder) + b"/\xff.png")
  tiny_config.data.dir = str(tmp_path / "data")
  tiny_config.train.num_steps = tiny_config.train.eval_every = 1
  workdir = str(tmp_path / "run")
  train.train_and_evaluate(tiny_config, workdir)
  # The data are the same ones for a run that goes on.
  train.train_and_evaluate(tiny_config, workdir)
  images = f"{tiny_config.data.dir}/test/images"
  assert predict.predict(tiny_config, workdir, [images]) == 5
  labels = os.fsencode(tmp_path / "run/predictions/labels")
  assert b"\xff.png" in os.listdir(labels)


def test_home(tiny_config, blobs, tmp_path, monkeypatch):
  monkeypatch.setenv("HOME", str(blobs.parent))
  tiny_config.data.dir = f"~/{blobs.name}"
  assert len(inputs.open_inputs(tiny_config, train=True).source) == 12
  monkeypatch.setenv("HOME", str(tmp_path))
  monkeypatch.chdir(tmp_path)
  assert str(paths.resolve("~/run")) == str(tmp_path / "run")
  assert str(paths.resolve("gs://bucket/~x")) == "gs://bucket/~x"
  with pytest.raises(UserError, match=rf"{tmp_path}/a\.pth: no such file"):
    read_state_dict("~/a.pth")
  (tmp_path / "c.py").write_text("def get_config(x=0): return x")
  assert compare.load_config_file("~/c.py:1") == "1"
  argv = ["main", "--config=~/c.py:x~y", "--workdir=~/run"]
  command_line.expand_config(argv)
  assert argv == ["main", f"--config={tmp_path}/c.py:x~y", "--workdir=~/run"]
  assert [path.name for path in tmp_path.iterdir()] == ["c.py"]


def test_configs_of_the_package_have_names(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  argv = ["main", "--config=unet_digits:debug", "--config.train.keep=1"]
  command_line.expand_config(argv)
  found = pathlib.Path(argv[1].removeprefix("--config=").removesuffix(":debug"))
  assert found.is_file() and found.name == "unet_digits.py"
  assert argv[2] == "--config.train.keep=1"
  with pytest.raises(UserError, match="did you mean 'unet_digits'"):
    command_line.expand_config(["main", "--config=unet_digit"])
  (tmp_path / "unet_digit").touch()
  command_line.expand_config(["main", "--config=unet_digit"])
