"""What a detector found, on the host: at the images' own size."""

import functools
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from segsiam_jax.errors import UserError
from segsiam_jax.files import paths
from segsiam_jax.metrics.detection import CocoAveragePrecision
from segsiam_jax.metrics.image_objects import Detections, encode_mask
from segsiam_jax.ops.masks import paste_masks
from segsiam_jax.report import coco_results, overlays
from segsiam_jax.tasks.base import Batch, HostMetrics

_logger = logging.getLogger(__name__)

# Of a workdir: what an evaluation found, in COCO's format of results.
RESULTS_FILE = "detections.json"


class Found(NamedTuple):
  """Detections in one image, the best first.

  Attributes:
    size: (height, width) of the image.
    boxes: (n, 4) float32 (x1, y1, x2, y2) in its pixels.
    classes: (n,) int32, from 1.
    scores: (n,) float32.
    masks: (n, m, m) float32 probabilities in the boxes, or None.
  """

  size: tuple[int, int]
  boxes: np.ndarray
  classes: np.ndarray
  scores: np.ndarray
  masks: np.ndarray | None

  @classmethod
  def of(
    cls,
    row: Mapping[str, np.ndarray],
    size: Sequence[int],
    original_size: Sequence[int],
  ) -> "Found":
    """A row of `Task.predict`, resized to the size of the image's file.

    Args:
      row: boxes (D, 4), classes, scores and valid (D,), perhaps masks
        (D, m, m).
      size: (height, width) that the model saw the image at.
      original_size: (height, width) of the file.

    Raises:
      UserError: the network's outputs are not finite.
    """
    if np.isnan(row["scores"]).any():
      raise UserError(
        "the network's outputs are NaN or infinite, so it finds nothing; "
        "train again with a lower config.optimizer.learning_rate"
      )
    valid = np.asarray(row["valid"]) != 0
    ratio = np.divide(original_size, size)
    boxes = np.asarray(row["boxes"])[valid] * np.tile(ratio[::-1], 2)
    masks = np.asarray(row["masks"])[valid] if "masks" in row else None
    return cls(
      size=(int(original_size[0]), int(original_size[1])),
      boxes=boxes.astype(np.float32),
      classes=np.asarray(row["classes"])[valid],
      scores=np.asarray(row["scores"])[valid],
      masks=masks,
    )

  def above(self, score: float) -> "Found":
    """Those with at least this score."""
    keep = self.scores >= score
    return self._replace(
      boxes=self.boxes[keep],
      classes=self.classes[keep],
      scores=self.scores[keep],
      masks=None if self.masks is None else self.masks[keep],
    )

  def whole_masks(self) -> Iterator[np.ndarray]:
    """(H, W) bool masks, made one by one."""
    return paste_masks(self.masks, self.boxes, self.size)

  def encoded(self) -> Detections:
    """For average precision; of masks the run lengths are kept."""
    masks = None
    if self.masks is not None:
      masks = [encode_mask(mask) for mask in self.whole_masks()]
    return Detections(self.boxes, self.classes, self.scores, masks)

  def draw(
    self, image: np.ndarray, class_names: Sequence[str], zoom: int = 1
  ) -> np.ndarray:
    """The image with boxes, masks, class names and scores.

    Args:
      image: (H, W, C) uint8.
      class_names: of the classes from 1 on.
      zoom: see `overlays.draw_objects`.

    Returns:
      (zoom H, zoom W, 3) uint8.
    """
    captions = [
      f"{class_names[label - 1]} {score:.2f}"
      for label, score in zip(self.classes, self.scores, strict=True)
    ]
    masks = None
    if self.masks is not None:
      masks = ((0, 0, mask) for mask in self.whole_masks())
    return overlays.draw_objects(image, self.boxes, captions, masks, zoom=zoom)


class InstanceMetrics(HostMetrics):
  """COCO's AP of boxes and masks: `HostMetrics` of the instance task.

  The truth comes from the source and not from the batch, which may have left
  objects out, or cut them.
  """

  def __init__(
    self,
    source: Any,
    class_names: Sequence[str],
    max_detections: int,
    masks: bool = True,
  ):
    """Makes an empty state.

    Args:
      source: of the split: `annotations(index)` and `category_ids`.
      class_names: of the classes from 1 on.
      max_detections: see `CocoAveragePrecision`.
      masks: whether the model finds masks, or boxes only.
    """
    self._source, self._masks = source, masks
    self._empty = functools.partial(
      CocoAveragePrecision,
      class_names,
      first_class=1,
      max_detections=max_detections,
    )
    self._precision = self._empty()

  def add(self, batch: Batch, predictions: Mapping[str, np.ndarray]) -> None:
    """Takes this process's rows of a batch."""
    for row in np.flatnonzero(batch["mask"]):
      index = int(batch["index"][row])
      truth = self._source.annotations(index)
      found = Found.of(
        {name: values[row] for name, values in predictions.items()},
        batch["size"][row],
        truth.size,
      )
      self._precision.add(
        truth.id, truth.size, truth.ground_truth(), found.encoded()
      )

  def gather(self) -> "InstanceMetrics":
    """Those of all processes together, on every process."""
    self._precision = self._precision.gather()
    return self

  def compute(self) -> dict[str, float]:
    """See `CocoAveragePrecision.compute`."""
    return self._precision.compute()

  def names(self) -> dict[str, str]:
    """Those of a split of one image where nothing is found."""
    truth = self._source.annotations(0)
    nothing = Detections(
      boxes=np.zeros((0, 4), np.float32),
      classes=np.zeros(0, np.int32),
      scores=np.zeros(0, np.float32),
      masks=[] if self._masks else None,
    )
    precision = self._empty()
    precision.add(truth.id, truth.size, truth.ground_truth(), nothing)
    return dict.fromkeys(precision.compute(), "max")

  def write(self, workdir: str) -> None:
    """All detections as `RESULTS_FILE`, with the data set's own ids."""
    target = paths.resolve(workdir) / RESULTS_FILE
    with coco_results.write_results(target) as add:
      for image_id, found in self._precision.detections():
        for one in results_of(image_id, found, self._source.category_ids):
          add(one)
    _logger.info("detections: %s", target)


def results_of(
  image_id: int | str, found: Detections, category_ids: Sequence[int]
) -> Iterator[dict[str, Any]]:
  """An image's detections in COCO's format, the best first.

  Args:
    image_id: of the data set.
    found: with masks as run lengths, or none.
    category_ids: of the classes from 1 on.
  """
  for index, label in enumerate(found.classes):
    yield coco_results.result(
      image_id,
      category_ids[label - 1],
      found.boxes[index],
      found.scores[index],
      None if found.masks is None else found.masks[index],
    )
