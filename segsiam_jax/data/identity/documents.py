"""Matching scans and photographs of documents to their pages."""

import io
import os
import pathlib
from typing import Any

import numpy as np
from PIL import Image

from segsiam_jax.data import images, listing, splits
from segsiam_jax.data.broken import Broken, suggest_skipping
from segsiam_jax.data.builders import pages, scans
from segsiam_jax.data.folders import real_paths
from segsiam_jax.data.identity.identities import IdentitySource, Trials
from segsiam_jax.errors import UserError
from segsiam_jax.files import text_files

# A copy is looked for among so many pages.
_WAYS = 200
# Of every page: itself, two scans and two photographs.
_COPIES = (scans.scan, scans.scan, scans.photograph, scans.photograph)


class PagesSource(IdentitySource):
  """Images of pages, such as RVL-CDIP's, and degraded copies made of them.

  A page is an identity with five examples: itself and what
  `segsiam_jax.data.builders.scans` makes of it, the same at every reading.

  Attributes:
    class_names: the pages' paths.
    labels: (n,) int32.
    groups: (n,) int32, all 0.
    episodes: every copy is looked for among the pages.
  """

  def __init__(self, root: str, split: str, skip_broken: bool = False):
    """Lists the pages of a split.

    Args:
      root: folder with the pages of a split in the folder of its name, at any
        depth, or RVL-CDIP's with `images/` and `labels/SPLIT.txt`.
      split: 'NAME', or 'NAME[a:b]' for a part of its pages.
      skip_broken: whether pages that cannot be used are left out; a warning
        names them. Every page is decoded for that.

    Raises:
      UserError: there are no pages, or a listed one is missing.
    """
    wanted, broken = splits.parse(split), Broken(skip_broken)
    folder, listed = pathlib.Path(root), pathlib.Path(root, "labels")
    if (listed / f"{wanted.name}.txt").is_file():
      folder = folder / "images"
      paths = _listed(listed / f"{wanted.name}.txt", folder, broken)
    else:
      folder = folder / wanted.name
      if not folder.is_dir():
        raise UserError(
          f"{folder}: no such folder, and no {listed / wanted.name}.txt"
        )
      paths = sorted(
        path
        for below in listing.folders_below(folder)
        for path in listing.find_images(below)
      )
    self._paths = wanted.part(paths)
    if not self._paths:
      raise UserError(f"{folder}: split {split!r} selects no pages")
    if skip_broken:
      good = broken.good(self._paths, _check)
      self._paths = [path for path, _ in good]
    broken.warn(f"{root}, split {split!r}", "pages", len(self._paths))
    self.class_names = tuple(
      listing.name_below(path, folder) for path in self._paths
    )
    number = 1 + len(_COPIES)
    self.labels = np.arange(number * len(self._paths), dtype=np.int32) // number
    self.groups = np.zeros_like(self.labels)
    self.episodes = matching_trials(
      self.labels, np.arange(len(self.labels)) % number == 0
    )

  def __len__(self) -> int:
    return len(self.labels)

  def __getitem__(self, index: int) -> dict[str, Any]:
    label, copy = divmod(int(index), 1 + len(_COPIES))
    with suggest_skipping():
      image = _read_grey(self._paths[label])
    if copy:
      # At the size that degradation is made for.
      image = images.resize_image(image, (pages.HEIGHT, pages.WIDTH))
      rng = np.random.default_rng((label, copy))
      file = _COPIES[copy - 1](image[..., 0], rng)
      image = np.asarray(Image.open(io.BytesIO(file)))[..., None]
    return {
      "image": image,
      "label": label,
      "group": 0,
      "id": f"{self.class_names[label]}#{copy}",
    }

  def keys(self) -> list[str]:
    """See `sources.Source`."""
    return [
      f"{path}#{copy}"
      for path in real_paths(self._paths)
      for copy in range(1 + len(_COPIES))
    ]


def matching_trials(
  labels: np.ndarray, original: np.ndarray, ways: int = _WAYS
) -> Trials | None:
  """Each copy looked for among originals, its own being one of them.

  Args:
    labels: (n,) int; each identity has one original.
    original: (n,) bool.
    ways: number of originals to choose from; fewer if there are not as many.
      Identities are taken in their order, and those that do not fill a last
      set of that size are left out.

  Returns:
    The trials; None if there is no copy, or but one identity.
  """
  originals = np.flatnonzero(original)
  originals = originals[np.argsort(labels[originals], kind="stable")]
  ways = min(ways, len(originals))
  if ways < 2 or original.all():
    return None
  place = {int(labels[index]): n for n, index in enumerate(originals)}
  query, support, answer, episode = [], [], [], []
  for index in np.flatnonzero(~np.asarray(original)):
    number, among = divmod(place[int(labels[index])], ways)
    if (number + 1) * ways <= len(originals):
      query.append(index)
      support.append(originals[number * ways : (number + 1) * ways, None])
      answer.append(among)
      episode.append(number)
  return Trials(*map(np.array, (query, support, answer, episode)))


def _check(path: pathlib.Path) -> None:
  _read_grey(path)


def _read_grey(path: pathlib.Path) -> np.ndarray:
  image = images.read_image(path)
  try:
    return images.to_channels(image, 1)
  except ValueError as error:
    raise UserError(f"{path}: {error}") from error


def _listed(
  path: pathlib.Path, folder: pathlib.Path, broken: Broken
) -> list[pathlib.Path]:
  """The images of RVL-CDIP's lists: one path and its class per line."""
  finder, paths = listing.Finder(folder), {}
  for number, line in enumerate(text_files.read_text(path).split("\n"), 1):
    if not line.strip():
      continue
    name = line.split()[0]
    found = finder.find(os.path.normpath(name))
    if found is None:
      broken.add(f"{path}, line {number}: no image {folder / name}")
    elif found in paths:
      raise UserError(
        f"{path}, line {number}: {found} is in line {paths[found]} already; a "
        "page is listed once"
      )
    else:
      paths[found] = number
  return [folder / name for name in paths]
