"""Pairs to verify, listed in a CSV file.

  first,second,same,fold
  ada/1.png,ada/2.png,1,0
  ada/1.png,bob/7.png,0,0

Paths are relative to the file's folder. `fold` may be left out.
"""

import csv
import pathlib

import numpy as np

from segsiam_jax.data import splits
from segsiam_jax.data.identities import Pairs
from segsiam_jax.data.image_files import ImageFiles
from segsiam_jax.errors import UserError

_COLUMNS = ("first", "second", "same")
_SAME = {"1": True, "true": True, "0": False, "false": False}


def open_pair_list(root: str, split: str) -> ImageFiles:
  """`ROOT/SPLIT.csv` as pairs, and the images that it names as examples.

  The identities follow from the same pairs: images that are the same as a
  third are the same. An image in no same pair is an identity of its own.

  Args:
    root: folder of the CSV files.
    split: name of a file, without '.csv'.

  Raises:
    UserError: with the number of the line; an image is missing, a pair is an
      image with itself, or a different pair follows to be the same from others.
  """
  wanted = splits.parse(split)
  if wanted.parts:
    raise UserError(
      f"split {split!r}: pairs are not cut, since both parts might show one "
      "identity; write two CSV files"
    )
  path = pathlib.Path(root) / f"{wanted.name}.csv"
  rows = _read(path)
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
  )


def _read(path: pathlib.Path) -> list[tuple[int, str, str, bool, int]]:
  """Rows of (line, first, second, same, fold)."""
  if not path.is_file():
    raise UserError(f"{path}: no such file; write a CSV with {_header()}")
  rows, there = [], set()
  # Spreadsheets begin their files with a byte order mark.
  with path.open(encoding="utf-8-sig", newline="") as file:
    reader = csv.DictReader(file)
    columns = [name.strip() for name in reader.fieldnames or ()]
    reader.fieldnames = columns
    if not set(_COLUMNS) <= set(columns):
      raise UserError(f"{path}, line 1: expected {_header()}")
    for row in reader:
      where = f"{path}, line {reader.line_num}"
      values = {
        name: (value or "").strip()
        for name, value in row.items()
        if name in (*_COLUMNS, "fold")
      }
      for name in ("first", "second"):
        image = values[name]
        if image not in there and not (path.parent / image).is_file():
          raise UserError(
            f"{where}: no image {image!r} in {path.parent}; paths are relative "
            "to the CSV's folder"
          )
        there.add(image)
      if values["first"] == values["second"]:
        raise UserError(f"{where}: {values['first']} is paired with itself")
      same = _SAME.get(values["same"].lower())
      if same is None:
        raise UserError(
          f"{where}: same = {values['same']!r}; expected 1 for one identity "
          "or 0 for two"
        )
      fold = values.get("fold") or "0"
      if not fold.isdecimal() or len(fold) > 18:  # Of 64 bits.
        raise UserError(f"{where}: fold = {fold!r}; expected 0, 1, 2 ...")
      rows.append(
        (reader.line_num, values["first"], values["second"], same, int(fold))
      )
  if not rows:
    raise UserError(f"{path}: no pairs below its first line")
  return rows


def _header() -> str:
  return "the columns first,second,same and, if there are any, fold"
