"""Mistakes of a user of instance segmentation: exit code 2 and one line."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tests.train_runs import ROOT, fails


def write_folder(root):
  for kind in ("images", "labels"):
    (root / "train" / kind).mkdir(parents=True)
  for name in ("a", "b"):
    Image.new("RGB", (12, 9)).save(root / f"train/images/{name}.png")
    Image.fromarray(np.eye(9, 12, dtype=np.uint16)).save(
      root / f"train/labels/{name}.png"
    )
  return root


def no_labels(root):
  for path in (root / "train/labels").iterdir():
    path.unlink()
  (root / "train/labels").rmdir()


def wrong_size(root):
  Image.new("L", (12, 8)).save(root / "train/labels/b.png")


def missing_image(root):
  (root / "annotations").mkdir()
  image = {"file_name": "gone.jpg", "height": 9, "width": 12}
  content = {
    "images": [image | {"id": 1}],
    "annotations": [],
    "categories": [{"id": 1, "name": "thing"}],
  }
  file = root / "annotations/instances_train.json"
  file.write_text(json.dumps(content))


COCO = ("--config.data.name=coco", "--config.data.train_split=train")


@pytest.mark.parametrize(
  ("spoil", "flags", "words"),
  [
    (no_labels, (), ("train/labels", "no such folder")),
    (wrong_size, (), ("labels/b.png", "is 8x12", "9x12")),
    (missing_image, COCO, ("1 of 1 images", "gone.jpg")),
    (None, ("--config.model.masks=3",), ("no field 'masks'",)),
    (None, ("--config.model.widht=3",), ("no field 'widht'", '"width"')),
  ],
)
def test_mistakes(tmp_path, spoil, flags, words):
  root = write_folder(tmp_path / "data")
  if spoil is not None:
    spoil(root)
  done = subprocess.run(
    [
      *(sys.executable, "-m", "segsiam_jax.main"),
      "--config=configs/maskrcnn_nuclei.py:debug",
      *(f"--config.data.dir={root}", f"--workdir={tmp_path / 'run'}", *flags),
    ],
    cwd=ROOT,
    capture_output=True,
    text=True,
    env=os.environ | {"SEGSIAM_JAX_CACHE": "", "COLUMNS": "200"},
  )
  fails((done.returncode, done.stderr), *words)
  assert not (tmp_path / "run/checkpoints").exists()
