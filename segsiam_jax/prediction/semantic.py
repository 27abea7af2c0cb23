"""Semantic segmentation of image files of any size."""

import pathlib
from collections.abc import Mapping, Sequence

import ml_collections
import numpy as np
from etils import epath

from segsiam_jax import overlays
from segsiam_jax.data import images
from segsiam_jax.errors import UserError
from segsiam_jax.prediction import files as files_lib
from segsiam_jax.prediction.probabilities import Probabilities

# Pictures to look at are not larger: of a larger image every second pixel,
# every third and so on is shown.
_PICTURE_SIDE = 2048


def predict_files(
  config: ml_collections.ConfigDict,
  checkpoint: str,
  files: Mapping[pathlib.Path, str],
  target: epath.Path,
) -> list[str]:
  """Labels every pixel of image files.

  Writes, for an image NAME.jpg, `labels/NAME.png` (class indices, of the
  image's size), `overlays/NAME.png` (the image tinted) and a line in
  `predictions.jsonl`.

  Args:
    config: of the run.
    checkpoint: its folder.
    files: see `files.list_files`.
    target: folder to write to.

  Returns:
    A complaint for every file that could not be predicted.
  """
  for name in ("labels", "overlays"):
    (target / name).mkdir(exist_ok=True)
  probabilities_of = Probabilities(config, checkpoint)
  class_names = tuple(config.data.class_names)
  channels = config.data.channels

  def predict_one(path: pathlib.Path, stem: str) -> dict:
    image = images.read_image(path)
    try:
      row = images.to_channels(image, channels)
    except ValueError as error:
      raise UserError(
        f"{path}: config.data.channels = {channels}: {error}"
      ) from error
    label = np.empty(image.shape[:-1], np.uint8)
    confidence = 0.0
    for first, band in probabilities_of(row):
      label[first : first + len(band)] = band.argmax(-1)
      confidence += float(band.max(-1).sum(dtype=np.float64))
    name = f"{stem}.png"
    files_lib.save_png(target / "labels" / name, label, len(class_names))
    step = -(-max(label.shape) // _PICTURE_SIDE)
    tinted = overlays.overlay(
      image[::step, ::step], label[::step, ::step], len(class_names)
    )
    files_lib.save_png(target / "overlays" / name, tinted)
    return _describe(label, confidence / label.size, class_names)

  return files_lib.predict_each(files, target, predict_one)


def _describe(
  label: np.ndarray, confidence: float, class_names: Sequence[str]
) -> dict:
  """The image's line in predictions.jsonl."""
  counts = [
    int(np.count_nonzero(label == index)) for index in range(len(class_names))
  ]
  return {
    "height": label.shape[0],
    "width": label.shape[1],
    "pixels": dict(zip(class_names, counts, strict=True)),
    "mean_confidence": round(confidence, 5),
  }
