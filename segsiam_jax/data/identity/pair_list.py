"""Pairs to verify, listed in a CSV file.

  first,second,same,fold
  ada/1.png,ada/2.png,1,0
  ada/1.png,bob/7.png,0,0

Paths are relative to the file's folder. `fold` may be left out.
"""

import os
import pathlib

import numpy as np

from segsiam_jax.data import listing, splits
from segsiam_jax.data.broken import Broken
from segsiam_jax.data.identity.identities import Pairs
from segsiam_jax.data.identity.image_files import ImageFiles
from segsiam_jax.errors import UserError, shown
from segsiam_jax.files import text_files

_COLUMNS = ("first", "second", "same")
_SAME = {"1": True, "true": True, "0": False, "false": False}


def open_pair_list(
  root: str, split: str, skip_broken: bool = False
) -> ImageFiles:
  """`ROOT/SPLIT.csv` as pairs, and the images that it names as examples.

  The identities follow from the same pairs: images that are the same as a
  third are the same. An image in no same pair is an identity of its own.

  Args:
    root: folder of the CSV files.
    split: name of a file, without '.csv'.
    skip_broken: whether pairs with an image that cannot be used are left out;
      a warning names the images.

  Raises:
    UserError: with the number of the line; an image is missing, a pair is an
      image with itself, or a different pair follows to be the same from others.
  """
  wanted = splits.parse(split)
  if wanted.parts:
    raise UserError(
      f"split {split!r}: pairs cannot be split, because both parts might show "
      "one identity; write two CSV files"
    )
  path = pathlib.Path(root) / f"{wanted.name}.csv"
  broken = Broken(skip_broken)
  rows = _read(path, broken)
  names = sorted({name for row in rows for name in row[1:3]})
  index = {name: number for number, name in enumerate(names)}
  parents = list(range(len(names)))

  def root_of(number: int) -> int:
    while parents[number] != number:
      parents[number] = parents[parents[number]]
      number = parents[number]
    return number

  for _, first, second, same, _ in rows:
    if same:
      one, other = sorted((root_of(index[first]), root_of(index[second])))
      parents[other] = one
  roots = np.array([root_of(number) for number in range(len(names))])
  for line, first, second, same, _ in rows:
    if not same and roots[index[first]] == roots[index[second]]:
      raise UserError(
        f"{path}, line {line}: {first} and {second} are said to differ, but "
        "other lines make them the same"
      )
  kept, labels = np.unique(roots, return_inverse=True)
  pairs = Pairs(
    first=np.array([index[row[1]] for row in rows], np.int64),
    second=np.array([index[row[2]] for row in rows], np.int64),
    same=np.array([row[3] for row in rows]),
    fold=np.array([row[4] for row in rows], np.int64),
    kind=np.zeros(len(rows), np.int64),
  )
  return ImageFiles(
    path.parent,
    [path.parent / name for name in names],
    labels,
    [names[number] for number in kept],
    pairs=pairs,
    broken=broken,
  )


def _read(
  path: pathlib.Path, broken: Broken
) -> list[tuple[int, str, str, bool, int]]:
  """Rows of (line, first, second, same, fold)."""
  if not path.exists():
    raise UserError(
      f"{path}: no such file; write a CSV with the columns "
      f"{','.join(_COLUMNS)} and, if there are any, fold"
    )
  rows: list[tuple[int, str, str, bool, int]] = []
  finder, known = listing.Finder(path.parent), {}
  for line, values in text_files.read_table(path, _COLUMNS, ("fold",)):
    where, missing = f"{path}, line {line}", False
    for column in ("first", "second"):
      # Of several ways to write a path, one.
      name = values[column] = os.path.normpath(values[column])
      if name not in known:
        known[name] = finder.find(name)
      if known[name] is None:
        missing = True
        broken.add(
          f"{where}: no image {shown(name)} in {path.parent}; paths are "
          "relative to the CSV's folder"
        )
    same = _SAME.get(values["same"].lower())
    if same is None:
      raise UserError(
        f"{where}: same = {shown(values['same'])}; expected 1 for one identity "
        "or 0 for two"
      )
    fold = text_files.whole_number(values["fold"] or "0")
    if fold is None:
      raise UserError(
        f"{where}: fold = {shown(values['fold'])}; expected 0, 1, 2 ..."
      )
    if missing:
      continue
    first, second = known[values["first"]], known[values["second"]]
    if first == second:
      raise UserError(f"{where}: {first} is paired with itself")
    rows.append((line, first, second, same, fold))
  if not rows:
    raise UserError(f"{path}: no pairs below its first line")
  return rows
