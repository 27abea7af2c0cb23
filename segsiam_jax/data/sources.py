"""Random-access sources of canonical examples: TFDS data sets and folders.

A source has `len()`, yields one canonical example an index, and knows its
classes. It never shuffles, batches or resizes.
"""

import io
import pathlib
from collections.abc import Sequence
from concurrent import futures
from typing import Any, Protocol

import numpy as np

from segsiam_jax.data import adapters, images, listing, splits
from segsiam_jax.data.tfds_records import TfdsRecords
from segsiam_jax.errors import UserError


class Source(Protocol):
  """What the pipeline reads from."""

  class_names: tuple[str, ...]

  def __len__(self) -> int: ...

  def __getitem__(self, index: int) -> dict[str, Any]: ...


class SemanticSource(Source, Protocol):
  """Whose examples have an `image` and a `label` of its size."""

  def label(self, index: int) -> np.ndarray: ...


class TfdsSource:
  """A prepared TFDS data set, read with array_record and without TensorFlow.

  Attributes:
    class_names: one name a class, by index.
  """

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

  def label(self, index: int) -> np.ndarray:
    """The label of an example alone: (H, W) uint8."""
    return self._read_label(self._records[index], index)

  def _read_label(self, record: dict[str, bytes], index: int) -> np.ndarray:
    label = images.read_label(io.BytesIO(record[self._adapter.label]))
    label = self._adapter.to_index(label)
    check_label(label, len(self.class_names), self._records.where(index))
    return label


class FolderSource:
  """`ROOT/images/NAME.*` with `ROOT/masks/NAME.*`, matched by name.

  Masks hold one class index a pixel; 255 is ignored. With `instances` they are
  `ROOT/labels/NAME.*` instead and hold a number for every object, up to 16
  bits: class 1 is any object, and examples have their `instances`. Every pair
  is checked when the source is opened, so that training does not stop at a bad
  file.

  Attributes:
    class_names: one name a class, by index.
    paths: (image, mask) files, sorted by name.
  """

  def __init__(
    self,
    root: str,
    split: str,
    class_names: tuple[str, ...],
    label_values: tuple[int, ...] = (),
    instances: bool = False,
    image_format: images.ImageFormat | None = None,
  ):
    """Lists and checks the pairs of a split.

    Args:
      root: folder that holds one folder a split.
      split: 'NAME', 'NAME[a:b]' with a and b counts or percentages as in TFDS.
      class_names: one name a class.
      label_values: the mask value of each class where that is not its index,
        such as (0, 255) for black and white masks; () for class indices.
      instances: see above.
      image_format: that images come in, which has to suit them; None for that
        of an 8-bit file. Of volumes, masks have slices, too.
    """
    self._instances = instances
    self._format = image_format
    self._rank = 2 if image_format is None else image_format.rank
    self.class_names = tuple(class_names)
    self._to_index = None
    if label_values:
      self._to_index = np.full(256, 254, np.uint8)
      self._to_index[255] = adapters.IGNORE_LABEL
      self._to_index[list(label_values)] = np.arange(len(label_values))
    kind = "labels" if instances else "masks"
    self.paths = folder_pairs(root, split, kind)
    with futures.ThreadPoolExecutor() as pool:
      seen = set().union(*pool.map(self._check_pair, self.paths))
    if seen == {0, 255} and len(self.class_names) == 2 and not label_values:
      raise UserError(
        f"{self.paths[0][1].parent}: the only values are 0 and 255, and 255 "
        "means 'ignore'; for black and white masks set "
        "--config.data.label_values='(0, 255)'"
      )

  def __len__(self) -> int:
    return len(self.paths)

  def __getitem__(self, index: int) -> dict[str, Any]:
    image_path, mask_path = self.paths[index]
    example = {"image": images.read_as(image_path, self._format)}
    if self._instances:
      example["instances"] = images.read_instances(mask_path, self._rank)
    return example | {"label": self._read_label(mask_path)}

  def label(self, index: int) -> np.ndarray:
    """The label of an example alone: (H, W) or (D, H, W) uint8."""
    return self._read_label(self.paths[index][1])

  def _read_label(self, path: pathlib.Path) -> np.ndarray:
    if self._instances:
      objects = images.read_instances(path, self._rank) > 0
      return objects.astype(np.uint8)
    label = values = images.read_label(path, self._rank)
    if self._to_index is not None:
      label = self._to_index[values]
      if (label == 254).any():
        stray = np.unique(values[label == 254])
        raise UserError(
          f"{path}: values {_listed(stray)} are not in config.data.label_values"
        )
    check_label(label, len(self.class_names), str(path))
    return label

  def _check_pair(self, pair: tuple[pathlib.Path, pathlib.Path]) -> set[int]:
    image_path, mask_path = pair
    label = self._read_label(mask_path)
    image = images.read_as(image_path, self._format)
    check_same_size(image_path, image, mask_path, label.shape)
    return set(np.unique(label).tolist())


class Subset:
  """A random part of a source; a larger part of one seed holds a smaller."""

  def __init__(self, source: Source, fraction: float, seed: int):
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

  def __len__(self) -> int:
    return len(self.indices)

  def __getitem__(self, index: int) -> dict[str, Any]:
    return self._source[int(self.indices[index])]


def open_source(
  name: str,
  split: str,
  *,
  data_dir: str = "",
  class_names: tuple[str, ...] = (),
  label_values: tuple[int, ...] = (),
  instances: bool = False,
  image_format: images.ImageFormat | None = None,
) -> Source:
  """The source called `name`: 'folder' or a key of `adapters.SEMANTIC`.

  Args:
    name: which data set.
    split: see `TfdsSource` and `FolderSource`.
    data_dir: the folder, or where TFDS keeps its data ('' for its default).
    class_names: of a folder.
    label_values: of a folder.
    instances: of a folder.
    image_format: of a folder.
  """
  if name == "folder":
    return FolderSource(
      data_dir, split, class_names, label_values, instances, image_format
    )
  return TfdsSource(name, split, data_dir or None)


def check_label(label: np.ndarray, num_classes: int, where: str) -> None:
  """Raises `UserError` if a label is outside [0, num_classes) and not 255."""
  highest = int(label.max(where=label != adapters.IGNORE_LABEL, initial=0))
  if highest >= num_classes:
    values = np.unique(label)
    stray = values[(values >= num_classes) & (values != adapters.IGNORE_LABEL)]
    raise UserError(
      f"{where}: label values {_listed(stray)} are outside [0, {num_classes}) "
      f"and not {adapters.IGNORE_LABEL} (ignore); mend the mask, or name more "
      "classes in config.data.class_names, or set config.data.label_values"
    )


def _listed(values: np.ndarray) -> str:
  shown = ", ".join(str(value) for value in values[:5])
  return shown + (", ..." if len(values) > 5 else "")


def folder_pairs(
  root: str, split: str, kind: str
) -> list[tuple[pathlib.Path, pathlib.Path]]:
  """Images of a split with what is known of them, matched by name and sorted.

  Args:
    root: folder that holds one folder a split.
    split: 'NAME', 'NAME[a:b]' with a and b counts or percentages as in TFDS.
    kind: the folder beside `images`, such as 'masks'.

  Raises:
    UserError: a folder or a partner is missing, or the split has no image.
  """
  wanted = splits.parse(split)
  folder = pathlib.Path(root) / wanted.name
  if not folder.is_dir() and (pathlib.Path(root) / "images").is_dir():
    raise UserError(
      f"{folder}: no such folder; the images are in {root}/images, so set "
      f"config.data.dir={pathlib.Path(root).parent} and the split to "
      f"{pathlib.Path(root).name!r}"
    )
  pairs = wanted.part(_pairs(folder, kind))
  if not pairs:
    raise UserError(f"{folder}: split {split!r} selects no images")
  return pairs


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
        f"{path}: a second {what} {path.stem!r}, beside {known[stem].name}; "
        "keep one"
      )
    known[stem] = path
  return known


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
  folder: pathlib.Path, kind: str
) -> list[tuple[pathlib.Path, pathlib.Path]]:
  """(image, mask) paths by name; an error if a mask is missing or ambiguous."""
  image_paths = listing.list_images(folder / "images")
  masks = by_stem(listing.list_images(folder / kind), "mask for")
  partners = [masks.get(listing.same(path.stem)) for path in image_paths]
  pairs = list(zip(image_paths, partners, strict=True))
  missing = [path.name for path, mask in pairs if mask is None]
  if missing:
    raise UserError(
      f"{folder / kind}: no mask for {len(missing)} of {len(image_paths)} "
      f"images, the first {missing[0]}; a mask has its image's name"
    )
  return pairs
