"""The probabilities of a large array, band by band and in bounded memory."""

import collections
import itertools
from collections.abc import Callable, Iterable, Iterator

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from PIL import Image

from segsiam_jax import runs, runtime, steps
from segsiam_jax.data import images
from segsiam_jax.prediction import windows
from segsiam_jax.tasks.base import Batch, PyTree

# Whole images are padded to multiples of these, the last two of them, so that
# few sizes get compiled.
_SIZE_STEPS = (8, 64, 64)
# Rows that are brought back to an image's own size at once.
_BAND = 64


class Probabilities:
  """Class probabilities of images of any size, at the images' own size.

  With `predict.window` an image is predicted in windows of one shape, by one
  compiled step and as many at once as `predict.batch_size` says; else as a
  whole: at its own size where training cut crops, and at the size of training
  where that resized or shrank images.
  """

  def __init__(self, config: ml_collections.ConfigDict, checkpoint: str):
    """Loads the weights.

    Args:
      config: of a task whose `predict` returns `probabilities`.
      checkpoint: its folder.
    """
    self._data, settings = config.data, config.predict
    self._window = tuple(settings.window) if any(settings.window) else None
    self._overlap, self._blend = settings.overlap, settings.blend
    devices = jax.local_devices()
    # A whole image is one row, which one device works on.
    self._mesh = runtime.make_mesh(devices if self._window else devices[:1])
    self._backend = config.backend
    size = self._mesh.size
    self._rows = -(-settings.batch_size // size) * size if self._window else 1
    shape = self._window or tuple(config.data.image_size)
    spec = {
      "image": jax.ShapeDtypeStruct(
        (self._rows, *shape, config.data.channels),
        np.dtype(config.data.image_dtype),
      )
    }
    task = runs.make_task(config, spec)
    self._state = runs.weights_only(
      task, checkpoint, runtime.replicated(self._mesh)
    )
    flips = flip_masks(settings.flips, len(shape))
    self._step = steps.make_predict_step(
      task._replace(predict=averaged(task.predict, flips)),
      mesh=self._mesh,
      backend=self._backend,
    )

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
    """Rows of one shape, batched, predicted and taken apart again."""
    rows, waiting = iter(rows), collections.deque()

    def fetch() -> np.ndarray:
      count, out = waiting.popleft()
      return runtime.to_local(out, self._backend)["probabilities"][:count]

    while batch := list(itertools.islice(rows, self._rows)):
      count = len(batch)
      batch += [batch[-1]] * (self._rows - count)
      placed = runtime.to_global(
        {"image": np.stack(batch)}, self._mesh, self._backend
      )
      waiting.append((count, self._step(self._state, placed)))
      # The devices work on one batch while the one before is blended.
      if len(waiting) > 1:
        yield from fetch()
    while waiting:
      yield from fetch()

  def _whole(self, image: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    size = image.shape[:-1]
    fitted = images.fitted_size(
      size, tuple(self._data.image_size), self._data.fit
    )
    row = image if fitted == size else images.resize_image(image, fitted)
    # Resized images have one size already.
    steps_of = (1,) * len(size)
    if self._data.fit != "resize":
      steps_of = _SIZE_STEPS[-len(size) :]
    pads = [
      (0, -length % step) for length, step in zip(fitted, steps_of, strict=True)
    ]
    row = np.pad(row, [*pads, (0, 0)], mode="edge")
    [probabilities] = self._predict([row])
    probabilities = probabilities[tuple(slice(length) for length in fitted)]
    if fitted == size:
      yield 0, probabilities
    else:
      yield from resized_bands(probabilities, size)


def averaged(
  predict: Callable[[PyTree, PyTree, Batch], dict[str, jax.Array]],
  flips: np.ndarray,
) -> Callable[[PyTree, PyTree, Batch], dict[str, jax.Array]]:
  """A task's `predict`, its probabilities averaged over mirrored images.

  Args:
    predict: returns `probabilities` (B, *S, K).
    flips: (F, number of axes S) bool: which axes each of F images is mirrored
      along.

  Returns:
    A function that returns `probabilities` alone. The model is compiled once,
    whatever F is, and holds one image's activations at a time.
  """

  def mirror(array: jax.Array, flip: jax.Array) -> jax.Array:
    for axis in range(flips.shape[1]):
      array = jnp.where(flip[axis], jnp.flip(array, 1 + axis), array)
    return array

  def predict_averaged(params, model_state, batch):
    def add(total, flip):
      mirrored = {**batch, "image": mirror(batch["image"], flip)}
      out = predict(params, model_state, mirrored)["probabilities"]
      return total + mirror(out, flip), None

    if len(flips) == 1:
      return {
        "probabilities": predict(params, model_state, batch)["probabilities"]
      }
    shape = jax.eval_shape(predict, params, model_state, batch)["probabilities"]
    total, _ = jax.lax.scan(
      add, jnp.zeros(shape.shape, shape.dtype), jnp.asarray(flips)
    )
    return {"probabilities": total / len(flips)}

  return predict_averaged


def flip_masks(name: str, rank: int) -> np.ndarray:
  """Along which axes images are mirrored: (F, rank) bool, the first none.

  Args:
    name: '' for no mirroring, 'horizontal' for the last axis, 'all' for every
      axis and all their combinations.
    rank: number of axes.
  """
  axes = {"": 0, "horizontal": 1, "all": rank}[name]
  masks = np.zeros((2**axes, rank), bool)
  masks[:, rank - axes :] = list(itertools.product((False, True), repeat=axes))
  return masks


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
