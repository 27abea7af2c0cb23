"""Trained networks as Python objects: `segsiam_jax.load(WORKDIR)`.

What they return is what `--mode=predict` writes, from the same functions.
"""

import os
import threading
from collections.abc import Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import ml_collections
import numpy as np

from segsiam_jax.config import of_workdir
from segsiam_jax.data import images
from segsiam_jax.engine import checkpoint as checkpoint_lib
from segsiam_jax.errors import UserError
from segsiam_jax.inputs import semantic
from segsiam_jax.ops import multilabel
from segsiam_jax.prediction.instance import Finder
from segsiam_jax.prediction.labels import label_pixels
from segsiam_jax.prediction.probabilities import Probabilities
from segsiam_jax.prediction.siamese import Embedder
from segsiam_jax.tasks.pixel_classes import of_config

Image = str | os.PathLike | np.ndarray
_Result = TypeVar("_Result")


class Segmentation(NamedTuple):
  """Classes of pixels.

  Attributes:
    labels: (H, W) or (D, H, W) uint8 class indices; of classes that may overlap
      (`data.multilabel`) with a last axis of K, bool.
    confidence: mean probability of these classes.
    probabilities: (H, W, K) or (D, H, W, K) float32, or None if not asked for.
  """

  labels: np.ndarray
  confidence: float
  probabilities: np.ndarray | None = None


class Objects(NamedTuple):
  """Objects of an image, the best first.

  Attributes:
    boxes: (n, 4) float32 (x1, y1, x2, y2) in pixels.
    classes: (n,) int32 indices into `Model.classes`.
    scores: (n,) float32.
    masks: (n, H, W) bool, or None of detectors of boxes alone.
  """

  boxes: np.ndarray
  classes: np.ndarray
  scores: np.ndarray
  masks: np.ndarray | None


class Match(NamedTuple):
  """How alike two images are.

  Attributes:
    score: larger for more alike.
    distance: of the embeddings, as the network compares them.
    same: whether the score reaches the threshold; None without one.
    threshold: of the checkpoint; None if none was calibrated.
  """

  score: float
  distance: float
  same: bool | None
  threshold: float | None


class Model(Generic[_Result]):
  """A trained network, compiled once for each shape that it needs.

  It may be used by several threads, which take turns.

  Attributes:
    config: of the run.
    classes: their names, by index.
    checkpoint: the folder that the weights are from.
  """

  def __init__(self, config: ml_collections.ConfigDict, checkpoint: str):
    self.config, self.checkpoint = config, checkpoint
    self.classes: tuple[str, ...] = tuple(config.data.class_names)
    self._lock = threading.Lock()
    self._format = images.ImageFormat(config.data.channels)

  def predict(self, images: Image | Sequence[Image], **options: Any) -> Any:
    """What the network says of an image, or of each of several.

    Args:
      images: a file, or an array (H, W) or (H, W, C), of volumes (D, H, W) or
        (D, H, W, C); or a list or tuple of these, of any sizes.
      options: see `of_image`.

    Returns:
      What `of_image` returns, or a list of these.

    Raises:
      UserError: a file is not such an image.
      ValueError: an array is not.
    """
    if isinstance(images, list | tuple):
      return [self.predict(each, **options) for each in images]
    image = self._read(images)
    with self._lock:
      return self.of_image(image, **options)

  def of_image(self, image: np.ndarray, **options: Any) -> _Result:
    """What the network says of an image of its own channels and dtype."""
    raise NotImplementedError

  def _read(self, image: Image) -> np.ndarray:
    if not isinstance(image, np.ndarray):
      return images.read_as(image, self._format)
    return as_image(image, self._format)


def as_image(array: np.ndarray, wanted: images.ImageFormat) -> np.ndarray:
  """An array as a model takes it.

  Args:
    array: (H, W) or (H, W, C), of volumes with a leading axis.
    wanted: channels, dtype and rank of the model.

  Returns:
    (H, W, channels) or (D, H, W, channels).

  Raises:
    ValueError: it is of another kind; the message says what to do.
  """
  top = np.iinfo(wanted.dtype).max
  if array.dtype != np.dtype(wanted.dtype):
    raise ValueError(
      f"image: expected {wanted.dtype}, as the training images; got "
      f"{array.dtype}. Values of 0 to 1 become right by "
      f"(image * {top}).round().astype('{wanted.dtype}')"
    )
  if array.ndim == wanted.rank:
    array = array[..., None]
  axes = "(D, H, W)" if wanted.rank == 3 else "(H, W)"
  if array.ndim != wanted.rank + 1 or 0 in array.shape:
    raise ValueError(
      f"image: expected {axes} or the same with channels last; got shape "
      f"{array.shape}. For several images pass a list"
    )
  try:
    return images.to_channels(array, wanted.channels)
  except ValueError as error:
    raise ValueError(
      f"image: the network takes {wanted.channels} channels, last; got shape "
      f"{array.shape} ({error})"
    ) from error


class SemanticModel(Model[Segmentation]):
  """Semantic segmentation."""

  def __init__(self, config: ml_collections.ConfigDict, checkpoint: str):
    super().__init__(config, checkpoint)
    self._format = semantic.image_format(config)
    self._probabilities = Probabilities(config, checkpoint)

  def of_image(
    self, image: np.ndarray, probabilities: bool = False
  ) -> Segmentation:
    """Classes of the pixels.

    Args:
      image: of the network's channels and dtype.
      probabilities: whether those of all classes are wanted, too.
    """
    size, kind = image.shape[:-1], of_config(self.config)
    bands = list(self._probabilities(image))
    label, confidence, _ = label_pixels(bands, size, kind)
    if self.config.data.multilabel:
      label = multilabel.unpack(label, len(self.classes)).astype(bool)
    everything = None
    if probabilities:
      everything = np.concatenate([band for _, band in bands])
    return Segmentation(label, confidence, everything)


class InstanceModel(Model[Objects]):
  """Instance segmentation, or detection."""

  def __init__(self, config: ml_collections.ConfigDict, checkpoint: str):
    super().__init__(config, checkpoint)
    self._find = Finder(config, checkpoint)

  def of_image(
    self, image: np.ndarray, min_score: float | None = None
  ) -> Objects:
    """The objects.

    Args:
      image: of the network's channels.
      min_score: of those that are wanted; None for `predict.min_score`.
    """
    if min_score is None:
      min_score = self.config.predict.min_score
    found = self._find(image)(image.shape[:2]).above(min_score)
    masks = None
    if found.masks is not None:
      masks = np.array(list(found.whole_masks()), bool)
      masks = masks.reshape(-1, *image.shape[:2])
    return Objects(found.boxes, found.classes - 1, found.scores, masks)


class SiameseModel(Model[np.ndarray]):
  """A Siamese network: `predict` gives embeddings, (D,) float32."""

  def __init__(self, config: ml_collections.ConfigDict, checkpoint: str):
    super().__init__(config, checkpoint)
    self._embedder = Embedder(config, checkpoint)

  def _read(self, image: Image) -> np.ndarray:
    if isinstance(image, np.ndarray):
      return self._embedder.fit(as_image(image, self._format))
    return self._embedder.read(image)

  def of_image(self, image: np.ndarray) -> np.ndarray:
    """The embedding of an image, (H, W, C) uint8 as the network takes it."""
    return self._embedder([image])[0]

  def same(self, first: Image, second: Image) -> Match:
    """How alike two images are, and whether they show the same identity."""
    one, other = self.predict([first, second])
    with self._lock:
      [score] = self._embedder.score(one, other[None])
    line = self._embedder.verdict(float(score))
    return Match(
      float(score),
      line["distance"],
      line.get("same"),
      self._embedder.threshold,
    )


MODELS: dict[str, type[Model]] = {
  "semantic": SemanticModel,
  "instance": InstanceModel,
  "siamese": SiameseModel,
}


def load(
  workdir: str | os.PathLike, checkpoint: str = "best", **fields: Any
) -> Any:
  """A trained network.

  Args:
    workdir: of the run.
    checkpoint: 'best', 'latest' or a step.
    fields: of the config's `predict` section, such as `flips='all'`.

  Returns:
    A `SemanticModel`, `InstanceModel` or `SiameseModel`.

  Raises:
    UserError: there is no such run or checkpoint, or no such field.
  """
  workdir = os.fspath(workdir)
  config = of_workdir.get_config(workdir)
  for name, value in fields.items():
    if name not in config.predict:
      raise UserError(
        f"load({workdir!r}, {name}=...): config.predict has no such field; it "
        f"has {', '.join(config.predict)}"
      )
    config.predict[name] = value
  best = (config.train.best_metric, config.train.best_mode)
  folder = checkpoint_lib.find(workdir, checkpoint, *best)
  if config.task not in MODELS:
    raise UserError(f"{workdir}: the task {config.task!r} predicts no files")
  return MODELS[config.task](config, folder)
