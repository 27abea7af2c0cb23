"""The command line: exit codes and one clear line."""

import os
import pathlib
import shutil
import subprocess
import sys

import pytest
from PIL import Image

ROOT = pathlib.Path(__file__).parent.parent

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


def fails(result, *words):
  code, stderr = result
  assert code == 2, stderr
  lines = [line for line in stderr.splitlines() if line.startswith("error: ")]
  assert len(lines) == 1, stderr
  assert "Traceback" not in stderr
  for word in words:
    assert word in lines[0]


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
  fails(run(f"{config}:fast", workdir), "'fast' is none of", "debug")
  fails(run(config, workdir, "--mode=fit"), "mode", "train")
  fails(run(config, workdir, "--config.train.batch_sise=3"), "batch_sise")
  fails(run(config, workdir, "--config.train.batch_size=x"), "batch_size")
  fails(run(config, workdir, "--config.data.image_size=64"), "image_size")
  fails(run(config, workdir, "--profile=soon"), "--profile")
  assert not run.workdir.exists()


def test_predict_needs_a_trained_workdir(run):
  fails(run(f"--workdir={run.workdir}", "--mode=predict"), "config.json")


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
