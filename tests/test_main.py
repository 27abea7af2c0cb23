"""The command line: exit codes and one clear line."""

import os
import shutil
import subprocess
import sys

import pytest
from PIL import Image

from tests.train_runs import ROOT, fails

CONFIG = """
from tests.conftest import make_tiny_config

def get_config(arg=""):
  config = make_tiny_config({blobs!r})
  config.train.num_steps = 2
  config.train.eval_every = 2
  config.train.num_pictures = 0
  return config
"""


@pytest.fixture
def run(blobs, tmp_path):
  """Runs the command line: flags -> (exit code, stderr)."""
  data = tmp_path / "data"
  shutil.copytree(blobs, data)
  config = tmp_path / "config.py"
  config.write_text(CONFIG.format(blobs=str(data)))

  def run(*flags):
    done = subprocess.run(
      [sys.executable, "-m", "segsiam_jax.main", *flags],
      cwd=ROOT,
      capture_output=True,
      text=True,
      env=os.environ | {"SEGSIAM_JAX_CACHE": "", "COLUMNS": "200"},
    )
    return done.returncode, done.stderr

  run.config, run.data = f"--config={config}", data
  run.workdir = tmp_path / "run"
  return run


def test_flags(run):
  config, workdir = (
    "--config=configs/unet_digits.py",
    f"--workdir={run.workdir}",
  )
  fails(run("--workdri=x"), "workdri", "workdir")
  fails(run(config), "--workdir")
  fails(run(workdir), "--config")
  fails(run(config, workdir, "stray"), "stray")
  fails(run("--config=nowhere.py", workdir), "nowhere.py")
  fails(run(f"{config}:fast", workdir), "'fast' is not one of", "debug")
  fails(run(config, workdir, "--mode=fit"), "mode", "train")
  fails(run(config, workdir, "--config.train.batch_sise=3"), "batch_sise")
  fails(run(config, workdir, "--config.train.batch_size=x"), "batch_size")
  fails(run(config, workdir, "--config.data.image_size=64"), "image_size")
  fails(run(config, workdir, "--profile=soon"), "--profile")
  fails(run(config, workdir, "--profile=4,2"), "--profile=4,2", "a first")
  fails(run(config, workdir, "--profile=0,2"), "--profile=0,2")
  assert not run.workdir.exists()


def test_tuples_given_twice_are_not_appended(run):
  names = "--config.data.class_names="
  twice = (names + "('a', 'b', 'c')", names + "('a', 'a')")
  result = run(run.config, f"--workdir={run.workdir}", *twice)
  fails(result, "config.data.class_names = ('a', 'a'): two classes")
  assert "the last counts: --config.data.class_names" in result[1]


def test_variables_of_jax(run, monkeypatch):
  config = "--config=configs/unet_digits.py:debug"
  monkeypatch.setenv("JAX_ENABLE_X64", "maybe")
  result = run(config, f"--workdir={run.workdir}")
  fails(result, "JAX_ENABLE_X64", "environment")
  assert not run.workdir.exists()


def test_predict_needs_a_trained_workdir(run):
  fails(run(f"--workdir={run.workdir}", "--mode=predict"), "config.json")


@pytest.mark.slow
def test_bad_data_and_workdir(run):
  workdir = f"--workdir={run.workdir}"
  (run.data / "train/masks/003.png").unlink()
  fails(run(run.config, workdir), "no mask for 1 of 12 images")
  Image.new("L", (32, 32), 9).save(run.data / "train/masks/003.png")
  fails(run(run.config, workdir), "003.png", "label values 9")
  (run.data / "train/masks/003.png").write_bytes(b"")
  fails(run(run.config, workdir), "003.png", "not a readable mask")
  file = run.workdir.parent / "file"
  file.write_text("")
  fails(run(run.config, f"--workdir={file}/run"), "cannot write there")


def test_devices_must_share_a_batch(run):
  fails(
    run(
      run.config,
      f"--workdir={run.workdir}",
      "--config.train.batch_size=6",
    ),
    "config.train.batch_size = 6",
    "4 devices do not divide it",
    "--config.train.batch_size=8",
  )


def spoil_missing_mask(data):
  (data / "train/masks/003.png").unlink()


def spoil_mask_size(data):
  Image.new("L", (30, 32)).save(data / "train/masks/003.png")


def spoil_label_range(data):
  Image.new("L", (32, 32), 9).save(data / "test/masks/003.png")


def spoil_png(data):
  path = data / "test/images/003.png"
  path.write_bytes(path.read_bytes()[:300])


def spoil_folder(data):
  for path in (data / "test/images").iterdir():
    path.unlink()


@pytest.mark.slow
@pytest.mark.parametrize(
  ("spoil", "flags", "words"),
  [
    (spoil_missing_mask, (), ("no mask for 1 of 12 images", "003.png")),
    (spoil_mask_size, (), ("003.png", "the mask is 32x30")),
    (spoil_label_range, (), ("test/masks/003.png", "label values 9")),
    (spoil_png, (), ("test/images/003.png", "not a readable image")),
    (spoil_folder, (), ("test/images", "no image files")),
    (None, ("--config.model.base_width=8",), ("holds a run", "base_width")),
    (None, ("--config.train.batch_size=4",), ("holds a run", "batch_size")),
    (None, ("--config.data.train_split=train[60:]",), ("selects no images",)),
    (None, ("--mode=eval", "--checkpoint=9"), ("no checkpoint of step 9",)),
    (None, ("--mode=predict", "--input=x.png"), ("no such file",)),
  ],
)
def test_bad_input_loses_nothing(run, spoil, flags, words):
  """A trained workdir is the same after each mistake, byte for byte."""
  workdir = f"--workdir={run.workdir}"
  code, log = run(run.config, workdir)
  assert code == 0, log

  def contents():
    return {
      path: path.read_bytes()
      for path in run.workdir.rglob("*")
      if path.is_file()
    }

  before = contents()
  if spoil is not None:
    spoil(run.data)
  fails(run(run.config, workdir, *flags), *words)
  assert contents() == before
