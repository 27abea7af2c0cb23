"""Files that cannot be predicted: each is named, and the others are done."""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from segsiam_jax import predict
from segsiam_jax.errors import UserError

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture
def mixed(tmp_path, rng):
  """One good file, and what is said of each of four bad ones."""
  folder = tmp_path / "in"
  folder.mkdir()
  Image.fromarray(rng.integers(0, 256, (20, 30, 3), np.uint8)).save(
    folder / "good.png"
  )
  (folder / "broken.png").write_bytes(b"no image")
  np.save(folder / "channels.npy", np.zeros((9, 9, 5), np.uint8))
  Image.fromarray(np.zeros((9, 9), np.uint16)).save(folder / "words.png")
  pages = [Image.new("L", (9, 9))] * 4
  pages[0].save(folder / "pages.tif", save_all=True, append_images=pages[1:])
  said = {
    "broken.png": "not a readable image",
    "channels.npy": "config.data.channels = 3: cannot convert 5 channels to 3",
    "words.png": "16 bits per channel, where 8 are expected; convert them or, "
    "where the config has the field, set --config.data.image_dtype=uint16",
    "pages.tif": "cannot convert 4 channels to 3",
  }
  return folder, said


def check_output(out):
  assert [path.name for path in (out / "labels").iterdir()] == ["good.png"]
  with Image.open(out / "labels/good.png") as label:
    assert label.size == (30, 20)
  [line] = (out / "predictions.jsonl").read_text().splitlines()
  assert "good.png" in line


def test_good_files_among_bad_ones(trained, mixed, tmp_path, caplog):
  folder, said = mixed
  config, workdir = trained
  with pytest.raises(UserError, match=r"4 of 5 inputs.*the first: .*broken"):
    predict.predict(config, str(workdir), [str(folder)], str(tmp_path / "out"))
  for name, words in said.items():
    [message] = [text for text in caplog.messages if name in text]
    assert words in message
    assert "\n" not in message
  check_output(tmp_path / "out")


@pytest.mark.slow
def test_the_command_line_says_so(trained, mixed, tmp_path):
  folder, said = mixed
  done = subprocess.run(
    [
      *(sys.executable, "-m", "segsiam_jax.main", "--mode=predict"),
      *(f"--workdir={trained[1]}", f"--input={folder}"),
      *(f"--output={tmp_path / 'out'}", "--config.predict.window=(16, 16)"),
    ],
    cwd=ROOT,
    capture_output=True,
    text=True,
    env=os.environ | {"SEGSIAM_JAX_CACHE": ""},
  )
  assert done.returncode == 2, done.stderr
  assert "Traceback" not in done.stderr
  for words in said.values():
    assert words in done.stderr
  [line] = [
    line for line in done.stderr.splitlines() if line.startswith("error: ")
  ]
  assert "4 of 5 inputs could not be predicted" in line
  check_output(tmp_path / "out")
