"""Detections in COCO's format of results, a file written one by one."""

import contextlib
import itertools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TextIO

from segsiam_jax.files import paths, strict_json


def result(
  image_id: int | str,
  category_id: int,
  box: Sequence[float],
  score: float,
  mask: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
  """What COCO's format says of a detection.

  Args:
    image_id: of the data set.
    category_id: likewise.
    box: (x1, y1, x2, y2) in pixels of the image.
    score: of it.
    mask: run-length encoded, see `metrics.encode_mask`, or None.

  >>> result(7, 1, (2.0, 1.0, 4.5, 3.0), 0.5)["bbox"]
  [2.0, 1.0, 2.5, 2.0]
  """
  x1, y1, x2, y2 = (round(float(length), 2) for length in box)
  values = {
    "image_id": image_id,
    "category_id": category_id,
    "bbox": [x1, y1, round(x2 - x1, 2), round(y2 - y1, 2)],
    "score": float(score),
  }
  if mask is not None:
    values["segmentation"] = dict(mask)
  return values


@contextlib.contextmanager
def write_results(
  path: str | os.PathLike,
) -> Iterator[Callable[[Mapping[str, Any]], None]]:
  """Opens a file of results; those of a whole data set need no memory.

  Args:
    path: of the JSON, see `paths.write_whole`.

  Yields:
    A function that takes results one by one.
  """
  with paths.write_whole(paths.resolve(path)) as file, as_list(file) as add:
    yield add


@contextlib.contextmanager
def as_list(
  file: TextIO,
) -> Iterator[Callable[[Mapping[str, Any]], None]]:
  """Writes results to an open file, see `write_results`."""
  separators = itertools.chain(["\n"], itertools.repeat(",\n"))
  file.write("[")
  yield lambda values: file.write(next(separators) + strict_json.dumps(values))
  file.write("\n]\n")
