"""Sources of images with a label for each pixel: TFDS data sets and folders."""

import io
import logging
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from segsiam_jax import parts
from segsiam_jax.data import images, layouts, sources
from segsiam_jax.data.broken import Broken, suggest_skipping
from segsiam_jax.data.folders import check_same_size, real_paths
from segsiam_jax.data.semantic import adapters, legend
from segsiam_jax.data.tfds_records import TfdsRecords
from segsiam_jax.errors import UserError
from segsiam_jax.fields.data_sets import SEMANTIC

# Of masks that number objects.
_OF_INSTANCES = ("background", "object")

_logger = logging.getLogger(__name__)


class SemanticSource(sources.Source, Protocol):
  """Whose examples have an `image` and a `label` of its size.

  Attributes:
    pixels: (K,) int64, of each class in all labels; None if nobody counted.
  """

  pixels: np.ndarray | None

  def label(self, index: int) -> np.ndarray: ...


class TfdsSource:
  """A prepared TFDS data set, read with array_record and without TensorFlow.

  Attributes:
    class_names: one name a class, by index.
    pixels: None, see `SemanticSource`.
  """

  pixels = None

  def __init__(self, name: str, split: str, data_dir: str | None = None):
    """Opens a split, and prepares the data set first where we ship it.

    Args:
      name: a key of `adapters.SEMANTIC`.
      split: TFDS split, such as 'train', 'test' or 'train[:10%]'.
      data_dir: where TFDS keeps its data; None is its own default.
    """
    adapter = adapters.SEMANTIC[name]
    self._adapter = adapter
    self.class_names = adapter.class_names
    self._records = TfdsRecords(
      name,
      split,
      (adapter.image, adapter.label),
      data_dir=data_dir,
      download=adapter.download,
    )

  def __len__(self) -> int:
    return len(self._records)

  def __getitem__(self, index: int) -> dict[str, Any]:
    record = self._records[index]
    image = images.read_image(io.BytesIO(record[self._adapter.image]))
    return {"image": image, "label": self._read_label(record, index)}

  def keys(self) -> list[str]:
    """See `sources.Source`."""
    return self._records.keys()

  def label(self, index: int) -> np.ndarray:
    """Only the label of an example: (H, W) uint8."""
    return self._read_label(self._records[index], index)

  def _read_label(self, record: dict[str, bytes], index: int) -> np.ndarray:
    label = images.read_label(io.BytesIO(record[self._adapter.label]))
    label = self._adapter.to_index(label)
    check_label(label, len(self.class_names), self._records.where(index))
    return label


class FolderOptions(NamedTuple):
  """How a folder is read.

  Attributes:
    class_names: one name a class; () for those of the legend, of a file
      `classes.txt` in the folder, or else the values that the masks have.
    legend: of masks in other values or colours, see `legend.read_legend`; ''
      for class indices.
    label_values: the mask value of each class where that is not its index,
      such as (0, 255) for black and white masks; () for class indices.
    ignore_values: mask values to ignore, besides 255.
    instances: see `FolderSource`.
    image_format: that images come in, which has to suit them; None for that of
      an 8-bit file. Of volumes, masks have slices, too.
    layout: where images and masks are, see `layouts.find_pairs`.
    skip_broken: whether pairs that cannot be used are left out; a warning names
      them.
  """

  class_names: tuple[str, ...] = ()
  legend: str = ""
  label_values: tuple[int, ...] = ()
  ignore_values: tuple[int, ...] = ()
  instances: bool = False
  image_format: images.ImageFormat | None = None
  layout: layouts.Layout = layouts.USUAL
  skip_broken: bool = False


_NO_OPTIONS = FolderOptions()


class FolderSource:
  """`ROOT/images/NAME.*` with `ROOT/masks/NAME.*`, matched by name.

  Masks hold one class index a pixel; 255 is ignored. With `instances` they are
  `ROOT/labels/NAME.*` instead and hold a number for every object, below 2^31:
  class 1 is any object, and examples have their `instances`. Every pair is
  checked when the source is opened, so that training does not stop at a bad
  file. `layouts` says where else images and masks may be.

  Attributes:
    class_names: one name a class, by index.
    paths: (image, mask) files, sorted by name.
    ids: names of the images.
    pixels: (K,) int64, of each class in all masks.
    images_with: (K,) int64, how many masks have each class.
    blank: masks of one class alone, by class, and of 255 alone.
  """

  def __init__(self, root: str, split: str, options: FolderOptions):
    """Lists and checks the pairs of a split.

    Args:
      root: the data set's folder.
      split: 'NAME', 'NAME[a:b]' with a and b counts or percentages as in TFDS.
      options: how it is read.
    """
    self._options, self._format = options, options.image_format
    self._rank = 2 if self._format is None else self._format.rank
    broken = Broken(options.skip_broken)
    pairs = self._pairs(root, split, broken)
    self._legend = self._legend_of(root, pairs)
    self.class_names = tuple(options.class_names)
    if options.instances and not self.class_names:
      self.class_names = _OF_INSTANCES
    if self._legend is not None:
      self.class_names = self._legend.class_names
    counted = broken.good(pairs, self._check_pair)
    self.paths = [pair for pair, _ in counted]
    broken.warn(f"{root}, split {split!r}", "examples", len(self.paths))
    self.ids = tuple(image.name for image, _ in self.paths)
    indices = self._legend is None and not options.instances
    self._tally(counted, checks_white=indices)

  def __len__(self) -> int:
    return len(self.paths)

  def __getitem__(self, index: int) -> dict[str, Any]:
    image_path, mask_path = self.paths[index]
    with suggest_skipping():
      example = {"image": images.read_as(image_path, self._format)}
      if self._options.instances:
        example["instances"] = images.read_instances(mask_path, self._rank)
      return example | {"label": self._read_label(mask_path)}

  def keys(self) -> list[str]:
    """See `sources.Source`: the images' files, links followed."""
    return real_paths(image for image, _ in self.paths)

  def label(self, index: int) -> np.ndarray:
    """Only the label of an example: (H, W) or (D, H, W) uint8."""
    return self._read_label(self.paths[index][1])

  def _pairs(
    self, root: str, split: str, broken: Broken
  ) -> list[tuple[pathlib.Path, pathlib.Path]]:
    kind = "labels" if self._options.instances else "masks"
    return layouts.find_pairs(root, split, kind, broken, self._options.layout)

  def _legend_of(
    self, root: str, pairs: Sequence[tuple[pathlib.Path, pathlib.Path]]
  ) -> legend.Legend | None:
    """What mask values mean; None if they are class indices."""
    options = self._options
    if options.legend:
      return legend.read_legend(options.legend)
    if options.instances:
      return None
    if not options.class_names:
      masks = [mask for _, mask in pairs]
      return legend.of_masks(
        root, masks, options.ignore_values, self._rank, options.skip_broken
      )
    if options.label_values or options.ignore_values:
      return legend.of_values(
        options.class_names, options.label_values, options.ignore_values
      )
    return None

  @property
  def label_values(self) -> tuple[int, ...]:
    """The mask value of each class where values were found, else as given."""
    if self._legend is None or self._options.legend:
      return self._options.label_values
    return self._legend.class_values()

  def _read_label(self, path: pathlib.Path) -> np.ndarray:
    if self._options.instances:
      objects = images.read_instances(path, self._rank) > 0
      return objects.astype(np.uint8)
    if self._legend is not None:
      return self._legend.read(path, self._rank)
    label = images.read_label(path, self._rank)
    check_label(label, len(self.class_names), str(path))
    return label

  def _tally(
    self,
    counted: Iterable[tuple[tuple[pathlib.Path, pathlib.Path], np.ndarray]],
    checks_white: bool,
  ) -> None:
    """Adds up the pixels of classes.

    Args:
      counted: pairs, and (256,) how often the mask has each value.
      checks_white: whether 255 may have been meant as white, not as 'ignore'.

    Raises:
      UserError: it looks so in most masks; a warning tells of a few.
    """
    total, present = np.zeros(256, np.int64), np.zeros(256, np.int64)
    white, others = [], 0
    self.blank: dict[int, list[pathlib.Path]] = {}
    for (_, mask_path), counts in counted:
      [alone, *more] = np.flatnonzero(counts)
      if not more:
        self.blank.setdefault(int(alone), []).append(mask_path)
      total += counts
      present += counts > 0
      if counts[1:255].any():
        others += 1
      elif counts[255]:
        white.append(mask_path)
    self.pixels = total[: len(self.class_names)]
    self.images_with = present[: len(self.class_names)]
    if not (white and checks_white):
      return
    of_two = len(self.class_names) == 2
    values = "='(0, 255)'" if of_two else " and two classes"
    message = (
      f"{white[0]}: the only values are 0 and 255, and 255 means 'ignore' (so "
      f"in {len(white)} of {len(self.paths)} masks); for black and white masks "
      f"set --config.data.label_values{values}"
    )
    if len(white) >= others:
      raise UserError(
        f"{message}; where 255 does mean 'ignore', set it to "
        f"'{tuple(range(len(self.class_names)))}'"
      )
    _logger.warning("%s", message)

  def _check_pair(self, pair: tuple[pathlib.Path, pathlib.Path]) -> np.ndarray:
    """(256,) int64, how often the mask has each value."""
    image_path, mask_path = pair
    label = self._read_label(mask_path)
    image = images.read_as(image_path, self._format)
    check_same_size(image_path, image, mask_path, label.shape)
    return images.count_values(label)


class Subset:
  """A random part of a source; a larger part of one seed holds a smaller."""

  pixels = None

  def __init__(self, source: SemanticSource, fraction: float, seed: int):
    """Draws the part.

    Args:
      source: to draw from.
      fraction: in (0, 1]; at least one example is drawn.
      seed: of the draw.
    """
    self._source = source
    self.class_names = source.class_names
    order = np.random.default_rng(seed).permutation(len(source))
    self.indices = order[: max(1, round(fraction * len(source)))]
    self.ids = sources.ids_of(source, self.indices)

  def __len__(self) -> int:
    return len(self.indices)

  def __getitem__(self, index: int) -> dict[str, Any]:
    return self._source[int(self.indices[index])]

  def keys(self) -> list[str]:
    """See `sources.Source`."""
    keys = self._source.keys()
    return [keys[index] for index in self.indices]

  def label(self, index: int) -> np.ndarray:
    """See `SemanticSource`."""
    return self._source.label(int(self.indices[index]))


def open_source(
  name: str,
  split: str,
  data_dir: str = "",
  options: FolderOptions = _NO_OPTIONS,
) -> SemanticSource:
  """The source called `name`, a key of `data_sets.SEMANTIC`.

  Args:
    name: which data set.
    split: see `TfdsSource` and `FolderSource`.
    data_dir: the folder, or where TFDS keeps its data ('' for its default).
    options: of a folder; `skip_broken` counts for all sets of files.
  """
  if name == "folder":
    return FolderSource(data_dir, split, options)
  reader = SEMANTIC[name].open
  if reader:
    return parts.load(reader)(data_dir, split, options.skip_broken)
  return TfdsSource(name, split, data_dir or None)


def check_label(label: np.ndarray, num_classes: int, where: str) -> None:
  """Raises `UserError` if a label is outside [0, num_classes) and not 255."""
  highest = int(label.max(where=label != adapters.IGNORE_LABEL, initial=0))
  if highest >= num_classes:
    values = np.unique(label)
    stray = values[(values >= num_classes) & (values != adapters.IGNORE_LABEL)]
    raise UserError(
      f"{where}: label values {_listed(stray)} are outside [0, {num_classes}) "
      f"and not {adapters.IGNORE_LABEL} (ignore); fix the mask, or name more "
      "classes in config.data.class_names, or set config.data.label_values"
    )


def _listed(values: np.ndarray) -> str:
  shown = ", ".join(str(value) for value in values[:5])
  return shown + (", ..." if len(values) > 5 else "")
