"""Which files of a folder are images, and which names are the same.

Hidden files and folders, such as `._1.png` and `.ipynb_checkpoints`, are none;
nor is what is not a regular file, such as a pipe or a device, which is never
opened. A file with the suffix of an image format that is not read is named in
a warning.
"""

import functools
import logging
import os
import pathlib
import unicodedata
from collections.abc import Iterator

from PIL import Image

from segsiam_jax.errors import UserError

_logger = logging.getLogger(__name__)

EXTENSIONS = (
  *(".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"),
  *(".gif", ".pbm", ".pgm", ".ppm", ".npy"),
)
# Of images that Pillow does not know, either.
_OTHER_IMAGES = (".heic", ".svg", ".dcm", ".nii", ".czi", ".nd2", ".exr")


def is_image_name(name: str) -> bool:
  """Whether a file with that name is read as an image."""
  return not is_hidden(name) and _suffix(name) in EXTENSIONS


def is_hidden(name: str) -> bool:
  """Whether a file or a folder is one that programs keep for themselves."""
  return name.startswith(".")


def same(name: str) -> str:
  """What names have in common that differ in how letters are encoded only.

  >>> same("e\\u0301") == same("\\xe9")
  True
  """
  return unicodedata.normalize("NFC", name)


def same_but_case(name: str) -> str:
  """The same of names that differ by case, or by compatible letters, too."""
  return unicodedata.normalize("NFKC", name).casefold()


def find_images(folder: str | os.PathLike) -> list[pathlib.Path]:
  """The image files of a folder, sorted by name; there may be none."""
  folder = pathlib.Path(folder)
  files, special, unread = [], [], []
  with os.scandir(folder) as entries:
    for entry in entries:
      if is_hidden(entry.name) or entry.is_dir():
        continue
      if not is_image_name(entry.name):
        unread.append(entry.name)
      elif entry.is_file():
        files.append(folder / entry.name)
      else:
        special.append(entry.name)
  if special:
    _warn_of_special(folder, len(special), min(special))
  for suffix in {_suffix(name) for name in unread} & _unread_suffixes():
    names = [name for name in unread if _suffix(name) == suffix]
    _warn_of_unread(folder, suffix, len(names), min(names))
  return sorted(files)


def list_images(folder: str | os.PathLike) -> list[pathlib.Path]:
  """The image files of a folder, sorted by name; an error if there are none."""
  folder = pathlib.Path(folder)
  if not folder.is_dir():
    raise UserError(f"{folder}: no such folder")
  files = find_images(folder)
  if not files:
    raise UserError(
      f"{folder}: no image files; expected some of {', '.join(EXTENSIONS)}"
    )
  return files


def folders_below(folder: str | os.PathLike) -> Iterator[pathlib.Path]:
  """A folder and all folders in it, at any depth, but hidden ones."""
  for root, folders, _ in os.walk(folder):
    folders[:] = sorted(name for name in folders if not is_hidden(name))
    yield pathlib.Path(root)


def name_below(path: pathlib.Path, folder: pathlib.Path) -> str:
  """What to call a file: its path from a folder on, or all of it if elsewhere.

  >>> name_below(pathlib.Path("a/b/1.png"), pathlib.Path("a"))
  'b/1.png'
  """
  below = path.is_relative_to(folder)
  return (path.relative_to(folder) if below else path).as_posix()


class Finder:
  """Finds the files of a folder that a list names."""

  def __init__(self, folder: str | os.PathLike):
    self._folder = pathlib.Path(folder)
    self._names: dict[pathlib.Path, dict[str, str]] = {}

  def find(self, name: str) -> str | None:
    """The name of a regular file as the disk has it, or None.

    Args:
      name: relative to the folder, or absolute; its letters may be encoded in
        another way than on the disk.
    """
    if os.path.isfile(self._folder / name):
      return name
    found = self.spelled(name)
    return found if os.path.isfile(self._folder / found) else None

  def spelled(self, name: str) -> str:
    """The name as the disk has it, as far as it is there."""
    if name.isascii() or os.path.lexists(self._folder / name):
      return name
    parts: list[str] = []
    for part in pathlib.PurePath(name).parts:
      names = self._names_in(self._folder.joinpath(*parts))
      parts.append(names.get(same(part), part))
    return os.path.join(*parts)

  def _names_in(self, folder: pathlib.Path) -> dict[str, str]:
    if folder not in self._names:
      try:
        names = os.listdir(folder)
      except (OSError, ValueError):  # There is none, or can be none.
        names = []
      self._names[folder] = {same(name): name for name in names}
    return self._names[folder]


def _suffix(name: str) -> str:
  return os.path.splitext(name)[1].lower()


@functools.cache
def _unread_suffixes() -> frozenset[str]:
  known = Image.registered_extensions()
  return frozenset({*known, *_OTHER_IMAGES}) - set(EXTENSIONS)


# Each is said once, however often a folder is listed.
@functools.cache
def _warn_of_special(folder: pathlib.Path, count: int, first: str) -> None:
  _logger.warning(
    "%s: %d that are not regular files, or are broken links, are left out, "
    "first %s",
    folder,
    count,
    first,
  )


@functools.cache
def _warn_of_unread(
  folder: pathlib.Path, suffix: str, count: int, first: str
) -> None:
  _logger.warning(
    "%s: %d files of %s are left out, the first %s; to use them, save them as "
    "one of %s",
    folder,
    count,
    suffix,
    first,
    ", ".join(EXTENSIONS),
  )
