"""Where a folder keeps images, and what is known of each beside it.

A pattern such as `leftImg8bit/{split}/**/*_leftImg8bit` names files of a
folder: `{split}` is the split's name, `**` any folders, `*` the name that an
image and its mask share. Folders and name together make a pair.
"""

import functools
import hashlib
import logging
import pathlib
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar

from segsiam_jax.data import listing, splits
from segsiam_jax.data.broken import Broken
from segsiam_jax.data.folders import folder_pairs, note_strays
from segsiam_jax.errors import UserError
from segsiam_jax.files import text_files

_logger = logging.getLogger(__name__)

Pair = tuple[pathlib.Path, pathlib.Path]


class Layout(NamedTuple):
  """Patterns of the images, and of their masks."""

  images: str
  masks: str


# In the order in which they are looked for. `{kind}` is 'masks' or 'labels'.
LAYOUTS = (
  Layout("{split}/images/**/*", "{split}/{kind}/**/*"),
  Layout("images/{split}/**/*", "{kind}/{split}/**/*"),
  # CamVid, as SegNet's authors and as Kaggle hand it out.
  Layout("{split}/**/*", "{split}annot/**/*"),
  Layout("{split}/**/*", "{split}_labels/**/*_L"),
  # Cityscapes.
  Layout(
    "leftImg8bit/{split}/**/*_leftImg8bit",
    "gtFine/{split}/**/*_gtFine_labelIds",
  ),
  Layout("{split}/**/*", "{split}/**/*_mask"),
  # Without folders of splits.
  Layout("images/**/*", "{kind}/**/*"),
  Layout("**/*", "**/*_mask"),
)
USUAL = Layout("", "")
# Of a folder without splits: the share of examples that is held out.
_HELD_OUT = 0.2
_TRAINING, _EVALUATION = ("train",), ("test", "val", "valid", "validation")


def _name(pair: Pair) -> str:
  return pair[0].name


def find_pairs(
  root: str,
  split: str,
  kind: str,
  broken: Broken,
  layout: Layout = USUAL,
) -> list[Pair]:
  """Images of a split with their masks, sorted.

  `ROOT/SPLIT.csv` with the columns `image,mask` comes first, then the layout
  that is given, then `ROOT/SPLIT/images` with `ROOT/SPLIT/masks`, then the
  first of `LAYOUTS` that finds a pair.

  Args:
    root: the data set's folder.
    split: 'NAME', 'NAME[a:b]' with a and b counts or percentages as in TFDS. Of
      a folder without splits, 'train' is 80 % of the examples and 'test' the
      rest, by a hash of their names; 'all' are all.
    kind: 'masks', or 'labels' that number objects.
    broken: told of images without a mask.
    layout: patterns; empty ones for the usual layouts.

  Raises:
    UserError: nothing is found, or what is found is ambiguous.
  """
  wanted = splits.parse(split)
  folder = pathlib.Path(root)
  wanted = wanted._replace(name=_name_on_disk(folder, wanted.name))
  split = split.replace(splits.parse(split).name, wanted.name, 1)
  table = folder / f"{wanted.name}.csv"
  if layout.images:
    pairs = _checked(_match(folder, layout, wanted.name), layout, root, broken)
    if "{split}" not in layout.images:
      pairs = held_out(pairs, wanted.name, root, _name)
  elif table.is_file():
    pairs = _listed(table, broken)
  elif _is_usual(folder / wanted.name, kind):
    return folder_pairs(root, split, kind, broken)
  else:
    found = _first_layout(folder, wanted.name, kind)
    if found is None:  # The error says what is expected.
      return folder_pairs(root, split, kind, broken)
    layout, matches = found
    pairs = _checked(matches, layout, root, broken)
    if "{split}" not in layout.images:
      pairs = held_out(pairs, wanted.name, root, _name)
    _say_layout(root, split, len(pairs), layout)
  chosen = wanted.part(pairs)
  if not chosen:
    raise UserError(f"{root}: split {split!r} selects no images")
  return chosen


def _name_on_disk(folder: pathlib.Path, name: str) -> str:
  """Another name of the evaluation split, where only that is there."""
  if name not in _EVALUATION or not folder.is_dir():
    return name
  inside = {path.stem for path in folder.iterdir()}
  inside |= {p.name for path in _folders(folder) for p in _folders(path)}
  if name in inside:
    return name
  found = [other for other in _EVALUATION if other in inside]
  if found:
    _logger.info("%s: split %r is %r here", folder, name, found[0])
  return found[0] if found else name


def _folders(folder: pathlib.Path) -> list[pathlib.Path]:
  return [path for path in folder.iterdir() if path.is_dir()]


@functools.cache
def _say_layout(root: str, split: str, count: int, layout: Layout) -> None:
  """Once, however often a split is opened."""
  _logger.info(
    "%s, split %r: %d images like %s, masks like %s",
    *(root, split, count, layout.images, layout.masks),
  )


def _is_usual(folder: pathlib.Path, kind: str) -> bool:
  images = folder / "images"
  return (
    (folder / kind).is_dir()
    and images.is_dir()
    and any(listing.is_image_name(path.name) for path in images.iterdir())
  )


def _first_layout(
  folder: pathlib.Path, split: str, kind: str
) -> tuple[Layout, "_Matches"] | None:
  for layout in LAYOUTS:
    filled = Layout(*(part.replace("{kind}", kind) for part in layout))
    matches = _match(folder, filled, split)
    if matches.images.keys() & matches.masks.keys():
      return filled, matches
  return None


class _Matches(NamedTuple):
  """Files by what a pair shares: (folders, name)."""

  images: dict[tuple[str, str], list[pathlib.Path]]
  masks: dict[tuple[str, str], list[pathlib.Path]]


def _match(folder: pathlib.Path, layout: Layout, split: str) -> _Matches:
  image_files, mask_files = (
    dict(_files_like(folder, pattern, split)) for pattern in layout
  )
  # Where images and masks lie together, a mask is no image.
  if len(layout.masks) > len(layout.images):
    image_files = {
      path: key for path, key in image_files.items() if path not in mask_files
    }

  def by_key(files: dict[pathlib.Path, tuple[str, str]]):
    found: dict[tuple[str, str], list[pathlib.Path]] = {}
    for path, key in files.items():
      found.setdefault(key, []).append(path)
    return found

  return _Matches(by_key(image_files), by_key(mask_files))


def _files_like(
  folder: pathlib.Path, pattern: str, split: str
) -> Iterator[tuple[pathlib.Path, tuple[str, str]]]:
  """Image files that a pattern names, with (folders, name) of each."""
  pattern = pattern.replace("{split}", split)
  start, has_folders, name = pattern.rpartition("**/")
  if not has_folders:
    start, slash, name = pattern.rpartition("/")
    start += slash
  if "." not in name.rpartition("*")[2]:
    name += ".*"
  before, _, after = name.partition("*")
  # The last of several suffixes is the file's.
  like = re.compile(
    re.escape(before) + "(.+?)" + re.escape(after).replace(r"\*", "[^.]+")
  )
  top = folder / start
  if not top.is_dir():
    return
  for inside in listing.folders_below(top) if has_folders else (top,):
    for path in sorted(inside.iterdir()):
      match = like.fullmatch(path.name)
      if match and listing.is_image_name(path.name) and path.is_file():
        below = inside.relative_to(top).as_posix()
        yield path, (listing.same(below), listing.same(match[1]))


def finds(folder: pathlib.Path, pattern: str, split: str) -> bool:
  """Whether a folder has files that a pattern names."""
  return any(True for _ in _files_like(folder, pattern, split))


def _checked(
  matches: _Matches, layout: Layout, root: str, broken: Broken
) -> list[Pair]:
  """Pairs of one image and one mask each, sorted by the images' paths."""
  if not matches.images:
    raise UserError(
      f"{root}: no images like {layout.images}; fix config.data.image_files, "
      "in which {split} is the split's name, ** any folders and * the name"
    )
  pairs = []
  for key, images in matches.images.items():
    masks = matches.masks.get(key, [])
    for files in (images, masks):
      if len(files) > 1:
        raise UserError(
          f"{files[1]}: a second file for {key[1]!r}, next to {files[0].name}; "
          "keep one"
        )
    if masks:
      pairs.append((images[0], masks[0]))
    else:
      broken.add(f"{images[0]}: no mask like {layout.masks}")
  note_strays(
    [matches.masks[key][0] for key in matches.masks.keys() - matches.images]
  )
  return sorted(pairs)


_Item = TypeVar("_Item")


def held_out(
  items: list[_Item], split: str, root: str, name: Callable[[_Item], str]
) -> list[_Item]:
  """The part of a folder without splits that a split is.

  Args:
    items: in their order.
    split: 'train', 'test' (also called 'val' or 'validation') or 'all'.
    root: the folder, for messages.
    name: of an item; a hash of it decides.

  Raises:
    UserError: it is another split.
  """
  if split == "all":
    return items
  if split not in (*_TRAINING, *_EVALUATION):
    raise UserError(
      f"{root}: has no folders of splits, so that split {split!r} means "
      "nothing; it may be 'train', 'test' or 'all', or a part such as "
      "'all[:80%]'"
    )

  def order(item: _Item) -> bytes:
    return hashlib.sha256(name(item).encode("utf-8", "replace")).digest()

  count = max(1, round(_HELD_OUT * len(items)))
  test = set(sorted(items, key=order)[:count])
  return [item for item in items if (item in test) == (split in _EVALUATION)]


def _listed(table: pathlib.Path, broken: Broken) -> list[Pair]:
  """The pairs of a table, in its order; paths are relative to its folder."""
  finder = listing.Finder(table.parent)
  pairs = []
  for line, row in text_files.read_table(table, ("image", "mask")):
    files = [finder.find(row[column]) for column in ("image", "mask")]
    if None in files:
      column = ("image", "mask")[files.index(None)]
      broken.add(f"{table}, line {line}: {row[column]!r}: no such file")
    else:
      pairs.append(tuple(table.parent / str(file) for file in files))
  return pairs
