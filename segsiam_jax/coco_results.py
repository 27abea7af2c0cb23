"""Detections in COCO's format of results, a file written one by one."""

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any, Self

from segsiam_jax import paths


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


class ResultsFile:
  """Takes results one by one, so that those of a data set need no memory.

  The file appears when it is whole; after an error the old one stays.
  """

  def __init__(self, path: str | os.PathLike):
    """Opens the file.

    Args:
      path: of the JSON.
    """
    self._path = paths.resolve(path)
    self._temporary = self._path.parent / f".{self._path.name}.tmp"
    self._separator = "\n"
    self._file = self._temporary.open("w")
    self._file.write("[")

  def __enter__(self) -> Self:
    return self

  def add(self, values: Mapping[str, Any]) -> None:
    """Writes a result."""
    self._file.write(self._separator + json.dumps(values))
    self._separator = ",\n"

  def __exit__(self, error_type: Any, *_: Any) -> None:
    if error_type is None:
      self._file.write("\n]\n")
    self._file.close()
    if error_type is None:
      self._temporary.replace(self._path)
    else:
      self._temporary.unlink(missing_ok=True)
