"""What a config leaves to the data: sizes, channels, bits, mean and std."""

import logging
import math
import os
import pathlib
from collections.abc import Iterable, Sequence
from concurrent import futures
from typing import Any, NamedTuple

import ml_collections
import numpy as np

from segsiam_jax import config as config_lib
from segsiam_jax import parts
from segsiam_jax.config import of_workdir
from segsiam_jax.data import broken, images
from segsiam_jax.errors import UserError
from segsiam_jax.fields import tasks

_logger = logging.getLogger(__name__)

# Images that are looked at.
_MOST = 64
# Sides of a crop are multiples of the first, and at most the second.
_STEP, _LONGEST, _LONGEST_OF_VOLUMES = 32, 256, 96


class Survey(NamedTuple):
  """What some of the training images are.

  Attributes:
    sizes: (n, rank) heights and widths, of volumes with depths.
    channels: of all of them.
    dtype: 'uint8' or 'uint16'.
    mean: of each channel, in the files' own units.
    std: likewise.
  """

  sizes: np.ndarray
  channels: int
  dtype: str
  mean: tuple[float, ...]
  std: tuple[float, ...]


def survey(paths: Sequence[str | os.PathLike], rank: int = 2) -> Survey:
  """Reads up to 64 images, evenly spread.

  Args:
    paths: of the training images; those that cannot be read are left out.
    rank: 3 for volumes.

  Raises:
    UserError: none can be read, or they differ in channels or bits.
  """
  chosen = np.unique(np.linspace(0, len(paths) - 1, _MOST).astype(int))
  with futures.ThreadPoolExecutor() as pool:
    read = pool.map(lambda index: _read(paths[index], rank), chosen)
    found = [(paths[i], one) for i, one in zip(chosen, read, strict=True)]
  good = [(path, one) for path, one in found if one is not None]
  if not good:
    raise UserError(f"{paths[0]}: not a readable image, nor is any other")
  channels = max(one.shape[-1] for _, one in good)
  dtypes = {str(one.dtype.newbyteorder("=")): path for path, one in good}
  if len(dtypes) > 1:
    (one, where), (other, there), *_ = dtypes.items()
    raise UserError(
      f"{where} has {one} values, and {there} {other}; convert them to one type"
    )
  of_channels = {one.shape[-1]: path for path, one in good}
  if len(of_channels) > 1:
    shown = ", ".join(f"{k} such as {v}" for k, v in of_channels.items())
    broken.note(
      f"images have different numbers of channels, {shown}; all become "
      f"{channels}"
    )
  counts = np.zeros(channels)
  totals, squares = np.zeros(channels), np.zeros(channels)
  for _, image in good:
    values = np.broadcast_to(image, (*image.shape[:-1], channels)).reshape(
      -1, channels
    )
    counts += len(values)
    totals += values.sum(0, dtype=np.float64)
    squares += np.square(values, dtype=np.float64).sum(0)
  mean = totals / counts
  std = np.sqrt(np.maximum(squares / counts - mean**2, 1.0))
  return Survey(
    sizes=np.array([image.shape[:-1] for _, image in good]),
    channels=channels,
    dtype=next(iter(dtypes)),
    mean=tuple(round(float(x), 2) for x in mean),
    std=tuple(round(float(x), 2) for x in std),
  )


def _read(path: str | os.PathLike, rank: int) -> np.ndarray | None:
  """(H, W, C) or (D, H, W, C) without transparency; None if unreadable."""
  for dtype in ("uint8", "uint16"):
    try:
      return images.read_image(path, dtype=dtype, rank=rank)
    except UserError:
      continue
  return None


def planned(
  config: ml_collections.ConfigDict, workdir: str
) -> ml_collections.ConfigDict:
  """A copy in which `data.auto` has chosen what has its default.

  A workdir's own choices come first, so that a run that resumes goes on as it
  was even if images were added.

  Raises:
    UserError: the training images cannot be read, or what was chosen does not
      suit the model.
  """
  if not config.data.auto:
    return config
  config = config.copy_and_resolve_references()
  saved = of_workdir.read(workdir)
  if saved is not None and saved.task == config.task:
    choices = {name: saved.data.get(name) for name in config.data}
  else:
    of_task = tasks.find(config.task)
    if not of_task.choose:
      raise UserError(
        f"config.data.auto: the task {config.task!r} chooses nothing"
      )
    choices = parts.load(of_task.choose)(config)
  defaults = config_lib.default_config(config.task, config.model.name).data
  chosen = {}
  for name, value in choices.items():
    if value is not None and _same(config.data[name], defaults[name]):
      config.data[name] = chosen[name] = value
  if saved is None and chosen:
    _logger.info(
      "chosen by the training data: %s",
      ", ".join(f"{name}={value}" for name, value in chosen.items()),
    )
  config_lib.validate(config)
  return config


def _same(one: Any, other: Any) -> bool:
  return (tuple(one) if isinstance(one, list) else one) == other


def pixel_choices(found: Survey) -> dict[str, Any]:
  """Values of the fields that all tasks have."""
  return {
    "channels": found.channels,
    "mean": found.mean,
    "std": found.std,
  }


def crop_size(sizes: np.ndarray) -> tuple[int, ...]:
  """A size of crops that most images hold.

  >>> crop_size(np.array([[300, 500], [310, 480]]))
  (256, 256)
  >>> crop_size(np.array([[20, 500, 70]]))
  (16, 96, 64)
  """
  *depth, height, width = np.median(sizes, axis=0).astype(int)
  longest = _LONGEST_OF_VOLUMES if depth else _LONGEST
  sides = [
    max(_STEP, min(longest, int(length)) // _STEP * _STEP)
    for length in (height, width)
  ]
  deep = [2 ** min(5, int(math.log2(max(1, slices)))) for slices in depth]
  return (*deep, *sides)


def canvases(sizes: np.ndarray, most: int = 6) -> tuple[str, ...]:
  """Buckets that hold all images: multiples of 32, at most `most` of them.

  >>> canvases(np.array([[30, 60], [64, 64], [100, 40]]), most=2)
  ('64x64', '128x64')
  """
  step = _STEP
  while True:
    found = {tuple(-(-size // step) * step) for size in sizes}
    if len(found) <= most:
      break
    step *= 2
  return tuple(f"{h}x{w}" for h, w in sorted(found, key=lambda s: s[0] * s[1]))


def files_of(keys: Iterable[str]) -> list[pathlib.Path]:
  """The files among the keys of a source (see `data.sources.Source`)."""
  return [pathlib.Path(key) for key in keys if os.path.isfile(key)]
