"""The peers' numbers as users compile: the other tests hardly optimise."""

import os
import pathlib
import subprocess
import sys

import pytest

FOLDER = pathlib.Path(__file__).parent


@pytest.mark.slow
@pytest.mark.parametrize(
  "family", ["detection_ops", "metric_learning", "segmentation", "torchvision"]
)
def test_golden_files_at_the_default_level(family):
  """What `tests/conftest.py` sets comes first, so that this flag counts."""
  flags = os.environ["XLA_FLAGS"] + " --xla_backend_optimization_level=3"
  arguments = ("-n", "0", "-p", "no:cacheprovider", "-m", "not slow")
  done = subprocess.run(
    [
      *(sys.executable, "-m", "pytest", *arguments),
      str(FOLDER / f"test_{family}_golden.py"),
    ],
    cwd=FOLDER.parent.parent,
    env=os.environ | {"XLA_FLAGS": flags},
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stdout + done.stderr
  assert " passed" in done.stdout
