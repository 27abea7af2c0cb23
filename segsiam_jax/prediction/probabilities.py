"""The probabilities of a large array, band by band and in bounded memory."""

import copy
from collections.abc import Iterable, Iterator

import jax
import ml_collections
import numpy as np
from PIL import Image

from segsiam_jax.data import images
from segsiam_jax.engine.state import TrainState
from segsiam_jax.errors import UserError
from segsiam_jax.inputs import semantic
from segsiam_jax.prediction import windows
from segsiam_jax.prediction.predictor import Predictor

# Whole images of other sizes than a row's are padded to multiples of these, the
# last two of them, so that few sizes get compiled.
_SIZE_STEPS = (8, 64, 64)
# Rows that are brought back to an image's own size at once.
_BAND = 64


class Probabilities:
  """Class probabilities of images of any size, at the images' own size.

  With `predict.window` an image is predicted in windows of one shape, by one
  compiled step and as many at once as `predict.batch_size` says; else as a
  whole: at its own size where training cut crops, and as the row that
  evaluation makes of it where that resizes or shrinks images.
  """

  def __init__(self, config: ml_collections.ConfigDict, checkpoint: str = ""):
    """Loads the weights.

    Args:
      config: of a task whose `predict` returns `probabilities`.
      checkpoint: its folder; '' for those of `with_weights`.
    """
    self._fit, settings = config.data.fit, config.predict
    self._row_size = semantic.image_size(config, train=False)
    self._window = tuple(settings.window) if any(settings.window) else None
    self._overlap, self._blend = settings.overlap, settings.blend
    image = jax.ShapeDtypeStruct(
      (*(self._window or self._row_size), config.data.channels),
      np.dtype(config.data.image_dtype),
    )
    # A whole image is one row.
    self._predictor = Predictor(
      config,
      checkpoint,
      {"image": image},
      settings.batch_size if self._window else None,
    )

  def with_weights(self, state: TrainState) -> "Probabilities":
    """The same with the weights of a state, which may be on any devices.

    What was compiled is shared. Every process works by itself.
    """
    other = copy.copy(self)
    other._predictor = self._predictor.with_weights(state)
    return other

  def __call__(self, image: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Predicts one image.

    Args:
      image: (H, W, C) or (D, H, W, C), C the channels of the model; only
        windows of it are read where there are windows, so that it may be on
        disk.

    Yields:
      (first, band): rows (of volumes, slices) from `first` on, the band
      (n, W, K) or (n, H, W, K) float32; together they make up the image.
    """
    if self._window:
      grid = windows.Grid.covering(
        image.shape[:-1], self._window, self._overlap, self._blend
      )
      cuts = (grid.cut(image, place) for place in grid.places())
      yield from windows.blend(grid, self._predict(cuts))
    else:
      yield from self._whole(image)

  def _predict(self, rows: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """(*S, C) rows to (*S, K) float32."""
    for out in self._predictor({"image": row} for row in rows):
      yield out["probabilities"]

  def _whole(self, image: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    size = image.shape[:-1]
    fitted = images.fitted_size(size, self._row_size, self._fit)
    row = image if fitted == size else images.resize_image(image, fitted)
    if self._fit == "crop" and size != self._row_size:
      steps_of, mode = _SIZE_STEPS[-len(size) :], "edge"
      pads = [
        (0, -length % step)
        for length, step in zip(fitted, steps_of, strict=True)
      ]
    else:
      # As a row of evaluation.
      mode = "constant"
      pads = [
        (0, want - have)
        for want, have in zip(self._row_size, fitted, strict=True)
      ]
    row = np.pad(
      np.asarray(row, row.dtype.newbyteorder("=")), [*pads, (0, 0)], mode=mode
    )
    try:
      [probabilities] = self._predict([row])
    except jax.errors.JaxRuntimeError as error:
      if "RESOURCE_EXHAUSTED" not in str(error):
        raise
      shape = "x".join(map(str, row.shape[:-1]))
      raise UserError(
        f"an image of {shape} pixels does not fit into the device's memory as "
        "a whole; set --config.predict.window"
      ) from error
    yield from self.at_own_size(probabilities, size)

  def at_own_size(
    self, probabilities: np.ndarray, size: tuple[int, ...]
  ) -> Iterator[tuple[int, np.ndarray]]:
    """What the model predicts for an image's row, resized to the image's size.

    Args:
      probabilities: (*S, K) float32 of the row, or with a `fit` of 'crop' of
        the whole image, perhaps padded.
      size: of the image.

    Yields:
      See `__call__`.
    """
    fitted = images.fitted_size(size, self._row_size, self._fit)
    probabilities = probabilities[tuple(slice(length) for length in fitted)]
    if fitted == size:
      yield 0, probabilities
    else:
      yield from resized_bands(probabilities, size)


def resized_bands(
  planes: np.ndarray, size: tuple[int, int]
) -> Iterator[tuple[int, np.ndarray]]:
  """Bilinear: (h, w, K) float32 to (*size, K), a band of rows at a time.

  Yields:
    (first, band): rows from `first` on, the band (n, size[1], K).
  """
  height, width = size
  pictures = [
    Image.fromarray(np.ascontiguousarray(planes[..., k]))
    for k in range(planes.shape[-1])
  ]
  for first in range(0, height, _BAND):
    last = min(first + _BAND, height)
    scale = planes.shape[0] / height
    box = (0, first * scale, planes.shape[1], last * scale)
    band = [
      np.asarray(
        picture.resize(
          (width, last - first), Image.Resampling.BILINEAR, box=box
        )
      )
      for picture in pictures
    ]
    yield first, np.stack(band, axis=-1)
