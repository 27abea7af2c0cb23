"""Prediction on image files of any size."""

import collections
import json
import logging
import pathlib
from collections.abc import Iterator, Sequence

import jax
import ml_collections
import numpy as np
from jax.sharding import Mesh
from PIL import Image

from segsiam_jax import checkpoint, overlays, paths, runs, runtime, steps
from segsiam_jax.data import images
from segsiam_jax.errors import UserError

_logger = logging.getLogger(__name__)

# Images are padded to multiples of this, so that few sizes get compiled.
_SIZE_STEP = 64


def predict(
  config: ml_collections.ConfigDict,
  workdir: str,
  inputs: Sequence[str],
  output: str = "",
  which: str = "best",
) -> int:
  """Labels every pixel of image files.

  Writes, for an image NAME.jpg, `labels/NAME.png` (class indices),
  `overlays/NAME.png` (the image tinted) and a line in `predictions.jsonl`.

  Args:
    config: of the run.
    workdir: of the run.
    inputs: image files, or folders of them.
    output: folder to write to; '' for workdir/predictions.
    which: checkpoint: 'best', 'latest' or a step.

  Returns:
    The number of images.

  Raises:
    UserError: an input is no image; the others are predicted all the same.
  """
  files = _list_files(inputs)
  output = output or str(paths.resolve(workdir) / "predictions")
  folder = checkpoint.find(
    workdir, which, config.train.best_metric, config.train.best_mode
  )
  paths.make_writable("--output", output)
  target = paths.resolve(output)
  for name in ("labels", "overlays"):
    (target / name).mkdir(exist_ok=True)
  # One image a device and call; an 'eval' batch may not fit large images.
  mesh = runtime.make_mesh(jax.local_devices())
  predictor = _Predictor(config, folder, mesh)

  unreadable: list[str] = []
  names = _names(files)
  with (target / "predictions.jsonl").open("w") as lines:
    for path in files:
      try:
        image = images.read_image(path)
        probabilities = predictor(image)
      except UserError as error:
        unreadable.append(str(error))
        _logger.error("%s", error)
        continue
      label = probabilities.argmax(-1).astype(np.uint8)
      num_classes = len(config.data.class_names)
      tinted = overlays.overlay(image, label, num_classes)
      _save(target / "labels" / names[path], label, num_classes)
      _save(target / "overlays" / names[path], tinted)
      line = _describe(path, label, probabilities, config.data.class_names)
      lines.write(json.dumps(line) + "\n")
  done = len(files) - len(unreadable)
  _logger.info("%d images predicted with %s: %s", done, folder, target)
  if unreadable:
    raise UserError(
      f"{len(unreadable)} of {len(files)} inputs could not be predicted, the "
      f"first: {unreadable[0]}; the others are in {target}"
    )
  return done


class _Predictor:
  """(H, W, C) uint8 -> (H, W, K) float32 probabilities."""

  def __init__(
    self, config: ml_collections.ConfigDict, folder: str, mesh: Mesh
  ):
    self._config, self._mesh = config, mesh
    channels = config.data.channels
    spec = {
      "image": jax.ShapeDtypeStruct(
        (mesh.size, *config.data.image_size, channels), np.uint8
      )
    }
    task = runs.make_task(config, spec)
    self._state = runs.weights_only(task, folder, runtime.replicated(mesh))
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


def _list_files(inputs: Sequence[str]) -> list[pathlib.Path]:
  if not inputs:
    raise UserError("--input: name image files or folders to predict on")

  def expand() -> Iterator[pathlib.Path]:
    for name in inputs:
      path = pathlib.Path(name)
      if path.is_dir():
        yield from images.list_images(path)
      elif path.is_file():
        yield path
      else:
        raise UserError(f"--input={name}: no such file or folder")

  return list(dict.fromkeys(expand()))


def _names(files: Sequence[pathlib.Path]) -> dict[pathlib.Path, str]:
  """Output names: NAME.png, or more of the path where NAME is not unique."""
  stems = collections.Counter(path.stem for path in files)
  return {
    path: f"{path.stem}.png"
    if stems[path.stem] == 1
    else "_".join(path.parts[-2:]) + ".png"
    for path in files
  }


def _save(path, array: np.ndarray, num_classes: int = 0) -> None:
  """PNG; class indices get a palette, so that viewers show colours."""
  image = Image.fromarray(array)
  if num_classes:
    image.putpalette(overlays.palette(num_classes).tobytes())
  with path.open("wb") as file:
    image.save(file, "PNG")


def _describe(
  path: pathlib.Path,
  label: np.ndarray,
  probabilities: np.ndarray,
  class_names: Sequence[str],
) -> dict:
  """The image's line in predictions.jsonl."""
  counts = np.bincount(label.ravel(), minlength=len(class_names))
  return {
    "file": str(path),
    "height": label.shape[0],
    "width": label.shape[1],
    "pixels": dict(zip(class_names, counts.tolist(), strict=True)),
    "mean_confidence": round(float(probabilities.max(-1).mean()), 5),
  }
