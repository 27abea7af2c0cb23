"""Class indices of whole files, and what they score.

Prediction writes the labels that are made here, and evaluation scores them: at
the size of the file, against the file's own mask.
"""

from collections.abc import Callable, Iterable, Mapping
from concurrent import futures
from typing import NamedTuple

import ml_collections
import numpy as np

from segsiam_jax.data import images
from segsiam_jax.data.semantic.sources import SemanticSource
from segsiam_jax.engine import meshes
from segsiam_jax.engine.state import TrainState
from segsiam_jax.errors import UserError
from segsiam_jax.metrics import RandScores
from segsiam_jax.metrics.base import widen
from segsiam_jax.metrics.gather import gather
from segsiam_jax.prediction.probabilities import Probabilities
from segsiam_jax.tasks.base import Batch, HostMetrics, Metrics
from segsiam_jax.tasks.pixel_classes import ExclusiveClasses, of_config
from segsiam_jax.tasks.semantic import counts_rows


class Labelled(NamedTuple):
  """What a model says of a file.

  Attributes:
    label: (*S,) see `pixel_classes`.
    confidence: mean probability of the classes.
    likely: (*S,) float32, the probability of one class, or None.
  """

  label: np.ndarray
  confidence: float
  likely: np.ndarray | None


def label_pixels(
  bands: Iterable[tuple[int, np.ndarray]],
  size: tuple[int, ...],
  classes: ExclusiveClasses,
  keep: int | None = None,
) -> Labelled:
  """Labels from probabilities that come band by band.

  Args:
    bands: see `Probabilities.__call__`.
    size: of the image.
    classes: of a pixel.
    keep: class whose probabilities are kept; None for none.

  Raises:
    UserError: the probabilities are NaN.
  """
  label = np.empty(size, classes.dtype)
  likely = None if keep is None else np.empty(size, np.float32)
  total = 0.0
  for first, band in bands:
    rows = slice(first, first + len(band))
    label[rows], sure = classes.label_band(band)
    if likely is not None:
      likely[rows] = band[..., keep]
    total += float(sure.sum(dtype=np.float64))
  if not np.isfinite(total):
    raise UserError(
      "the probabilities are NaN, because the weights are NaN or overflow; "
      "use an earlier checkpoint"
    )
  return Labelled(label, total / label.size, likely)


def host_metrics(
  config: ml_collections.ConfigDict, source: SemanticSource
) -> Callable[[TrainState | None], HostMetrics]:
  """Scores of what `predict` would write, once for every evaluation.

  Args:
    config: of the run; `data.class_names` are known.
    source: of the split.

  Returns:
    A function that starts empty scores for a state.
  """
  probabilities = Probabilities(config)
  return lambda state: FileScores(config, source, probabilities, state)


class FileScores(HostMetrics):
  """Scores of the labels that `predict` writes for the files of a split.

  Rows that are whole files are counted on the device by the task's
  `eval_step`. Of images that a row shows resized or padded, the row's
  probabilities are resized to the file's size. Other images, and those that
  are predicted in windows, are read and predicted anew, one after the other.
  """

  def __init__(
    self,
    config: ml_collections.ConfigDict,
    source: SemanticSource,
    probabilities: Probabilities,
    state: TrainState | None,
  ):
    """Starts without scores.

    Args:
      config: of the run; `data.class_names` are known.
      source: of the split.
      probabilities: made for this config.
      state: to evaluate; None to ask for `names` alone.
    """
    self._config, self._source = config, source
    self._probabilities, self._state = probabilities, state
    self._loaded: Probabilities | None = None
    if state is not None and not meshes.is_whole(state):
      # All processes at once: later each reads files by itself.
      self._loaded = probabilities.with_weights(state)
    self._classes = of_config(config)
    self._counts = widen(self._classes.no_counts())
    self._rand, self._keep = None, None
    if config.eval.rand_class:
      self._keep = self._classes.names.index(config.eval.rand_class)
      self._rand = RandScores(self._keep)

  def _by_row(self, whole: bool) -> bool:
    """Whether a row's probabilities are what `predict` would find."""
    if any(self._config.predict.window):
      return False
    return whole or self._config.data.fit != "crop"

  def wants(self, batch: Batch) -> bool:
    """Whether `add` needs the predictions of these rows."""
    return any(
      self._by_row(whole) and not self._is_counted(whole)
      for whole in batch["whole"][np.flatnonzero(batch["mask"])]
    )

  def _is_counted(self, whole: bool) -> bool:
    """Whether the device has done all that there is to do."""
    return whole and counts_rows(self._config) and self._rand is None

  def add(self, batch: Batch, predictions: Mapping[str, np.ndarray]) -> None:
    """Takes this process's rows of a batch."""
    by_row = []
    for row in np.flatnonzero(batch["mask"]):
      whole = bool(batch["whole"][row])
      if self._is_counted(whole):
        continue
      if self._by_row(whole):
        by_row.append(row)
      else:
        self._add(*self._anew(int(batch["index"][row])), counted=False)

    def of_row(row: int) -> tuple[Labelled, np.ndarray]:
      truth = batch["label"][row]
      if not batch["whole"][row]:
        truth = self._source.label(int(batch["index"][row]))
      bands = self._probabilities.at_own_size(
        predictions["probabilities"][row], truth.shape
      )
      found = label_pixels(bands, truth.shape, self._classes, self._keep)
      return found, truth

    with futures.ThreadPoolExecutor(self._config.data.threads) as pool:
      results = pool.map(of_row, by_row)
      for row, (found, truth) in zip(by_row, results, strict=True):
        counted = bool(batch["whole"][row]) and counts_rows(self._config)
        self._add(found, truth, counted)

  def _anew(self, index: int) -> tuple[Labelled, np.ndarray]:
    """A file predicted by itself, and its mask."""
    if self._loaded is None:
      self._loaded = self._probabilities.with_weights(self._state)
    example = self._source[index]
    image = images.to_channels(example["image"], self._config.data.channels)
    try:
      found = label_pixels(
        self._loaded(image), image.shape[:-1], self._classes, self._keep
      )
    except UserError as error:
      raise UserError(
        f"config.data.eval_split, example {index}: {error}"
      ) from error
    return found, example["label"]

  def _add(self, found: Labelled, truth: np.ndarray, counted: bool) -> None:
    if not counted:
      self._counts = self._counts.merge(
        self._classes.counts_of_file(found.label, truth)
      )
    if self._rand is not None:
      self._rand.add_image(self._classes.has(truth, self._keep), found.likely)

  def gather(self) -> "FileScores":
    """Those of all processes together, on every process."""
    counts = sum(gather([self._counts.counts]))
    self._counts = self._counts.replace(counts=counts)
    if self._rand is not None:
      self._rand = self._rand.gather()
    self._state = self._loaded = None
    return self

  def sums(self) -> Metrics:
    """Counts of the rows that the device did not count."""
    return {"": self._counts}

  def compute(self) -> dict[str, float]:
    """See `RandScores.compute`; {} without `eval.rand_class`."""
    return {} if self._rand is None else self._rand.compute()

  def names(self) -> dict[str, str]:
    """See `HostMetrics`; those of `RandScores` of a single pixel."""
    if self._rand is None:
      return {}
    pixel = RandScores(0)
    pixel.add_image(np.ones((1, 1), bool), np.ones((1, 1), np.float32))
    names = dict.fromkeys(pixel.compute(), "max")
    return names | {"rand_best_threshold": ""}
