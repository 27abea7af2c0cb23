"""Paths that may be in a bucket (gs://...), and files written whole."""

import contextlib
import glob
import os
import sys
from collections.abc import Iterator
from typing import IO

from etils import epath
from etils.epath import gpath

from segsiam_jax.errors import UserError


class _LocalPath(gpath.PosixGPath):
  """A path whose own name is never taken for a pattern, as by Orbax."""

  def glob(self, pattern: str) -> Iterator[epath.Path]:
    for found in glob.glob(pattern, root_dir=self):
      yield self / found

  def is_file(self) -> bool:
    """Whether it is a regular file: a pipe would never end."""
    return os.path.isfile(self)


def is_local(path: str | os.PathLike) -> bool:
  """Whether a path is of a file system, not of a bucket."""
  return "://" not in os.fspath(path)


def resolve(path: str | os.PathLike) -> epath.Path:
  """An absolute path; of a local one, `~` is the home folder."""
  text = os.fspath(path)
  if not is_local(text):
    return epath.Path(text)
  return _LocalPath(os.path.abspath(os.path.expanduser(text)))


@contextlib.contextmanager
def naming(path: epath.Path) -> Iterator[None]:
  """Errors of the system within tell the file, as those of opening it do."""
  try:
    yield
  except OSError as error:
    error.filename = error.filename or str(path)
    raise


@contextlib.contextmanager
def write_whole(path: epath.Path, mode: str = "w") -> Iterator[IO]:
  """Opens a file that replaces another in one move, once it is whole.

  A killed run leaves the old or the new, an error the old.

  Args:
    path: of the file.
    mode: 'w' for text, 'wb' for bytes.
  """
  temporary = path.parent / f".{path.name}.tmp"
  try:
    with naming(path), temporary.open(mode) as file:
      yield file
  except BaseException:
    temporary.unlink(missing_ok=True)
    raise
  temporary.replace(path)


def write_text(path: epath.Path, text: str) -> None:
  """Replaces a file in one move, see `write_whole`."""
  with write_whole(path) as file:
    file.write(text)


def make_writable(flag: str, folder: str, process_index: int = 0) -> None:
  """Makes a folder and proves that it can be written to.

  Args:
    flag: name of the flag that gave the folder, for the error.
    folder: to make.
    process_index: keeps the processes' proofs apart.
  """
  path = resolve(folder)
  if flag == "--workdir":
    check_takes_checkpoints(path, f"{flag}=")
  try:
    path.mkdir(parents=True, exist_ok=True)
    proof = path / f".write_test_{process_index}"
    proof.write_text("")
    proof.unlink()
  except OSError as error:
    raise UserError(
      f"{flag}={folder}: cannot write there ({error.strerror or error}); "
      "choose another folder"
    ) from error


def check_takes_checkpoints(path: epath.Path, flag: str = "") -> None:
  """Raises `UserError` if the library of checkpoints cannot have such a name.

  Args:
    path: absolute.
    flag: such as '--workdir=', for the error.
  """
  name, hint = os.fspath(path), "choose another folder"
  problem = "a backslash" if "\\" in name else ""
  try:
    same = name.encode() == os.fsencode(name)
  except UnicodeEncodeError:
    same = False
  if not same:
    problem = "characters that are not UTF-8"
    if sys.getfilesystemencoding() != "utf-8":
      hint = f"set PYTHONUTF8=1, or {hint}"
  if problem:
    raise UserError(
      f"{flag}{name}: checkpoints cannot be kept below a name with {problem}; "
      f"{hint}"
    )
