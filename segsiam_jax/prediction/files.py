"""The files of a prediction: which to read, what to call and how to write."""

import collections
import io
import itertools
import json
import logging
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath
from PIL import Image

from segsiam_jax import overlays
from segsiam_jax.data import images
from segsiam_jax.errors import UserError

_logger = logging.getLogger(__name__)

LINES_FILE = "predictions.jsonl"


def list_files(inputs: Sequence[str]) -> dict[pathlib.Path, str]:
  """Files by path, each with the stem of its outputs' names.

  Args:
    inputs: image files, folders of them, or folders of such folders.

  Returns:
    Stems that differ: NAME, or more of the path where NAME is not unique.

  Raises:
    UserError: nothing is named, or what is named does not exist.
  """
  if not inputs:
    raise UserError("--input: name image files or folders to predict on")

  def expand() -> Iterator[pathlib.Path]:
    for name in inputs:
      path = pathlib.Path(name)
      if path.is_dir():
        inside = sorted(path.iterdir())
        folders = [inner for inner in inside if inner.is_dir()]
        if any(inner.suffix.lower() in images.EXTENSIONS for inner in inside):
          folders = []
        for folder in folders or [path]:
          yield from images.list_images(folder)
      elif path.is_file():
        yield path
      else:
        raise UserError(f"--input={name}: no such file or folder")

  paths = list(dict.fromkeys(expand()))
  counts = collections.Counter(path.stem for path in paths)
  stems: dict[pathlib.Path, str] = {}
  taken = set()
  for path in paths:
    stem = path.stem if counts[path.stem] == 1 else "_".join(path.parts[-2:])
    numbered = (f"{stem}_{number}" for number in itertools.count(2))
    while stem in taken:
      stem = next(numbered)
    taken.add(stem)
    stems[path] = stem
  return stems


def predict_each(
  files: Mapping[pathlib.Path, str],
  target: epath.Path,
  predict_one: Callable[[pathlib.Path, str], Mapping[str, Any]],
) -> list[str]:
  """Predicts file by file; one that fails does not stop the others.

  Args:
    files: see `list_files`.
    target: folder; its predictions.jsonl gets a line a file.
    predict_one: (path, stem) -> what the file's line says beside `file`;
      raises `UserError` for a file that cannot be predicted.

  Returns:
    A complaint for every such file, logged already.
  """
  complaints = []
  with (target / LINES_FILE).open("w") as lines:
    for path, stem in files.items():
      try:
        line = predict_one(path, stem)
      except UserError as error:
        complaints.append(str(error))
        _logger.error("%s", error)
        continue
      lines.write(json.dumps({"file": str(path), **line}) + "\n")
  return complaints


def save_png(path: epath.Path, array: np.ndarray, num_classes: int = 0) -> None:
  """Writes (H, W) or (H, W, 3) uint8; class indices get a palette.

  Args:
    path: to write to.
    array: of the picture.
    num_classes: of an array of class indices, so that viewers show colours;
      0 for a picture.
  """
  image = Image.fromarray(array)
  if num_classes:
    image.putpalette(overlays.palette(num_classes).tobytes())
  with path.open("wb") as file:
    image.save(file, "PNG")


def save_pages(path: epath.Path, volume: np.ndarray) -> None:
  """Writes (D, H, W) uint8 as a TIFF of D pages, compressed without loss."""
  first, *others = (Image.fromarray(page) for page in volume)
  # Pillow reads back what it wrote of earlier pages.
  buffer = io.BytesIO()
  first.save(
    buffer,
    "TIFF",
    save_all=True,
    append_images=others,
    compression="tiff_deflate",
  )
  path.write_bytes(buffer.getbuffer())
