"""Files in a zip, read into memory and never written anywhere.

A name such as `../../x` is a name like any other.
"""

import contextlib
import pathlib
import zipfile
from collections.abc import Iterator

from segsiam_jax.errors import UserError, first_line

# Of one file, unpacked: a zip of kilobytes can claim terabytes.
_MOST_BYTES = 2**26


class Archive:
  """A zip that is open.

  Attributes:
    names: of its files, in its order.
  """

  def __init__(self, path: pathlib.Path, file: zipfile.ZipFile):
    self._path, self._file = path, file
    self.names = tuple(name for name in file.namelist() if name[-1:] != "/")

  def read(self, name: str) -> bytes:
    """The content of a file.

    Raises:
      UserError: it is damaged, encrypted, or packed in a way that is not known.
    """
    where = f"{self._path}/{name}"
    try:
      size = self._file.getinfo(name).file_size
      if size > _MOST_BYTES:
        raise UserError(
          f"{where}: claims {size} bytes unpacked; no file of this "
          "data set is so large"
        )
      return self._file.read(name)
    except UserError:
      raise
    except Exception as error:  # Each way of packing raises its own.
      raise UserError(
        f"{where}: cannot be unpacked ({first_line(error)}); get the zip again"
      ) from error


@contextlib.contextmanager
def open_zip(path: pathlib.Path) -> Iterator[Archive]:
  """Opens a zip.

  Raises:
    UserError: it is none, or cannot be read.
  """
  with contextlib.ExitStack() as stack:
    try:
      if not path.is_file():
        raise ValueError("not a regular file")
      file = stack.enter_context(zipfile.ZipFile(path))
      archive = Archive(path, file)
    except Exception as error:  # Whatever its directory of files makes it.
      raise UserError(
        f"{path}: not a readable zip ({first_line(error)}); get it again"
      ) from error
    yield archive
