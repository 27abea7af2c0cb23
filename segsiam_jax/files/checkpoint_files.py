"""What a checkpoint's folder holds beside the arrays: small JSON files.

  checkpoints/STEP/state, data, meta   by Orbax, complete once STEP has its name
  checkpoints/STEP/checksums.json      of those, complete with them
  checkpoints/STEP/metrics/metrics     of an evaluation, whenever it was
  checkpoints/STEP/best_of.json        the metric that it was best by, if that
                                       is no longer the run's

The last two are added to a complete checkpoint, each in one move. Nothing here
needs JAX or Orbax.
"""

import errno
import json
import math
import os
import pathlib
import time
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

from segsiam_jax.errors import UserError, first_line
from segsiam_jax.files import paths

_CHECKSUMS, _BEST_OF = "checksums.json", "best_of.json"
# Written after the checksums, the first by Orbax.
_ADDED = (
  "_CHECKPOINT_METADATA",
  "commit_success.txt",
  "metrics",
  "negatives",
  _CHECKSUMS,
  _BEST_OF,
)
_CHUNK = 1 << 22


# What damaged files make Orbax, grain and JSON raise.
DAMAGE = (ValueError, KeyError, TypeError, AttributeError, OSError)


def why(error: BaseException) -> str:
  """What the system says, of an error that libraries have wrapped."""
  text = str(error)
  for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS):
    if os.strerror(number) in text:
      return os.strerror(number)
  # TensorStore adds pages of its settings.
  return first_line(error).partition(" [tensorstore_spec")[0]


def check_stays(folder: epath.Path) -> None:
  """Of a checkpoint that cannot be read: whether it is just being removed.

  Raises:
    UserError: it is, by the run that trains there.
  """
  for _ in range(10):
    if not folder.exists():
      raise UserError(
        f"{folder}: the run that trains there has just replaced it; try again"
      )
    time.sleep(0.1)


def write_checksums(folder: epath.Path) -> None:
  """Of all files of a checkpoint, while it has its temporary name.

  Not in a bucket, which keeps checksums itself: to read it all again is dear.
  """
  if paths.is_local(folder):
    paths.write_text(folder / _CHECKSUMS, json.dumps(_checksums(folder)))


def damage(
  folder: epath.Path, parts: Sequence[str] = ("state", "data", "meta")
) -> str:
  """Which files of a checkpoint are not what was saved; '' if all are.

  Args:
    folder: of the checkpoint. Without checksums, only `parts` are looked for.
    parts: folders that it must have.
  """
  missing = [part for part in parts if not (folder / part).is_dir()]
  if missing:
    return f"{folder / missing[0]} is missing"
  if not has_checksums(folder):
    return ""
  try:
    expected = json.loads((folder / _CHECKSUMS).read_text())
    have = _checksums(folder)
    problems = [
      f"{folder / name} {what}"
      for name, (size, checksum) in expected.items()
      if (what := _differs(have.get(name), size, checksum))
    ]
  except DAMAGE as error:
    return f"{folder / _CHECKSUMS} is unreadable ({first_line(error)})"
  more = f" and {len(problems) - 1} more files" if len(problems) > 1 else ""
  return problems[0] + more if problems else ""


def _differs(have: list[int] | None, size: int, checksum: int) -> str:
  if have is None:
    return "is missing"
  if have[0] != size:
    return f"has {have[0]} bytes of {size}"
  return "has other bytes than were saved" if have[1] != checksum else ""


def has_checksums(folder: epath.Path) -> bool:
  """Whether `damage` finds every damage."""
  return paths.is_local(folder) and (folder / _CHECKSUMS).exists()


def _checksums(folder: epath.Path) -> dict[str, list[int]]:
  """(bytes, CRC-32) of each file by its name below the folder."""
  found = {}
  for parent, _, files in os.walk(folder):
    for name in files:
      path = pathlib.Path(parent, name)
      relative = path.relative_to(folder)
      if relative.parts[0] in _ADDED:
        continue
      size = checksum = 0
      with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
          size += len(chunk)
          checksum = zlib.crc32(chunk, checksum)
      found[relative.as_posix()] = [size, checksum]
  return found


def write_metrics(folder: epath.Path, metrics: Mapping[str, float]) -> None:
  """Adds those of an evaluation; numbers that JSON lacks become strings."""
  (folder / "metrics").mkdir(exist_ok=True)
  values = {
    name: float(value) if math.isfinite(value) else str(float(value))
    for name, value in metrics.items()
  }
  paths.write_text(folder / "metrics" / "metrics", json.dumps(values))


def read_metrics(folder: epath.Path) -> dict[str, float] | None:
  """Those of the evaluation at a checkpoint, None if there was none.

  Raises:
    UserError: the file is damaged.
  """
  file = folder / "metrics" / "metrics"
  if not file.exists():
    return None
  try:
    metrics = json.loads(file.read_text())
    # Earlier versions wrote no metrics as {}.
    return {name: float(value) for name, value in metrics.items()} or None
  except DAMAGE as error:
    raise UserError(
      f"{file}: damaged ({first_line(error)}); name another checkpoint"
    ) from error


def read_meta(folder: epath.Path) -> dict[str, Any]:
  """What was saved as `meta`.

  Raises:
    ValueError: it is damaged.
  """
  meta = json.loads((folder / "meta" / "metadata").read_text())
  if not isinstance(meta, dict) or "evaluated" not in meta:
    path = folder / "meta" / "metadata"
    raise ValueError(f"{path} is not the metadata of a run")
  return meta


def mark_best(folder: epath.Path, metric: str) -> None:
  """Keeps a checkpoint that was the best while `metric` decided."""
  paths.write_text(folder / _BEST_OF, json.dumps({"metric": metric}))


def is_marked(folder: epath.Path) -> bool:
  return (folder / _BEST_OF).exists()
