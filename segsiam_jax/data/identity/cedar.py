"""CEDAR signatures: 55 writers, 24 genuine and 24 forged signatures of each.

Kalera, Srihari & Xu, "Offline signature verification and identification using
distance statistics", IJPRAI 2004.

  DIR/full_org/original_WRITER_NUMBER.png
  DIR/full_forg/forgeries_WRITER_NUMBER.png

An identity is a writer. A forgery is the work of somebody else, and of whom is
not recorded: each is an identity of its own, which is like no other example,
in the group of the writer whom it imitates.

Ink is bright and paper 0. The paper is taken out, since that of genuine and of
forged signatures was scanned differently, which would give forgeries away.
"""

import itertools
import pathlib
import re
from collections.abc import Mapping, Sequence

import numpy as np

from segsiam_jax.data import images, splits
from segsiam_jax.data.broken import Broken
from segsiam_jax.data.identity.identities import Pairs
from segsiam_jax.data.identity.image_files import ImageFiles
from segsiam_jax.errors import UserError

KINDS = ("genuine", "random", "skilled")
_FOLDERS = {"original": "full_org", "forgeries": "full_forg"}
_NAME = re.compile(r"(original|forgeries)_(\d{1,9})_(\d{1,9})\.png")
_FOLDS = 10
_SEED = 0


def open_cedar(root: str, split: str, skip_broken: bool = False) -> ImageFiles:
  """The signatures of some writers, and pairs to verify them by.

  For each writer all pairs of genuine signatures (276 of 24), and as many of
  either sort of forgery: 'random', a genuine signature of another writer of the
  split, and 'skilled', a forgery of this one. They are drawn with a fixed seed.
  A pair's fold is of the writer it claims to be, so that a threshold comes from
  other writers than it judges.

  Args:
    root: see the layout above; also the folder that holds `signatures/`.
    split: 'all', or 'genuine' without forgeries and with no pairs, of which
      'all[writers=:45]' and so on select writers, in the order of their
      numbers.
    skip_broken: whether files that are not images are left out with their
      pairs; a warning names them.

  Raises:
    UserError: a folder or its images are missing, or a writer has no forgery.
  """
  wanted = splits.parse(split, ("writers",))
  if wanted.name not in ("all", "genuine"):
    raise UserError(f"split {split!r}: CEDAR has 'all' and 'genuine'")
  folder = pathlib.Path(root)
  if (folder / "signatures").is_dir():
    folder = folder / "signatures"
  files = {
    kind: _by_writer(folder / name, kind) for kind, name in _FOLDERS.items()
  }
  genuine, forged = files["original"], files["forgeries"]
  if set(genuine) != set(forged):
    writer = min(set(genuine) ^ set(forged))
    raise UserError(
      f"{folder}: writer {writer} has {len(genuine.get(writer, ()))} genuine "
      f"and {len(forged.get(writer, ()))} forged signatures; both are needed"
    )
  writers = wanted.part(sorted(genuine), "writers")
  if len(writers) < 2:
    raise UserError(
      f"{folder}: split {split!r} selects {len(writers)} of {len(genuine)} "
      "writers; at least two are needed"
    )
  paths, labels, groups = [], [], []
  names = [f"writer {writer}" for writer in writers]
  for label, writer in enumerate(writers):
    paths += genuine[writer]
    labels += [label] * len(genuine[writer])
  broken = Broken(skip_broken)
  if wanted.name == "genuine":
    return ImageFiles(folder, paths, labels, names, to_image=ink, broken=broken)
  groups += labels
  for group, writer in enumerate(writers):
    for path in forged[writer]:
      labels.append(len(names))
      names.append(path.stem)
      paths.append(path)
      groups.append(group)
  pairs = _pairs(np.array(labels), np.array(groups), len(writers))
  return ImageFiles(
    folder,
    paths,
    labels,
    names,
    groups=groups,
    pairs=pairs,
    to_image=ink,
    broken=broken,
  )


def ink(image: np.ndarray) -> np.ndarray:
  """The ink of a scan, without its paper.

  What is lighter than Otsu's threshold (1979, the one that leaves the least
  variance within ink and paper) is paper.

  Args:
    image: (H, W, C) uint8, dark ink on light paper.

  Returns:
    (H, W, 1) uint8, inverted; 0 where there is paper.
  """
  grey = images.to_channels(image, 1)
  counts = np.bincount(grey.ravel(), minlength=256).astype(np.float64)
  below = np.cumsum(counts)
  total = np.cumsum(counts * np.arange(256))
  above = below[-1] - below
  with np.errstate(divide="ignore", invalid="ignore"):
    between = below * above * (total / below - (total[-1] - total) / above) ** 2
  threshold = np.nan_to_num(between).argmax()
  return np.where(grey <= threshold, 255 - grey, 0).astype(np.uint8)


def _by_writer(
  folder: pathlib.Path, kind: str
) -> Mapping[int, Sequence[pathlib.Path]]:
  """Writer -> images, in the order of their numbers."""
  if not folder.is_dir():
    raise UserError(
      f"{folder}: no such folder; CEDAR's signatures lie in "
      f"{' and '.join(_FOLDERS.values())} of config.data.dir"
    )
  found = []
  for path in folder.iterdir():
    match = _NAME.fullmatch(path.name)
    if match and match[1] == kind and path.is_file():
      found.append((int(match[2]), int(match[3]), path))
  if not found:
    raise UserError(f"{folder}: no images named {kind}_1_1.png and so on")
  return {
    writer: [path for _, _, path in own]
    for writer, own in itertools.groupby(sorted(found), lambda row: row[0])
  }


def _pairs(labels: np.ndarray, groups: np.ndarray, writers: int) -> Pairs:
  rng = np.random.default_rng(_SEED)
  rows = []
  for writer in range(writers):
    own = np.flatnonzero(labels == writer)
    forgeries = np.flatnonzero((groups == writer) & (labels != writer))
    others = np.flatnonzero((groups != writer) & (labels < writers))
    genuine = list(itertools.combinations(own, 2))
    rows += [(*pair, True, writer, 0) for pair in genuine]
    for kind, strangers in ((1, others), (2, forgeries)):
      # Pairs by number: own signature, stranger.
      total = len(own) * len(strangers)
      for number in sorted(
        rng.choice(total, min(total, len(genuine)), replace=False)
      ):
        first, second = divmod(int(number), len(strangers))
        rows.append((own[first], strangers[second], False, writer, kind))
  first, second, same, writer, kind = (
    np.array(column) for column in zip(*rows, strict=True)
  )
  return Pairs(first, second, same, writer % _FOLDS, kind, KINDS)
