"""metrics.jsonl of a run: a JSON object a line, read, added to and cut back.

A killed process can leave half a last line. Such a line does not count: reading
leaves it out, and what is added starts a new one.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from etils import epath

from segsiam_jax.files import paths, strict_json

METRICS_FILE = "metrics.jsonl"


def read(folder: epath.Path) -> list[dict[str, Any]]:
  """The whole lines of a workdir's file; [] if there is none."""
  path = folder / METRICS_FILE
  if not path.exists():
    return []
  return [line for _, line in _lines(path.read_bytes()) if line is not None]


def add(folder: epath.Path, line: Mapping[str, Any]) -> None:
  """Adds a line in one write; JSON has no NaN, which becomes null."""
  path = folder / METRICS_FILE
  text = strict_json.dumps(dict(line)) + "\n"
  if _is_torn(path):
    text = "\n" + text
  with paths.naming(path), path.open("ab") as file:
    file.write(text.encode())


def keep(
  folder: epath.Path, wanted: Callable[[Mapping[str, Any]], bool]
) -> None:
  """Drops torn lines and those that are not wanted; the file is replaced.

  Where there is none, an empty one is made.
  """
  path = folder / METRICS_FILE
  if not path.exists():
    path.touch()
    return
  content = path.read_bytes()
  kept = [
    text for text, line in _lines(content) if line is not None and wanted(line)
  ]
  after = b"".join(text + b"\n" for text in kept)
  if after != content:
    paths.write_text(path, after.decode())


def _lines(content: bytes) -> Iterator[tuple[bytes, dict[str, Any] | None]]:
  """Each line's text, and what it says; None of a torn one."""
  for text in content.split(b"\n"):
    if not text.strip():
      continue
    try:
      line = json.loads(text)
    except ValueError:
      line = None
    good = isinstance(line, dict) and {"step", "split"} <= set(line)
    yield text, line if good else None


def _is_torn(path: epath.Path) -> bool:
  """Whether the file's last line has no end."""
  try:
    with path.open("rb") as file:
      file.seek(0, 2)
      if not file.tell():
        return False
      file.seek(-1, 2)
      return file.read(1) != b"\n"
  except OSError:
    return False
