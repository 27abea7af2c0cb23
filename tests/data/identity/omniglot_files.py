"""Fakes of Omniglot's files."""

import io

import numpy as np
from PIL import Image


def drawing(number):
  """1-bit PNG as in Omniglot: paper 1, ink 0; (bytes, where ink is)."""
  rng = np.random.default_rng(number)
  ink = np.zeros((105, 105), bool)
  y, x = rng.integers(5, 90, size=2)
  ink[y : y + 10, x : x + 3] = True
  return bit_png(~ink), ink


def bit_png(paper):
  buffer = io.BytesIO()
  Image.fromarray(paper).save(buffer, "PNG")
  return buffer.getvalue()


def write_runs(root, runs=2, ways=3):
  """run01/training/class01.png ... and run01/class_labels.txt."""
  rng = np.random.default_rng(0)
  for run in range(1, runs + 1):
    folder = root / f"run{run:02d}"
    for name in ("training", "test"):
      (folder / name).mkdir(parents=True)
    answers = rng.permutation(ways)
    lines = []
    for item in range(ways):
      number = 100 * run + item
      (folder / f"training/class{item + 1:02d}.png").write_bytes(
        drawing(number)[0]
      )
      # The query is its class's drawing, mirrored.
      paper = ~drawing(100 * run + answers[item])[1][:, ::-1]
      (folder / f"test/item{item + 1:02d}.png").write_bytes(bit_png(paper))
      lines.append(
        f"{folder.name}/test/item{item + 1:02d}.png "
        f"{folder.name}/training/class{answers[item] + 1:02d}.png\n"
      )
    (folder / "class_labels.txt").write_text("".join(lines))
