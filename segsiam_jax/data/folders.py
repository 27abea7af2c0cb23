"""Files of a folder data set: images, and what is known of them beside."""

import os
import pathlib
from collections.abc import Iterable, Sequence

import numpy as np

from segsiam_jax.data import listing, splits
from segsiam_jax.data.broken import Broken, note
from segsiam_jax.errors import UserError


def real_paths(paths: Iterable[pathlib.Path]) -> list[str]:
  """Absolute paths without links: a file has one of them."""
  return [os.path.realpath(path) for path in paths]


def folder_pairs(
  root: str, split: str, kind: str, broken: Broken
) -> list[tuple[pathlib.Path, pathlib.Path]]:
  """Images of a split with what is known of them, matched by name and sorted.

  Args:
    root: folder that holds one folder a split.
    split: 'NAME', 'NAME[a:b]' with a and b counts or percentages as in TFDS.
    kind: the folder next to `images`, such as 'masks'.
    broken: told of images without a partner.

  Raises:
    UserError: a folder or a partner is missing, or the split has no image.
  """
  wanted = splits.parse(split)
  folder = pathlib.Path(root) / wanted.name
  if not folder.is_dir():
    raise UserError(
      f"{folder / 'images'}: no such folder; fix config.data.dir or the "
      "name of the split, or set config.data.dir to a folder of images/ and "
      f"{kind}/, of which a fifth is held out"
    )
  pairs = wanted.part(_pairs(folder, kind, broken))
  if not pairs:
    raise UserError(f"{folder}: split {split!r} selects no images")
  for image, partner in pairs:
    if partner is None:
      broken.add(f"{image}: nothing of its name in {folder / kind}")
  return [(image, partner) for image, partner in pairs if partner is not None]


def by_stem(
  paths: Sequence[pathlib.Path], what: str
) -> dict[str, pathlib.Path]:
  """Files by `listing.same` of their names without suffixes.

  Raises:
    UserError: two have the same.
  """
  known: dict[str, pathlib.Path] = {}
  for path in paths:
    stem = listing.same(path.stem)
    if stem in known:
      raise UserError(
        f"{path}: a second {what} {path.stem!r}, next to {known[stem].name}; "
        "keep one"
      )
    known[stem] = path
  return known


def note_strays(masks: Sequence[pathlib.Path]) -> None:
  """Tells of masks that belong to no image."""
  if masks:
    note(
      f"{first_of(masks)}: "
      f"{'a mask' if len(masks) == 1 else f'{len(masks)} masks'} without an "
      "image of that name"
    )


def first_of(paths: Sequence[pathlib.Path], most: int = 5) -> str:
  """The first few paths, sorted, for a message."""
  shown = ", ".join(map(str, sorted(paths)[:most]))
  return shown + (", ..." if len(paths) > most else "")


def check_same_size(
  image_path: pathlib.Path,
  image: np.ndarray,
  mask_path: pathlib.Path,
  mask_size: tuple[int, ...],
) -> None:
  """Raises `UserError` unless an image (*mask_size, C) has its mask's size."""
  size = image.shape[:-1]
  if size != mask_size:
    order = "height x width"
    if len(size) == 3:
      order = "depth x " + order
    raise UserError(
      f"{mask_path}: the mask is {'x'.join(map(str, mask_size))}, but its "
      f"image {image_path.name} is {'x'.join(map(str, size))} "
      f"({order})"
    )


def _pairs(
  folder: pathlib.Path, kind: str, broken: Broken
) -> list[tuple[pathlib.Path, pathlib.Path | None]]:
  """(image, mask) paths by name; an error if a mask is ambiguous."""
  image_paths = listing.list_images(folder / "images")
  masks = by_stem(listing.list_images(folder / kind), "mask for")
  partners = [masks.get(listing.same(path.stem)) for path in image_paths]
  note_strays([path for path in masks.values() if path not in set(partners)])
  pairs = list(zip(image_paths, partners, strict=True))
  missing = [path.name for path, mask in pairs if mask is None]
  if missing and not broken.skip:
    broken.add(
      f"{folder / kind}: no mask for {len(missing)} of {len(image_paths)} "
      f"images, the first {missing[0]}; a mask has its image's name"
    )
  return pairs
