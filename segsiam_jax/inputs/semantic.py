"""Splits of semantic segmentation."""

import logging
import os
from typing import Any

import ml_collections

from segsiam_jax.data import images, layouts
from segsiam_jax.data.broken import Broken
from segsiam_jax.data.folders import first_of
from segsiam_jax.data.semantic import (
  class_balance,
  multilabel,
  rows,
  sources,
)
from segsiam_jax.inputs import Opened, named, plan

_logger = logging.getLogger(__name__)

# How much more frequent one class must be for `suit` to weigh them.
_IMBALANCED = 10


def open_split(config: ml_collections.ConfigDict, train: bool) -> Opened:
  """Opens the training or the evaluation split."""
  data = config.data
  split = data.train_split if train else data.eval_split
  folder = os.path.expanduser(data.dir)
  layout = layouts.Layout(data.image_files, data.mask_files)
  if data.multilabel:
    source = multilabel.MultilabelSource(
      folder,
      split,
      tuple(data.class_names),
      image_format(config),
      layout,
      data.skip_broken,
    )
  else:
    options = sources.FolderOptions(
      class_names=tuple(data.class_names),
      legend=data.legend,
      label_values=tuple(data.label_values),
      ignore_values=tuple(data.ignore_values),
      instances=data.masks == "instances",
      image_format=image_format(config),
      layout=layout,
      skip_broken=data.skip_broken,
    )
    source = sources.open_source(data.name, split, folder, options)
  if train and data.train_fraction < 1:
    source = sources.Subset(source, data.train_fraction, config.seed)
  class_balance.check_classes_differ(
    source, named(config, train), train, fewest=1 if data.multilabel else 2
  )
  return Opened(source, rows_of(config, train)[0])


def rows_of(
  config: ml_collections.ConfigDict, train: bool
) -> tuple[rows.SemanticRows, tuple[str, ...]]:
  """See `TaskParts.rows_of`."""
  data = config.data
  of_image = rows.SemanticRows(
    image_size=image_size(config, train),
    channels=data.channels,
    fit=data.fit,
    train=train,
    foreground_crops=data.foreground_crops,
    weight_map=config.loss.weight_map if train else 0.0,
    weight_map_sigma=config.loss.weight_map_sigma,
    image_dtype=data.image_dtype,
    label_dtype="int32" if data.multilabel else "uint8",
  )
  return of_image, ("image",)


def complete(
  config: ml_collections.ConfigDict, source: sources.SemanticSource | None
) -> None:
  """Fills in the values of classes, and the weights that `balance` asks for.

  Args:
    config: changed in place; `data.class_names` are known.
    source: of the training split; None to open it.
  """
  label_values = getattr(source, "label_values", ())
  if label_values and not config.data.legend:
    config.data.label_values = label_values
  loss = config.loss
  if loss.balance == "none" or loss.class_weights:
    return
  if source is None:
    source = open_split(config, True).source
  pixels = class_balance.class_pixels(source)
  loss.class_weights = class_balance.class_weights(pixels, loss.balance)
  named_weights = zip(config.data.class_names, loss.class_weights, strict=True)
  _logger.info(
    "class weights: %s",
    ", ".join(
      f"{name} {weight}" if weight else f"{name} 0 (does not occur)"
      for name, weight in named_weights
    ),
  )


def choose(config: ml_collections.ConfigDict) -> dict[str, Any]:
  """See `TaskParts.choose`."""
  data, rank = config.data, len(config.data.image_size)
  if data.name == "folder":
    folder, split = os.path.expanduser(data.dir), data.train_split
    layout = layouts.Layout(data.image_files, data.mask_files)
    broken = Broken(skip=True)
    if data.multilabel:
      names = tuple(data.class_names)
      _, pairs = multilabel.find_files(folder, split, names, broken, layout)
    else:
      kind = "labels" if data.masks == "instances" else "masks"
      pairs = layouts.find_pairs(folder, split, kind, broken, layout)
    files = [image for image, _ in pairs]
  else:
    files = plan.files_of(open_split(config, True).source.keys())
  if not files:
    return {}
  found = plan.survey(files, rank)
  choices = plan.pixel_choices(found) | {"fit": "crop"}
  choices["image_size"] = plan.crop_size(found.sizes)
  if data.name == "folder":
    choices["image_dtype"] = found.dtype
  return choices


def describe(
  config: ml_collections.ConfigDict, source: sources.SemanticSource, train: bool
) -> tuple[list[str], list[str]]:
  """See `TaskParts.describe`."""
  del config, train
  pixels, odd = source.pixels, []
  if pixels is None:
    return [], []
  named_pixels = dict(zip(source.class_names, pixels.tolist(), strict=True))
  # Of overlapping classes a pixel may count several times, or not at all.
  total = getattr(source, "size", sum(named_pixels.values())) or 1
  lines = [
    "pixels: "
    + ", ".join(f"{k} {100 * v / total:.3g} %" for k, v in named_pixels.items())
  ]
  images_with = getattr(source, "images_with", None)
  if images_with is not None:
    counts = zip(source.class_names, images_with.tolist(), strict=True)
    lines.append("images: " + ", ".join(f"{k} {v}" for k, v in counts))
  absent = [name for name, count in named_pixels.items() if not count]
  if absent:
    odd.append(f"no pixel of {', '.join(absent)}")
  blank = getattr(source, "blank", {})
  for index, what in ((0, source.class_names[0]), (255, "ignored (255)")):
    if index in blank:
      masks = first_of(blank[index])
      odd.append(f"{masks}: all pixels are {what}")
  return lines, odd


def suit(
  config: ml_collections.ConfigDict, source: sources.SemanticSource
) -> dict[str, Any]:
  """See `TaskParts.suit`; rare classes get more weight in the loss."""
  pixels = source.pixels
  if pixels is not None and (pixels > 0).sum() > 1:
    there = pixels[pixels > 0]
    if there.max() > _IMBALANCED * there.min():
      config.loss.balance = "inverse_sqrt"
  return {}


def image_size(
  config: ml_collections.ConfigDict, train: bool
) -> tuple[int, ...]:
  """Of a row of semantic segmentation; prediction has that of evaluation."""
  data = config.data
  if train or not any(data.eval_image_size):
    return tuple(data.image_size)
  return tuple(data.eval_image_size)


def image_format(config: ml_collections.ConfigDict) -> images.ImageFormat:
  """That the model of a config for semantic segmentation takes."""
  data = config.data
  return images.ImageFormat(
    channels=data.channels,
    dtype=data.image_dtype,
    rank=len(data.image_size),
  )
