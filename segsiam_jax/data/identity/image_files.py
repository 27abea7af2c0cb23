"""Identities whose examples are image files, and folders of them."""

import collections
import io
import logging
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from PIL import Image

from segsiam_jax.data import images, layouts, listing, splits
from segsiam_jax.data.broken import Broken, suggest_skipping
from segsiam_jax.data.folders import real_paths
from segsiam_jax.data.identity.identities import (
  IdentitySource,
  Pairs,
  digest,
  number_equals,
)
from segsiam_jax.errors import UserError

_logger = logging.getLogger(__name__)


def as_it_is(image: np.ndarray) -> np.ndarray:
  return image


class ImageFiles(IdentitySource):
  """Image files and whom they show.

  Every file is read once when the source is opened, to find copies and files
  whose header shows that they are not images.
  Where broken files may be left out, each is decoded as well; without them
  their pairs are left out, and identities of which nothing is left.

  Attributes:
    class_names: of the identities.
    labels: (n,) int32.
    groups: (n,) int32.
    contents: (n,) int32, equal for files that are equal to the last byte.
    pairs: published ones, or None.
    paths: of the files.
    ids: the same below `root`.
  """

  def __init__(
    self,
    root: pathlib.Path,
    paths: Sequence[pathlib.Path],
    labels: Sequence[int],
    class_names: Sequence[str],
    *,
    groups: Sequence[int] | None = None,
    pairs: Pairs | None = None,
    to_image: Callable[[np.ndarray], np.ndarray] = as_it_is,
    broken: Broken | None = None,
  ):
    """Takes the examples in their order.

    Args:
      root: folder that ids are relative to.
      paths: of the images, below it.
      labels: identity of each.
      class_names: name of each identity.
      groups: of each example; None for one group.
      pairs: of examples, by index.
      to_image: (H, W, C) uint8 of a file -> that of the example; a function of
        a module, so that reading processes know it.
      broken: what was left out so far, and whether files may be; None if not.

    Raises:
      UserError: a file cannot be read, or nothing is left.
    """
    broken = broken or Broken(False)
    check = _digest_of_image if broken.skip else _digest
    numbered = enumerate(paths)
    good = broken.good(numbered, lambda one: check(one[1]))
    broken.warn(root, "examples", len(good))
    kept = np.array([number for (number, _), _ in good], np.int64)
    labels = np.asarray(labels, np.int32)[kept]
    if len(good) < len(paths):
      there, labels = np.unique(labels, return_inverse=True)
      class_names = [class_names[label] for label in there]
      groups = None if groups is None else np.asarray(groups)[kept]
      pairs = None if pairs is None else _pairs_between(pairs, kept, len(paths))
      paths = [paths[number] for number in kept]
    self.paths = tuple(paths)
    self.ids = tuple(listing.name_below(path, root) for path in paths)
    self.labels = np.asarray(labels, np.int32)
    self.groups = (
      np.zeros_like(self.labels)
      if groups is None
      else np.asarray(groups, np.int32)
    )
    self.class_names = tuple(class_names)
    self.pairs = pairs
    self._to_image = to_image
    self.contents = number_equals(content for _, content in good)

  def __len__(self) -> int:
    return len(self.paths)

  def __getitem__(self, index: int) -> dict[str, Any]:
    with suggest_skipping():
      image = images.read_image(self.paths[index])
    return {
      "image": self._to_image(image),
      "label": int(self.labels[index]),
      "group": int(self.groups[index]),
      "id": self.ids[index],
    }

  def keys(self) -> list[str]:
    """See `sources.Source`."""
    return real_paths(self.paths)


def _pairs_between(pairs: Pairs, kept: np.ndarray, count: int) -> Pairs:
  """The pairs whose examples are both kept, with their new numbers.

  Args:
    pairs: of `count` examples.
    kept: (m,) numbers of those that are kept, ascending.
    count: see above.
  """
  number = np.full(count, -1, np.int64)
  number[kept] = np.arange(len(kept))
  first, second = number[pairs.first], number[pairs.second]
  both = (first >= 0) & (second >= 0)
  return pairs._replace(
    first=first[both],
    second=second[both],
    same=pairs.same[both],
    fold=pairs.fold[both],
    kind=pairs.kind[both],
  )


def open_identity_folder(
  root: str, split: str, skip_broken: bool = False
) -> ImageFiles:
  """`ROOT/SPLIT/IDENTITY/*.png`: one folder an identity.

  Args:
    root: folder that holds one folder a split.
    split: 'NAME', or 'NAME[a:b]' for a part of its identities, in the order of
      their names; a and b are counts or percentages.
    skip_broken: whether files that are not images, and identities without any,
      are left out; a warning names them.

  Raises:
    UserError: an identity has no images, or two differ only by case, or there
      are none at all.
  """
  wanted = splits.parse(split)
  folder = pathlib.Path(root) / wanted.name
  has_splits = folder.is_dir()
  if not has_splits:
    folder = pathlib.Path(root)
    if not any(listing.find_images(path) for path in _folders_in(folder)):
      raise UserError(
        f"{folder / wanted.name}: no such folder; config.data.dir holds a "
        "folder for every identity, or for every split, which holds these"
      )
  people = _folders_in(folder)
  if not people:
    raise UserError(
      f"{folder}: holds no folders; put the images of an identity into a "
      f"folder of its own, such as {folder}/NAME/1.png"
    )
  check_names(folder, [path.name for path in people])
  stray = listing.find_images(folder)
  if stray:
    _logger.warning(
      "%s: %d images belong to no identity and are left out, the first %s",
      folder,
      len(stray),
      stray[0].name,
    )
  if not has_splits:
    people = layouts.held_out(people, wanted.name, root, lambda path: path.name)
  chosen = wanted.part(people)
  if not chosen:
    raise UserError(
      f"{folder}: split {split!r} selects none of {len(people)} identities"
    )
  broken = Broken(skip_broken)
  paths, labels = [], []
  for label, person in enumerate(chosen):
    try:
      files = listing.list_images(person)
    except UserError as error:
      broken.add(f"{error}; add images of this identity, or remove its folder")
      continue
    paths += files
    labels += [label] * len(files)
  names = [path.name for path in chosen]
  return ImageFiles(folder, paths, labels, names, broken=broken)


def _folders_in(folder: pathlib.Path) -> list[pathlib.Path]:
  """The folders in a folder but hidden ones, sorted; [] if it is none."""
  if not folder.is_dir():
    return []
  return sorted(
    path
    for path in folder.iterdir()
    if path.is_dir() and not listing.is_hidden(path.name)
  )


def check_names(where: pathlib.Path, names: Sequence[str]) -> None:
  """Raises `UserError` where two names differ only in how they are written.

  They are one identity on file systems that ignore case, and most likely
  everywhere. As two identities, their images would be trained to differ.
  """
  alike = collections.defaultdict(list)
  for name in names:
    alike[listing.same_but_case(name)].append(name)
  for same in alike.values():
    if len(same) > 1:
      raise UserError(
        f"{where}: the identities {same[0]!r} and {same[1]!r} differ only by "
        "case or by how letters are encoded; put their images together, or "
        "rename one"
      )


def _digest_of_image(path: pathlib.Path) -> bytes:
  """Of a file that can be decoded."""
  images.read_image(path)
  return _digest(path)


def _digest(path: pathlib.Path) -> bytes:
  """Of a file that is an image, as far as its header tells."""
  try:
    if not path.is_file():
      raise ValueError("not a regular file")
    content = path.read_bytes()
    if path.suffix.lower() != ".npy":
      Image.open(io.BytesIO(content)).close()
  except (OSError, SyntaxError, ValueError) as error:
    reason = str(error).partition(" <")[0]
    raise UserError(f"{path}: not a readable image ({reason})") from error
  return digest(content)
