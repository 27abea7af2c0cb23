"""The files of a prediction: which to read, what to call and how to write."""

import collections
import io
import itertools
import logging
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from segsiam_jax.data import listing
from segsiam_jax.errors import UserError
from segsiam_jax.prediction.output import CannotWriteError, Output
from segsiam_jax.report import bars, overlays

_logger = logging.getLogger(__name__)

LINES_FILE = "predictions.jsonl"
# Of a stem: file systems allow 255 for a name.
_MOST_BYTES = 240


def list_files(inputs: Sequence[str]) -> dict[pathlib.Path, str]:
  """Files by path, each with the stem of its outputs' names.

  Args:
    inputs: image files, folders of them, or folders of such folders, of which
      some may be empty (see `listing.find_images`).

  Returns:
    Stems that differ by more than case: NAME, or more of the path where NAME
    is not unique.

  Raises:
    UserError: nothing is named, or what is named does not exist or holds no
      images.
  """
  if not inputs:
    raise UserError("--input: name image files or folders to predict on")

  def expand() -> Iterator[pathlib.Path]:
    for name in inputs:
      path = pathlib.Path(os.path.expanduser(name))
      if path.is_dir():
        yield from _images_of(path)
      elif path.is_file():
        yield path
      elif path.exists():
        raise UserError(f"--input={name}: neither a file nor a folder")
      else:
        raise UserError(f"--input={name}: no such file or folder")

  # One path of each file, as it was named first.
  known = {os.path.abspath(path): path for path in reversed(list(expand()))}
  paths = list(reversed(known.values()))
  counts = collections.Counter(map(_key, (path.stem for path in paths)))
  stems: dict[pathlib.Path, str] = {}
  taken = set()
  for path in paths:
    unique = counts[_key(path.stem)] == 1
    full = path.stem if unique else "_".join(path.parts[-2:])
    ends = itertools.chain([""], (f"_{n}" for n in itertools.count(2)))
    stem = next(
      s for s in (_cut(full, e) for e in ends) if _key(s) not in taken
    )
    taken.add(_key(stem))
    stems[path] = stem
  return stems


_key = listing.same_but_case


def _cut(stem: str, end: str) -> str:
  """The stem and its end, the stem cut to what file systems allow."""
  while len(os.fsencode(stem)) > _MOST_BYTES - len(end):
    stem = stem[:-1]
  return stem + end


def _images_of(folder: pathlib.Path) -> list[pathlib.Path]:
  """Images of a folder or, where it has none, of the folders in it."""
  found = listing.find_images(folder)
  if not found:
    inside = sorted(path for path in folder.iterdir() if path.is_dir())
    visible = [path for path in inside if not listing.is_hidden(path.name)]
    found = [image for one in visible for image in listing.find_images(one)]
  # It says that there are none.
  return found or listing.list_images(folder)


def predict_each(
  files: Mapping[pathlib.Path, str],
  output: Output,
  predict_one: Callable[[pathlib.Path, str], Mapping[str, Any]],
) -> list[str]:
  """Predicts file by file; one that fails does not stop the others.

  Args:
    files: see `list_files`.
    output: its predictions.jsonl, which was claimed, gets a line a file at the
      end, unless all fail.
    predict_one: (path, stem) -> what the file's line says next to `file`;
      raises `UserError` for a file that cannot be predicted.

  Returns:
    A complaint for every such file, logged already.
  """
  complaints, lines = [], []
  with bars.bar("predict", len(files)) as advance:
    for path, stem in files.items():
      try:
        lines.append({"file": str(path), **predict_one(path, stem)})
      except CannotWriteError:
        raise
      except UserError as error:
        complaints.append(str(error))
        _logger.error("%s", error)
      advance()
  if lines:
    output.write_lines(LINES_FILE, lines)
  return complaints


def png(array: np.ndarray, num_classes: int = 0) -> bytes:
  """(H, W) or (H, W, 3) uint8 as a PNG; class indices get a palette.

  Args:
    array: of the picture.
    num_classes: of an array of class indices, so that viewers show colours;
      0 for a picture.
  """
  image = Image.fromarray(array)
  if num_classes:
    image.putpalette(overlays.palette(num_classes).tobytes())
  buffer = io.BytesIO()
  image.save(buffer, "PNG")
  return buffer.getvalue()


def pages(volume: np.ndarray) -> bytes:
  """(D, H, W) uint8 as a TIFF of D pages, compressed without loss."""
  first, *others = (Image.fromarray(page) for page in volume)
  buffer = io.BytesIO()
  first.save(
    buffer,
    "TIFF",
    save_all=True,
    append_images=others,
    compression="tiff_deflate",
  )
  return buffer.getvalue()
