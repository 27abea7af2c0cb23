"""The folder that a prediction writes to, where nothing of others is lost.

What is written is listed with its digest in a hidden file of the folder. So a
file that no prediction made, or that was edited since, is known, and never
written over; nor is an input. Every file is replaced in one move once it is
whole.
"""

import contextlib
import hashlib
import json
import os
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TextIO

from etils import epath

from segsiam_jax.errors import UserError
from segsiam_jax.files import strict_json

LIST_FILE = ".predicted.jsonl"


class CannotWriteError(UserError):
  """No other file could be written, either."""


class Output:
  """A folder, and the files that a prediction may write in it.

  Attributes:
    folder: absolute.
  """

  def __init__(self, folder: epath.Path, inputs: Iterable[pathlib.Path]):
    """Reads what earlier predictions wrote.

    Args:
      folder: to write to; it exists.
      inputs: files that are read.
    """
    self.folder = folder
    self._inputs = {os.path.realpath(path) for path in inputs}
    self._claimed: set[str] = set()
    self._made: dict[str, set[str]] = {}
    file = folder / LIST_FILE
    if file.exists():
      for line in file.read_bytes().splitlines():
        # A killed prediction may have left half a line.
        with contextlib.suppress(ValueError, KeyError, TypeError):
          entry = json.loads(line)
          self._made.setdefault(entry["file"], set()).add(entry["digest"])

  def claim(self, names: Sequence[str]) -> None:
    """Makes sure that files may be written, before any work is done.

    Args:
      names: of the files, relative to the folder.

    Raises:
      UserError: one is an input, or exists and was not written by a prediction.
    """
    for name in names:
      path = self.folder / name
      if os.path.realpath(path) in self._inputs:
        raise UserError(
          f"--output={self.folder}: would overwrite the input {name}; choose "
          "another folder"
        )
      if path.exists() and not self._is_made(name):
        raise UserError(
          f"--output={self.folder}: {name} exists and was not written "
          "by a prediction, or has changed since; choose another folder, or "
          "move it away"
        )
    self._claimed.update(names)

  def is_in_use(self, path: str | os.PathLike) -> bool:
    """Whether a file is an input, or one that was claimed."""
    real = os.path.realpath(path)
    claimed = (os.path.realpath(self.folder / name) for name in self._claimed)
    return real in self._inputs or real in claimed

  def _is_made(self, name: str) -> bool:
    try:
      digest = _digest(self.folder / name)
    except OSError:  # It is a folder, or may not be read.
      return False
    return digest in self._made.get(name, ())

  def write(self, name: str, content: bytes) -> None:
    """Replaces a file that was claimed.

    Raises:
      CannotWriteError: the disk is full, for example.
    """
    with self._replaced(name) as temporary:
      temporary.write_bytes(content)

  @contextlib.contextmanager
  def open_text(self, name: str) -> Iterator[TextIO]:
    """Opens a file that was claimed; it replaces another once it is whole."""
    with self._replaced(name) as temporary, temporary.open("w") as file:
      yield file

  def write_lines(self, name: str, lines: Iterable[Mapping[str, Any]]) -> None:
    """Replaces a file that was claimed by JSON, a line each."""
    with self.open_text(name) as file:
      file.writelines(strict_json.dumps(line) + "\n" for line in lines)

  @contextlib.contextmanager
  def _replaced(self, name: str) -> Iterator[epath.Path]:
    if name not in self._claimed:
      raise ValueError(f"{name}: not claimed")
    path = self.folder / name
    # The file's own name may be as long as the system allows.
    short = hashlib.blake2b(name.encode("utf-8", "replace"), digest_size=8)
    temporary = path.parent / f".{short.hexdigest()}.tmp"
    try:
      path.parent.mkdir(parents=True, exist_ok=True)
      try:
        yield temporary
        digest = _digest(temporary)
        # Listed first: a kill in between must not make it a stranger's.
        if digest not in self._made.setdefault(name, set()):
          self._add_to_list(name, digest)
        temporary.replace(path)
      except BaseException:
        with contextlib.suppress(OSError):
          temporary.unlink(missing_ok=True)
        raise
    except OSError as error:
      raise CannotWriteError(
        f"{path}: cannot be written ({error.strerror or error}); make room, or "
        "choose another --output"
      ) from error

  def _add_to_list(self, name: str, digest: str) -> None:
    with (self.folder / LIST_FILE).open("a") as file:
      entry = json.dumps({"file": name, "digest": digest})
      # On a line of its own, also after half a line of a killed prediction.
      file.write(f"\n{entry}\n")
    self._made[name].add(digest)


def _digest(path: epath.Path) -> str:
  with path.open("rb") as file:
    return hashlib.file_digest(file, "blake2b").hexdigest()[:32]
