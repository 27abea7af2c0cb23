"""Semantic segmentation of image files of any size."""

import pathlib
from collections.abc import Mapping, Sequence

import jax
import ml_collections
import numpy as np
from etils import epath
from jax.sharding import Mesh
from PIL import Image

from segsiam_jax import overlays, runs, runtime, steps
from segsiam_jax.data import images
from segsiam_jax.errors import UserError
from segsiam_jax.prediction import files as files_lib

# Images are padded to multiples of this, so that few sizes get compiled.
_SIZE_STEP = 64


def predict_files(
  config: ml_collections.ConfigDict,
  checkpoint: str,
  files: Mapping[pathlib.Path, str],
  target: epath.Path,
) -> list[str]:
  """Labels every pixel of image files.

  Writes, for an image NAME.jpg, `labels/NAME.png` (class indices),
  `overlays/NAME.png` (the image tinted) and a line in `predictions.jsonl`.

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
  # One image a device and call; an 'eval' batch may not fit large images.
  mesh = runtime.make_mesh(jax.local_devices())
  probabilities_of = _Probabilities(config, checkpoint, mesh)
  class_names = tuple(config.data.class_names)

  def predict_one(path: pathlib.Path, stem: str) -> dict:
    image = images.read_image(path)
    probabilities = probabilities_of(image)
    label = probabilities.argmax(-1).astype(np.uint8)
    tinted = overlays.overlay(image, label, len(class_names))
    name = f"{stem}.png"
    files_lib.save_png(target / "labels" / name, label, len(class_names))
    files_lib.save_png(target / "overlays" / name, tinted)
    return _describe(label, probabilities, class_names)

  return files_lib.predict_each(files, target, predict_one)


class _Probabilities:
  """(H, W, C) uint8 -> (H, W, K) float32 probabilities."""

  def __init__(
    self, config: ml_collections.ConfigDict, checkpoint: str, mesh: Mesh
  ):
    self._config, self._mesh = config, mesh
    channels = config.data.channels
    spec = {
      "image": jax.ShapeDtypeStruct(
        (mesh.size, *config.data.image_size, channels), np.uint8
      )
    }
    task = runs.make_task(config, spec)
    self._state = runs.weights_only(task, checkpoint, runtime.replicated(mesh))
    self._step = steps.make_predict_step(
      task, mesh=mesh, backend=config.backend
    )

  def __call__(self, image: np.ndarray) -> np.ndarray:
    data = self._config.data
    height, width = image.shape[:2]
    try:
      row = images.to_channels(image, data.channels)
    except ValueError as error:
      raise UserError(
        f"config.data.channels = {data.channels}: {error}"
      ) from error
    if data.fit == "resize":
      # The model knows objects at the size that they had in training.
      row = images.resize_image(row, tuple(data.image_size))
    inside = row.shape[:2]
    # Resized, all have one size already.
    multiple = 1 if data.fit == "resize" else _SIZE_STEP
    pads = [(0, -length % multiple) for length in inside]
    row = np.pad(row, [*pads, (0, 0)], mode="edge")
    batch = {"image": np.repeat(row[None], self._mesh.size, axis=0)}
    placed = runtime.to_global(batch, self._mesh, self._config.backend)
    out = runtime.to_local(
      self._step(self._state, placed), self._config.backend
    )
    probabilities = out["probabilities"][0, : inside[0], : inside[1]]
    return _resize_planes(probabilities, (height, width))


def _resize_planes(planes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
  """Bilinear: (h, w, K) float32 to (*size, K)."""
  if planes.shape[:2] == size:
    return planes
  resized = [
    Image.fromarray(planes[..., k]).resize(
      size[::-1], Image.Resampling.BILINEAR
    )
    for k in range(planes.shape[-1])
  ]
  return np.stack([np.asarray(plane) for plane in resized], axis=-1)


def _describe(
  label: np.ndarray, probabilities: np.ndarray, class_names: Sequence[str]
) -> dict:
  """The image's line in predictions.jsonl."""
  counts = np.bincount(label.ravel(), minlength=len(class_names))
  return {
    "height": label.shape[0],
    "width": label.shape[1],
    "pixels": dict(zip(class_names, counts.tolist(), strict=True)),
    "mean_confidence": round(float(probabilities.max(-1).mean()), 5),
  }
