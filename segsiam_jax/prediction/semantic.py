"""Semantic segmentation of images and volumes of any size."""

import pathlib
from collections.abc import Mapping, Sequence

import ml_collections
import numpy as np

from segsiam_jax.data import images
from segsiam_jax.errors import UserError
from segsiam_jax.inputs import semantic
from segsiam_jax.prediction import files as files_lib
from segsiam_jax.prediction.labels import label_pixels
from segsiam_jax.prediction.output import Output
from segsiam_jax.prediction.probabilities import Probabilities
from segsiam_jax.report import overlays

# Pictures to look at are not larger: of a larger image every second pixel,
# every third and so on is shown.
_PICTURE_SIDE = 2048


def predict_files(
  config: ml_collections.ConfigDict,
  checkpoint: str,
  files: Mapping[pathlib.Path, str],
  output: Output,
) -> list[str]:
  """Labels every pixel of image files.

  Writes, for an image NAME.jpg, `labels/NAME.png` (class indices, of the
  image's size), `overlays/NAME.png` (the image tinted) and a line in
  `predictions.jsonl`; for a volume, `labels/NAME.tif` with a page a slice, and
  the slice halfway down tinted.

  Args:
    config: of the run.
    checkpoint: its folder.
    files: see `files.list_files`.
    output: what is written to.

  Returns:
    A complaint for every file that could not be predicted.

  Raises:
    UserError: see `Output.claim`.
  """
  image_format = semantic.image_format(config)
  suffix = "png" if image_format.rank == 2 else "tif"

  def names(stem: str) -> tuple[str, str]:
    return f"labels/{stem}.{suffix}", f"overlays/{stem}.png"

  output.claim(
    [
      files_lib.LINES_FILE,
      *(name for stem in files.values() for name in names(stem)),
    ]
  )
  probabilities_of = Probabilities(config, checkpoint)
  class_names = tuple(config.data.class_names)

  def predict_one(path: pathlib.Path, stem: str) -> dict:
    image = images.read_as(path, image_format)
    try:
      label, confidence, _ = label_pixels(
        probabilities_of(image), image.shape[:-1]
      )
    except UserError as error:
      raise UserError(f"{path}: {error}") from error
    if label.ndim == 2:
      content = files_lib.png(label, len(class_names))
    else:
      content = files_lib.pages(label)
    label_file, overlay_file = names(stem)
    output.write(label_file, content)
    step = -(-max(label.shape[-2:]) // _PICTURE_SIDE)
    tinted = overlays.overlay(
      overlays.middle_slice(image, 3)[::step, ::step],
      overlays.middle_slice(label, 2)[::step, ::step],
      len(class_names),
    )
    tinted = overlays.legend(tinted, class_names)
    output.write(overlay_file, files_lib.png(tinted))
    return _describe(label, confidence, class_names)

  return files_lib.predict_each(files, output, predict_one)


def _describe(
  label: np.ndarray, confidence: float, class_names: Sequence[str]
) -> dict:
  """The image's line in predictions.jsonl."""
  counts = [
    int(np.count_nonzero(label == index)) for index in range(len(class_names))
  ]
  names = ("depth", "height", "width")[-label.ndim :]
  return {
    **dict(zip(names, label.shape, strict=True)),
    "pixels": dict(zip(class_names, counts, strict=True)),
    "mean_confidence": round(confidence, 5),
  }
