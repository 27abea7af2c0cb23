"""What the values or colours of masks mean: one class, several, or nothing.

A legend is a CSV file with the columns `value,class` or `r,g,b,class`, or one
of `PRESETS`. Several lines may name one class; a line without a class says
that its pixels are ignored, as is 255 where values are numbers. Classes are
numbered in the order in which they come.
"""

import logging
import pathlib
from collections.abc import Sequence
from concurrent import futures
from typing import NamedTuple

import numpy as np

from segsiam_jax.data import images
from segsiam_jax.data.semantic import adapters
from segsiam_jax.errors import UserError
from segsiam_jax.files import text_files

_logger = logging.getLogger(__name__)

# Of a folder: a class name a line.
CLASSES_FILE = "classes.txt"
# More values than that are not the classes of a set without a legend.
_MOST_FOUND = 64
# What no line names.
_STRAY = -1
_RGB = ("r", "g", "b")


class Legend(NamedTuple):
  """Classes of mask values.

  Attributes:
    class_names: by index.
    table: (256,) or, of RGB masks, (2^24,) int16: class index by value, or by
      colour as 65536 r + 256 g + b; `adapters.IGNORE_LABEL` is ignored.
    source: where that is written, for messages.
  """

  class_names: tuple[str, ...]
  table: np.ndarray
  source: str

  @property
  def colors(self) -> bool:
    """Whether masks are RGB."""
    return len(self.table) > 256

  def read(self, path: pathlib.Path, rank: int = 2) -> np.ndarray:
    """A mask as class indices.

    Args:
      path: of the file.
      rank: 3 for volumes.

    Returns:
      (H, W) or (D, H, W) uint8.

    Raises:
      UserError: the file is not such a mask, or a value has no meaning.
    """
    codes = _codes(path, rank) if self.colors else images.read_label(path, rank)
    classes = self.table[codes]
    if (classes == _STRAY).any():
      stray = np.unique(codes[classes == _STRAY])
      shown = ", ".join(self._shown(int(code)) for code in stray[:5])
      shown += ", ..." if len(stray) > 5 else ""
      raise UserError(
        f"{path}: {'colours' if self.colors else 'values'} {shown} are not in "
        f"{self.source}"
      )
    return classes.astype(np.uint8)

  def class_values(self) -> tuple[int, ...]:
    """The value of each class; () where it is the class index."""
    indices = range(len(self.class_names))
    values = tuple(int(np.argmax(self.table == index)) for index in indices)
    return () if values == tuple(indices) else values

  def _shown(self, code: int) -> str:
    if not self.colors:
      return str(code)
    return f"({code >> 16}, {code >> 8 & 255}, {code & 255})"


def of_values(
  class_names: Sequence[str],
  label_values: Sequence[int] = (),
  ignore_values: Sequence[int] = (),
) -> Legend:
  """The legend of masks that hold numbers.

  Args:
    class_names: by index.
    label_values: the value of each class; () for its index.
    ignore_values: besides 255, which is ignored unless it is a class.
  """
  table = _table(256)
  table[[255, *ignore_values]] = adapters.IGNORE_LABEL
  table[list(label_values or range(len(class_names)))] = np.arange(
    len(class_names)
  )
  return Legend(tuple(class_names), table, "config.data.label_values")


def of_masks(
  root: str,
  masks: Sequence[pathlib.Path],
  ignore_values: Sequence[int] = (),
  rank: int = 2,
  skip_broken: bool = False,
) -> Legend:
  """The legend of masks that nothing is said about.

  Names are the lines of `ROOT/classes.txt`, of class indices. Without it every
  value that occurs is a class; 0 and 255 alone are black and white.

  Args:
    root: the data set's folder.
    masks: of the training split.
    ignore_values: besides 255.
    rank: 3 for volumes.
    skip_broken: whether files that are no masks are left out.

  Raises:
    UserError: a file is not a mask, or there are fewer than two values.
  """
  file = pathlib.Path(root) / CLASSES_FILE
  if file.is_file():
    lines = map(str.strip, text_files.read_text(file).split("\n"))
    names = [line for line in lines if line]
    if len(names) < 2 or len(set(names)) < len(names):
      raise UserError(f"{file}: expected two or more names, a line each")
    return of_values(names, (), ignore_values)

  def count(path: pathlib.Path) -> np.ndarray:
    try:
      return images.count_values(images.read_label(path, rank))
    except UserError:
      if skip_broken:
        return np.zeros(256, np.int64)
      raise

  with futures.ThreadPoolExecutor() as pool:
    counts = sum(pool.map(count, masks), np.zeros(256, np.int64))
  counts[list(ignore_values)] = 0
  values = [int(value) for value in np.flatnonzero(counts)]
  if values == [0, 255]:
    names = ["background", "object"]
  else:
    values = [value for value in values if value != adapters.IGNORE_LABEL]
    names = [f"class {value}" for value in values]
  if len(values) < 2:
    raise UserError(
      f"{masks[0].parent}: the only mask value is "
      f"{', '.join(map(str, values)) or 255}; a mask tells classes apart"
    )
  if len(values) > _MOST_FOUND:
    raise UserError(
      f"{masks[0].parent}: the masks have {len(values)} values, too many to be "
      f"classes; name the classes in {file} or in config.data.class_names, or "
      "set config.data.masks='instances' where they number objects"
    )
  found = dict(zip(values, names, strict=True))
  _logger.info("classes found in the masks: %s", found)
  return of_values(names, values, ignore_values)


def read_legend(name: str) -> Legend:
  """The legend of `config.data.legend`.

  Args:
    name: a key of `PRESETS`, or a CSV file.

  Raises:
    UserError: the file is not a legend.
  """
  if name in PRESETS:
    return _legend(PRESETS[name], f"the legend {name!r}")
  path = pathlib.Path(name).expanduser()
  if not path.is_file():
    raise UserError(
      f"config.data.legend = {name!r}: expected a CSV file, or one of "
      f"{', '.join(PRESETS)}"
    )
  optional = ("value", *_RGB)
  rows = text_files.read_table(path, ("class",), optional)
  lines: list[tuple[tuple[int, ...], str]] = []
  for line, row in rows:
    given = [row[column] for column in optional if row[column]]
    numbers = [text_files.whole_number(text) for text in given]
    good = all(number is not None and 0 <= number <= 255 for number in numbers)
    if not good or len(given) != (1 if row["value"] else 3):
      raise UserError(
        f"{path}, line {line}: expected a value, or r, g and b, each 0 to 255, "
        f"and a class; found {','.join(row.values())}"
      )
    if lines and len(lines[0][0]) != len(numbers):
      raise UserError(
        f"{path}, line {line}: values and colours are mixed; use one of them"
      )
    if tuple(numbers) in (code for code, _ in lines):
      raise UserError(f"{path}, line {line}: a second line of the same value")
    lines.append((tuple(numbers), row["class"]))
  legend = _legend(lines, str(path))
  if len(legend.class_names) < 2:
    raise UserError(f"{path}: names fewer than two classes")
  return legend


def _legend(
  lines: Sequence[tuple[tuple[int, ...], str]], source: str
) -> Legend:
  names = tuple(dict.fromkeys(name for _, name in lines if name))
  colors = len(lines[0][0]) == 3 if lines else False
  table = _table(2**24 if colors else 256)
  if not colors:
    table[255] = adapters.IGNORE_LABEL
  for code, name in lines:
    number = code[0] << 16 | code[1] << 8 | code[2] if colors else code[0]
    table[number] = names.index(name) if name else adapters.IGNORE_LABEL
  return Legend(names, table, source)


def _table(length: int) -> np.ndarray:
  return np.full(length, _STRAY, np.int16)


def _codes(path: pathlib.Path, rank: int) -> np.ndarray:
  """The colours of a mask as numbers."""
  image = images.read_image(path, rank=rank)
  if image.shape[-1] not in (1, 3):
    raise UserError(
      f"{path}: a mask in colours has 3 channels, but this file has "
      f"{image.shape[-1]}"
    )
  red, green, blue = np.moveaxis(
    images.to_channels(image, 3).astype(np.int32), -1, 0
  )
  return red << 16 | green << 8 | blue


# Brostow et al. 2009; the 11 classes of SegNet, which merges the 32.
_CAMVID = (
  ("sky", (128, 128, 128)),
  ("building", (128, 0, 0), (0, 128, 64), (192, 0, 128), (64, 192, 0)),
  ("building", (64, 0, 64)),
  ("pole", (192, 192, 128), (0, 0, 64)),
  ("road", (128, 64, 128), (128, 0, 192), (192, 0, 64)),
  ("pavement", (0, 0, 192), (64, 192, 128), (128, 128, 192)),
  ("tree", (128, 128, 0), (192, 192, 0)),
  ("sign", (192, 128, 128), (128, 128, 64), (0, 64, 64)),
  ("fence", (64, 64, 128)),
  ("car", (64, 0, 128), (64, 128, 192), (192, 128, 192), (192, 64, 128)),
  ("car", (128, 64, 64)),
  ("pedestrian", (64, 64, 0), (192, 128, 64), (64, 0, 192), (64, 128, 64)),
  ("bicyclist", (0, 128, 192), (192, 0, 192)),
  ("", (0, 0, 0)),
)
_CAMVID_11 = tuple(dict.fromkeys(name for name, *_ in _CAMVID if name))

PRESETS: dict[str, Sequence[tuple[tuple[int, ...], str]]] = {
  "camvid": [(color, name) for name, *colors in _CAMVID for color in colors],
  # SegNet's masks of numbers, of which 11 is void.
  "camvid11": [
    *(((index,), name) for index, name in enumerate(_CAMVID_11)),
    ((11,), ""),
  ],
  "cityscapes": [
    *(
      ((value,), name)
      for value, name in zip(
        adapters.CITYSCAPES_LABEL_IDS,
        adapters.CITYSCAPES_CLASSES,
        strict=True,
      )
    ),
    *(
      ((value,), "")
      for value in range(34)
      if value not in adapters.CITYSCAPES_LABEL_IDS
    ),
  ],
  "binary": [((0,), "background"), ((1,), "object"), ((255,), "object")],
}
