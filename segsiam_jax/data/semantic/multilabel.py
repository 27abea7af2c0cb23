"""Folders of classes that may overlap: a black and white mask for each.

    ROOT/SPLIT/images/NAME.*     ROOT/SPLIT/masks/CLASS/NAME.*

and every other layout of `layouts`, with a folder for each class below that of
the masks. Or `ROOT/SPLIT.csv` with the column `image`, and one for each class;
an empty cell says that the class is not in the image. A class called `ignore`
says which pixels count for no class.
"""

import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from segsiam_jax.data import images, layouts, listing, splits
from segsiam_jax.data.broken import Broken, suggest_skipping
from segsiam_jax.data.folders import check_same_size, real_paths
from segsiam_jax.errors import UserError
from segsiam_jax.fields import semantic
from segsiam_jax.files import text_files
from segsiam_jax.ops import multilabel

IGNORE_CLASS = "ignore"
_IMAGE = "image"
# An image, and the mask of each class; None where it has no pixel.
Files = tuple[pathlib.Path, tuple[pathlib.Path | None, ...]]


class MultilabelSource:
  """Images with an `ops.multilabel` label.

  Attributes:
    class_names: one name a class, in the order of the bits.
    paths: of each example, its image and its masks.
    ids: names of the images.
    pixels: (K,) int64, of each class in all masks.
    images_with: (K,) int64, how many images have each class.
    size: pixels of all images.
  """

  def __init__(
    self,
    root: str,
    split: str,
    class_names: Sequence[str] = (),
    image_format: images.ImageFormat | None = None,
    layout: layouts.Layout = layouts.USUAL,
    skip_broken: bool = False,
  ):
    """Lists and checks the files of a split.

    Args:
      root: the data set's folder.
      split: see `layouts.find_pairs`.
      class_names: in the order of the bits; () for those of the table, or the
        folders of masks, sorted.
      image_format: that images come in; None for that of an 8-bit file.
      layout: patterns, that of the masks with `{class}`.
      skip_broken: whether examples that cannot be used are left out.

    Raises:
      UserError: something is missing or wrong with the data.
    """
    self._format = image_format
    self._rank = 2 if image_format is None else image_format.rank
    broken = Broken(skip_broken)
    self.class_names, files = find_files(
      root, split, class_names, broken, layout
    )
    counted = broken.good(files, self._check)
    self.paths = [each for each, _ in counted]
    broken.warn(f"{root}, split {split!r}", "examples", len(self.paths))
    self.ids = tuple(image.name for image, _ in self.paths)
    counts = np.array([counts for _, counts in counted], np.int64)
    self.pixels = counts[:, :-1].sum(0)
    self.images_with = (counts[:, :-1] > 0).sum(0)
    self.size = int(counts[:, -1].sum())

  def __len__(self) -> int:
    return len(self.paths)

  def __getitem__(self, index: int) -> dict[str, Any]:
    with suggest_skipping():
      image = images.read_as(self.paths[index][0], self._format)
      return {"image": image, "label": self.label(index)}

  def keys(self) -> list[str]:
    """See `sources.Source`: the images' files, links followed."""
    return real_paths(image for image, _ in self.paths)

  def label(self, index: int) -> np.ndarray:
    """Only the label of an example: (H, W) or (D, H, W) int32."""
    return self._read_label(self.paths[index])

  def _read_label(
    self, files: Files, size: tuple[int, ...] | None = None
  ) -> np.ndarray:
    """The label; of an image without any mask, of its size."""
    image_path, paths = files
    masks = [None if path is None else self._read_mask(path) for path in paths]
    known = [mask for mask in masks if mask is not None]
    if size is None and not known:
      size = images.read_as(image_path, self._format).shape[:-1]
    size = size or known[0].shape
    label = np.zeros(size, np.int32)
    for index, (path, mask) in enumerate(zip(paths, masks, strict=True)):
      if mask is None:
        continue
      if mask.shape != size:
        raise UserError(
          f"{path}: the mask is {'x'.join(map(str, mask.shape))}, but the "
          f"others of {image_path.name} are {'x'.join(map(str, size))}"
        )
      if index < len(self.class_names):
        label |= mask.astype(np.int32) << index
      else:
        label[mask] = multilabel.IGNORE
    return label

  def _read_mask(self, path: pathlib.Path) -> np.ndarray:
    """A black and white mask, (H, W) or (D, H, W) bool."""
    values = images.read_label(path, self._rank)
    counts = images.count_values(values)
    others = np.setdiff1d(np.flatnonzero(counts), (0, 1, 255))
    if others.size or (counts[1] and counts[255]):
      found = ", ".join(map(str, np.flatnonzero(counts)[:5]))
      raise UserError(
        f"{path}: the mask of a class has the values 0 and 1, or 0 and 255; "
        f"this one has {found}"
      )
    return values != 0

  def _check(self, files: Files) -> np.ndarray:
    """(K + 1,) pixels of each class, and of the image."""
    image_path, masks = files
    image = images.read_as(image_path, self._format)
    size = image.shape[:-1]
    first = next((mask for mask in masks if mask is not None), image_path)
    label = self._read_label(files, None if first != image_path else size)
    check_same_size(image_path, image, first, label.shape)
    counts = multilabel.count(label, len(self.class_names))
    return np.append(counts, label.size)


def find_files(
  root: str,
  split: str,
  class_names: Sequence[str],
  broken: Broken,
  layout: layouts.Layout = layouts.USUAL,
) -> tuple[tuple[str, ...], list[Files]]:
  """The classes, and the images of a split with a mask of each.

  The last of the masks is that of `ignore`, where there is one.

  Raises:
    UserError: there are no masks of classes, or too many.
  """
  wanted = splits.parse(split)
  table = pathlib.Path(root) / f"{wanted.name}.csv"
  if not layout.images and table.is_file():
    names, files = _listed(table, class_names, broken)
    files = wanted.part(files)
  else:
    names = tuple(class_names) or _folders_of_classes(root, wanted.name, layout)
    files = _joined(root, split, names, broken, layout)
  for name in names:
    if not semantic.is_folder_name(name):
      raise UserError(
        f"{root}: a class called {name!r} cannot have a folder of its name"
      )
  if len(names) > multilabel.MOST_CLASSES:
    raise UserError(
      f"{root}: {len(names)} classes that may overlap; at most "
      f"{multilabel.MOST_CLASSES} are possible"
    )
  if not files and not broken.count:
    raise UserError(f"{root}: split {split!r} selects no images")
  return names, files


def _joined(
  root: str,
  split: str,
  names: Sequence[str],
  broken: Broken,
  layout: layouts.Layout,
) -> list[Files]:
  """The pairs of all classes together."""

  def pairs(name: str, broken: Broken) -> dict[pathlib.Path, pathlib.Path]:
    masks = layout.masks.replace("{class}", name)
    return dict(
      layouts.find_pairs(
        root,
        split,
        f"masks/{name}",
        broken,
        layouts.Layout(layout.images, masks),
      )
    )

  of_classes = [pairs(name, broken) for name in names]
  ignored = {}
  if _has_ignored(root, splits.parse(split).name, layout):
    ignored = pairs(IGNORE_CLASS, Broken(skip=True))
  first, *rest = of_classes
  return [
    (image, tuple(found[image] for found in of_classes) + (ignored.get(image),))
    for image in first
    if all(image in found for found in rest)
  ]


def _folders_of_classes(
  root: str, split: str, layout: layouts.Layout
) -> tuple[str, ...]:
  if layout.images:
    raise UserError(
      "config.data.class_names: name the classes, which config.data.mask_files "
      "has as {class}"
    )
  places = _places(root, split)
  for place in places:
    if place.is_dir():
      inside = (path.name for path in place.iterdir() if path.is_dir())
      names = sorted(
        name
        for name in inside
        if name != IGNORE_CLASS and not listing.is_hidden(name)
      )
      if names:
        return tuple(names)
  raise UserError(
    f"{places[0]}: no folder of masks for each class; with "
    "config.data.multilabel an image has a black and white mask of every "
    f"class, {places[0]}/CLASS/NAME.png, or a table names them, "
    f"{root}/{split}.csv"
  )


def _places(root: str, split: str) -> list[pathlib.Path]:
  """Where folders of classes may be."""
  folder = pathlib.Path(root)
  of_split = [folder / split / "masks", folder / "masks" / split]
  return [*of_split, folder / "masks"]


def _has_ignored(root: str, split: str, layout: layouts.Layout) -> bool:
  if layout.masks:
    pattern = layout.masks.replace("{class}", IGNORE_CLASS)
    return layouts.finds(pathlib.Path(root), pattern, split)
  return any((place / IGNORE_CLASS).is_dir() for place in _places(root, split))


def _listed(
  table: pathlib.Path, class_names: Sequence[str], broken: Broken
) -> tuple[tuple[str, ...], list[Files]]:
  header = text_files.read_header(table)
  found = [name for name in header if name not in (_IMAGE, IGNORE_CLASS)]
  names = tuple(class_names or found)
  if not names:
    raise UserError(f"{table}: expected a column for each class beside 'image'")
  columns = (*names, IGNORE_CLASS) if IGNORE_CLASS in header else names
  finder = listing.Finder(table.parent)
  files: list[Files] = []
  for line, row in text_files.read_table(table, (_IMAGE, *columns)):
    named = [row[column] for column in (_IMAGE, *columns)]
    places = [finder.find(name) if name else None for name in named]
    missing = [
      column
      for column, name, place in zip(
        (_IMAGE, *columns), named, places, strict=True
      )
      if place is None and (name or column == _IMAGE)
    ]
    if missing:
      name = row[missing[0]]
      broken.add(f"{table}, line {line}: {missing[0]}: {name!r}: no such file")
      continue
    image, *masks = (
      None if place is None else table.parent / str(place) for place in places
    )
    files.append((image, tuple(masks)))
  return names, files
