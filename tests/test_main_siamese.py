"""Mistakes in the data of a Siamese network: exit code 2 and one clear line."""

import os
import subprocess
import sys

import pytest

from tests.siamese_data import write_identities, write_splits
from tests.train_runs import ROOT, fails

CONFIG = """
from tests.siamese_data import make_siamese_config

def get_config(arg=""):
  return make_siamese_config({root!r})
"""


def spoil_single(root):
  for path in sorted((root / "train/a3").iterdir())[1:]:
    path.unlink()


def spoil_empty(root):
  for path in (root / "train/a3").iterdir():
    path.unlink()


def spoil_case(root):
  write_identities(root / "train", ["A3"], 2, seed=5)


def spoil_pairs(root):
  (root / "test.csv").write_text(
    "first,second,same\ntest/b0/0.png,test/b0/1.png,1\n"
    "test/b0/0.png,test/b1/77.png,0\n"
  )


def spoil_shared(root):
  write_identities(root / "test", ["a3"], 2, seed=5)


@pytest.mark.parametrize(
  ("spoil", "flags", "words"),
  [
    (spoil_single, (), ("identity a3 has only one image", "singles=drop")),
    (spoil_empty, (), ("train/a3", "no image files", "remove its folder")),
    (spoil_case, (), ("'A3' and 'a3' differ only by case",)),
    (
      spoil_pairs,
      ("--config.data.name=pairs", "--config.data.train_split=test"),
      ("test.csv, line 3", "no image 'test/b1/77.png'"),
    ),
    (spoil_shared, (), ("share identities", "a3")),
  ],
)
def test_bad_identities(tmp_path, spoil, flags, words):
  root = write_splits(tmp_path / "data")
  spoil(root)
  config = tmp_path / "config.py"
  config.write_text(CONFIG.format(root=str(root)))
  done = subprocess.run(
    [
      *(sys.executable, "-m", "segsiam_jax.main", f"--config={config}"),
      *(f"--workdir={tmp_path / 'run'}", *flags),
    ],
    cwd=ROOT,
    capture_output=True,
    text=True,
    env=os.environ | {"SEGSIAM_JAX_CACHE": "", "COLUMNS": "200"},
  )
  fails((done.returncode, done.stderr), *words)
  assert not (tmp_path / "run/checkpoints").exists()
