"""The records of a TFDS data set, read without TensorFlow and undecoded."""

import contextlib
import fcntl
import logging
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import tensorflow_datasets as tfds
from tensorflow_datasets.core import example_parser

# Importing the builders registers them with TFDS.
import segsiam_jax.data.builders.digit_scenes
import segsiam_jax.data.builders.digits
import segsiam_jax.data.builders.documents  # noqa: F401
from segsiam_jax.errors import UserError, first_line

_logger = logging.getLogger(__name__)

OUR_BUILDERS = ("digit_scenes", "digits", "documents")


class TfdsRecords:
  """A split, by index: dictionaries of numbers, and of images as files' bytes.

  Attributes:
    features: those that are read, by name, as TFDS describes them.
  """

  def __init__(
    self,
    name: str,
    split: str,
    features: Sequence[str],
    *,
    data_dir: str | None,
    download: str,
  ):
    """Opens a split, and prepares the data set first where we ship it.

    Args:
      name: of the data set, and of its builder config after a slash.
      split: TFDS split, such as 'train', 'test' or 'train[:10%]'.
      features: which to read; the others are never parsed.
      data_dir: where TFDS keeps its data; None is its own default.
      download: how to get the data, for the error when they are not there.

    Raises:
      UserError: the data or the split are not there, or cannot be read.
    """
    self._name, self._split = name, split
    builder = _prepared_builder(name, data_dir, download)
    try:
      # The inner source yields the raw records.
      self._records = builder.as_data_source(split).data_source
      self._files = builder.info.splits[split].file_instructions
    except (ValueError, KeyError) as error:
      raise UserError(
        f"{name}: no split {split!r} ({first_line(error)}); it has "
        f"{', '.join(builder.info.splits)}"
      ) from error
    self.features = tfds.features.FeaturesDict(
      {name: builder.info.features[name] for name in features}
    )
    self._parser = example_parser.ExampleParserNp(
      self.features.get_serialized_info()
    )
    if not len(self._records):
      raise UserError(f"{name}: split {split!r} is empty")

  def __len__(self) -> int:
    return len(self._records)

  def __getitem__(self, index: int) -> dict[str, Any]:
    return self._parser.parse_example(self._records[index])

  def keys(self) -> list[str]:
    """See `sources.Source`: a record's file and its place in it."""
    return [
      f"{part.filename}#{part.skip + number}"
      for part in self._files
      for number in range(part.take)
    ]

  def where(self, index: int) -> str:
    """What to call a record in a message."""
    return f"{self._name} {self._split!r} example {index}"


@contextlib.contextmanager
def _lock(folder: pathlib.Path) -> Iterator[None]:
  """Only one process of a machine prepares a data set; the others wait."""
  folder.mkdir(parents=True, exist_ok=True)
  with open(folder / ".segsiam_jax.lock", "w") as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    yield


def _prepared_builder(
  name: str, data_dir: str | None, download: str
) -> tfds.core.DatasetBuilder:
  """The builder, its data on disk and readable without TensorFlow."""
  if name.split("/")[0] in OUR_BUILDERS:
    builder = _our_builder(name, data_dir)
  else:
    builder = _catalogue_builder(name, data_dir, download)
  if builder.info.file_format.value != "array_record":
    raise UserError(
      f"{builder.data_path}: prepared as {builder.info.file_format.value}, "
      "which needs TensorFlow; prepare it again with --file_format=array_record"
    )
  return builder


def _catalogue_builder(
  name: str, data_dir: str | None, download: str
) -> tfds.core.DatasetBuilder:
  """A builder that somebody prepared."""
  absent = UserError(
    f"{name}: not found in {data_dir or tfds.core.constants.DATA_DIR}; get it "
    f"with: {download}"
  )
  if ":" not in name:
    # From its files: the catalogue's own code may need TensorFlow.
    try:
      return tfds.core.read_only_builder.builder_from_files(
        name, data_dir=data_dir
      )
    except tfds.core.DatasetNotFoundError as error:
      raise absent from error
  try:
    builder = tfds.builder(name, data_dir=data_dir, file_format="array_record")
  except ImportError as error:
    raise UserError(
      f"{name}: TFDS needs another package for it ({first_line(error)}); get "
      f"it with: {download}"
    ) from error
  if not builder.data_path.exists():
    raise absent
  return builder


def _our_builder(name: str, data_dir: str | None) -> tfds.core.DatasetBuilder:
  """One of our own builders, prepared if it is not."""

  def load() -> tfds.core.DatasetBuilder:
    return tfds.builder(name, data_dir=data_dir, file_format="array_record")

  builder = load()
  if not builder.data_path.exists():
    root = pathlib.Path(builder.data_path.parents[name.count("/") + 1])
    try:
      with _lock(root):
        builder = load()
        tfds.disable_progress_bar()
        _logger.info("preparing %s in %s", name, builder.data_path)
        builder.download_and_prepare()
    except OSError as error:
      raise UserError(
        f"{root}: cannot write the data set there ({error}); choose another "
        "folder with --config.data.dir"
      ) from error
  return builder
