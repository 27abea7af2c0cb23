"""Semantic segmentation of images and volumes of any size."""

import pathlib
from collections.abc import Mapping

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
from segsiam_jax.tasks.pixel_classes import of_config

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
  image's size; of classes that may overlap `labels/CLASS/NAME.png`, 255 where
  a pixel is of the class), `overlays/NAME.png` (the image tinted) and a line in
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

  class_names = tuple(config.data.class_names)
  classes = of_config(config)

  def label_names(stem: str) -> list[str]:
    if not config.data.multilabel:
      return [f"labels/{stem}.{suffix}"]
    return [f"labels/{name}/{stem}.{suffix}" for name in class_names]

  def overlay_name(stem: str) -> str:
    return f"overlays/{stem}.png"

  output.claim(
    [
      files_lib.LINES_FILE,
      *(name for stem in files.values() for name in label_names(stem)),
      *map(overlay_name, files.values()),
    ]
  )
  probabilities_of = Probabilities(config, checkpoint)

  def predict_one(path: pathlib.Path, stem: str) -> dict:
    image = images.read_as(path, image_format)
    try:
      label, confidence, _ = label_pixels(
        probabilities_of(image), image.shape[:-1], classes
      )
    except UserError as error:
      raise UserError(f"{path}: {error}") from error
    counts = {
      name: int(np.count_nonzero(classes.has(label, index)))
      for index, name in enumerate(class_names)
    }
    # One mask at a time: images may be large.
    for index, name in enumerate(label_names(stem)):
      array, colors = label, len(class_names)
      if config.data.multilabel:
        array, colors = classes.has(label, index) * np.uint8(255), 0
      page = array.ndim == 2
      content = files_lib.png(array, colors) if page else files_lib.pages(array)
      output.write(name, content)
    step = -(-max(label.shape[-2:]) // _PICTURE_SIDE)
    tinted = classes.overlay(
      overlays.middle_slice(image, 3)[::step, ::step],
      overlays.middle_slice(label, 2)[::step, ::step],
    )
    tinted = overlays.legend(tinted, classes.legend)
    output.write(overlay_name(stem), files_lib.png(tinted))
    names = ("depth", "height", "width")[-label.ndim :]
    return {
      **dict(zip(names, label.shape, strict=True)),
      "pixels": counts,
      "mean_confidence": round(confidence, 5),
    }

  return files_lib.predict_each(files, output, predict_one)
