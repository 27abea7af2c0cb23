"""Labeled Faces in the Wild: the folder of people, and its published lists.

Huang, Ramesh, Berg & Learned-Miller, "Labeled Faces in the Wild", UMass 2007.

  DIR/lfw/Ada_Lovelace/Ada_Lovelace_0001.jpg
  DIR/pairs.txt, people.txt, pairsDevTrain.txt, peopleDevTrain.txt ...

The images may also lie in DIR/lfw_funneled, DIR/lfw-deepfunneled or DIR.
'pairs' is View 2, ten folds of 300 same and 300 different pairs, to report on;
'peopleDevTrain' and 'pairsDevTest' are View 1, to develop on.
"""

import os
import pathlib
from collections.abc import Iterator, Sequence

import numpy as np

from segsiam_jax.data import listing, splits
from segsiam_jax.data.broken import Broken
from segsiam_jax.data.identity.identities import Pairs
from segsiam_jax.data.identity.image_files import ImageFiles
from segsiam_jax.errors import UserError, listed, shown
from segsiam_jax.files import text_files

HOMEPAGE = "http://vis-www.cs.umass.edu/lfw"
_FOLDERS = (
  *("lfw", "lfw_funneled", "lfw-deepfunneled"),
  "lfw-deepfunneled/lfw-deepfunneled",
)


def open_lfw(root: str, split: str, skip_broken: bool = False) -> ImageFiles:
  """The examples of a list, and its pairs.

  Args:
    root: see the layout above.
    split: name of a list without '.txt': 'pairs', 'pairsDevTrain',
      'pairsDevTest', 'people', 'peopleDevTrain' or 'peopleDevTest'. Of the ten
      folds of 'pairs' and 'people', 'people[folds=:9]' and 'pairs[folds=9:]'
      select some. No person is in two folds.

  Raises:
    UserError: a list or an image is missing, or a list is not as published.
      Pairs are never left out: the folds would not be LFW's.
  """
  wanted = splits.parse(split, ("folds",))
  folder = pathlib.Path(root)
  path = folder / f"{wanted.name}.txt"
  if not wanted.name.startswith(("pairs", "people")):
    raise UserError(
      f"split {split!r}: LFW has 'pairs', 'people', 'pairsDevTrain', "
      "'pairsDevTest', 'peopleDevTrain' and 'peopleDevTest'"
    )
  if not path.is_file():
    raise UserError(
      f"{path}: not found; get it from {HOMEPAGE} and name its folder in "
      "config.data.dir"
    )
  images = next(
    (folder / name for name in _FOLDERS if (folder / name).is_dir()), folder
  )
  broken = Broken(skip_broken)
  lists = _Lists(path, images, broken)
  if wanted.name.startswith("people"):
    folds = wanted.part(list(lists.people()), "folds")
    return _of_people(
      path, images, [name for fold in folds for name in fold], broken
    )
  folds = wanted.part(list(lists.pairs()), "folds")
  return _of_pairs(path, images, folds, broken)


class _Lists:
  """Reads a list line by line; its errors name the line."""

  def __init__(self, path: pathlib.Path, images: pathlib.Path, broken: Broken):
    self._path, self._images, self._broken = path, images, broken
    self._finder = listing.Finder(images)
    # Blank lines stand at the end of some copies.
    self._lines = [
      (number, line.split())
      for number, line in enumerate(text_files.read_text(path).split("\n"), 1)
      if line.strip()
    ]
    self._next = 0

  def _fail(self, number: int, complaint: str) -> UserError:
    return UserError(f"{self._path}, line {number}: {complaint}")

  def _take(self, expected: str) -> tuple[int, list[str]]:
    if self._next == len(self._lines):
      raise UserError(
        f"{self._path}: ends too early, {expected} expected; download it again "
        f"from {HOMEPAGE}"
      )
    self._next += 1
    return self._lines[self._next - 1]

  def _count(self, number: int, word: str) -> int:
    count = text_files.whole_number(word)
    if count is None:
      raise self._fail(number, f"expected a number; got {shown(word)}")
    return count

  def _counts(self, number: int, words: Sequence[str]) -> list[int]:
    """Those of a header; there is no list of nothing."""
    counts = [self._count(number, word) for word in words]
    if 0 in counts:
      raise self._fail(number, "expected numbers from 1 on")
    return counts

  def _end(self) -> None:
    if self._next < len(self._lines):
      number, _ = self._lines[self._next]
      raise self._fail(number, "more lines than the header says")

  def _image(self, number: int, name: str, word: str) -> pathlib.Path | None:
    """The path of an image; None if it is missing and may be."""
    count = self._count(number, word)
    path = pathlib.Path(name, f"{name}_{count:04d}.jpg")
    if found := self._finder.find(str(path)):
      return self._images / found
    self._broken.add(
      self._fail(
        number,
        f"no image {self._images / path}; all are needed, since leaving pairs "
        "out changes the protocol",
      )
    )
    return None

  def pairs(self) -> Iterator[list[tuple[pathlib.Path, pathlib.Path, bool]]]:
    """Folds of (first, second, same); header '10 300', or '1100' for one."""
    number, header = self._take("the number of pairs")
    if len(header) > 2:
      raise self._fail(number, "expected a header such as '10 300' or '1100'")
    counts = self._counts(number, header)
    folds, size = (1, *counts) if len(counts) == 1 else counts
    for _ in range(folds):
      fold = []
      for same in (True, False):
        for _ in range(size):
          number, words = self._take(f"{folds} x 2 x {size} pairs")
          if same and len(words) == 3:
            name, one, two = words
            first, second = (name, one), (name, two)
          elif not same and len(words) == 4:
            first, second = tuple(words[:2]), tuple(words[2:])
          else:
            form = "'NAME 1 2'" if same else "'NAME 1 OTHER 2'"
            raise self._fail(number, f"expected a pair such as {form}")
          if first == second or (first[0] == second[0]) != same:
            raise self._fail(
              number,
              "an image with itself" if same else "two images of one person",
            )
          files = [self._image(number, *one) for one in (first, second)]
          if all(files):
            fold.append((*files, same))
      yield fold
    self._end()

  def people(self) -> Iterator[list[str]]:
    """Folds of names; each has its count of people before it."""
    number, header = self._take("the number of people")
    (count,) = self._counts(number, header[:1])
    # Ten folds begin with their number and then each with its own count; one
    # fold has but its count.
    several = self._next < len(self._lines) and len(self._lines[1][1]) == 1
    known: set[str] = set()
    for _ in range(count if several else 1):
      if several:
        number, words = self._take("the number of people in a fold")
        (size,) = self._counts(number, words[:1])
      else:
        size = count
      names = []
      for _ in range(size):
        number, words = self._take(f"{size} people")
        if len(words) != 2:
          raise self._fail(number, "expected a name and its number of images")
        name = self._finder.spelled(words[0])
        if name in known:
          raise self._fail(number, f"{name} is listed twice")
        known.add(name)
        have = len(_photographs(self._images / name))
        if have != self._count(number, words[1]):
          self._broken.add(
            self._fail(
              number,
              f"{listed([name])} has {words[1]} images, but "
              f"{self._images}/{listed([name])} holds {have}",
            )
          )
        names.append(name)
      yield names
    self._end()


def _photographs(folder: pathlib.Path) -> list[pathlib.Path]:
  """Those of a person; none of one who has no folder."""
  if not os.path.isdir(folder):
    return []
  return [path for path in listing.find_images(folder) if path.suffix == ".jpg"]


def _of_people(
  path: pathlib.Path,
  images: pathlib.Path,
  names: Sequence[str],
  broken: Broken,
) -> ImageFiles:
  names = sorted(names)
  if not names:
    raise UserError(f"{path}: no fold is selected")
  files = [_photographs(images / name) for name in names]
  return ImageFiles(
    images,
    [file for own in files for file in own],
    [label for label, own in enumerate(files) for _ in own],
    names,
    broken=broken,
  )


def _of_pairs(
  path: pathlib.Path,
  images: pathlib.Path,
  folds: Sequence[Sequence[tuple[pathlib.Path, pathlib.Path, bool]]],
  broken: Broken,
) -> ImageFiles:
  rows = [(*pair, fold) for fold, pairs in enumerate(folds) for pair in pairs]
  if not rows:
    raise UserError(f"{path}: no fold is selected, or there are no pairs")
  files = sorted({file for row in rows for file in row[:2]})
  index = {file: number for number, file in enumerate(files)}
  names = sorted({file.parent.name for file in files})
  labels = {name: label for label, name in enumerate(names)}
  pairs = Pairs(
    first=np.array([index[row[0]] for row in rows], np.int64),
    second=np.array([index[row[1]] for row in rows], np.int64),
    same=np.array([row[2] for row in rows]),
    fold=np.array([row[3] for row in rows], np.int64),
    kind=np.zeros(len(rows), np.int64),
  )
  return ImageFiles(
    images,
    files,
    [labels[file.parent.name] for file in files],
    names,
    pairs=pairs,
    broken=broken,
  )
