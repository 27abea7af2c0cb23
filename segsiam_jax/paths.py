"""Paths that may be in a bucket (gs://...), and files written whole."""

import contextlib
import os
from collections.abc import Iterator
from typing import TextIO

from etils import epath

from segsiam_jax.errors import UserError


def resolve(path: str | os.PathLike) -> epath.Path:
  """An absolute path."""
  text = os.fspath(path)
  return epath.Path(text if "://" in text else os.path.abspath(text))


@contextlib.contextmanager
def naming(path: epath.Path) -> Iterator[None]:
  """Errors of the system within tell the file, as those of opening it do."""
  try:
    yield
  except OSError as error:
    error.filename = error.filename or str(path)
    raise


@contextlib.contextmanager
def write_whole(path: epath.Path) -> Iterator[TextIO]:
  """Opens a file that replaces another in one move, once it is whole.

  A killed run leaves the old or the new, an error the old.
  """
  temporary = path.parent / f".{path.name}.tmp"
  try:
    with naming(path), temporary.open("w") as file:
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
