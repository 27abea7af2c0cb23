"""Splits of instance segmentation and detection."""

import dataclasses
import math
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import ml_collections
import numpy as np

from segsiam_jax import parts
from segsiam_jax.data import images, layouts, sources
from segsiam_jax.data.folders import first_of
from segsiam_jax.data.instance import (
  annotations,
  coco,
  label_images,
  rows,
  tfds_objects,
)
from segsiam_jax.errors import UserError, listed
from segsiam_jax.fields.data_sets import INSTANCE
from segsiam_jax.fields.instance import canvas
from segsiam_jax.inputs import Opened, named, plan


def open_split(config: ml_collections.ConfigDict, train: bool) -> Opened:
  """Opens the training or the evaluation split."""
  data = config.data
  split = data.train_split if train else data.eval_split
  # Detectors of boxes only have no such fields.
  mask_size = data.get("mask_size", 0)
  folder = os.path.expanduser(data.dir)
  image_format = images.ImageFormat(data.channels)
  if data.name == "folder":
    source = label_images.InstanceFolderSource(
      folder,
      split,
      tuple(data.class_names),
      image_format,
      data.skip_broken,
      layouts.Layout(data.image_files, data.mask_files),
    )
  elif data.name == "coco":
    source = coco.CocoSource(
      folder,
      split,
      image_format,
      masks=mask_size > 0,
      skip_broken=data.skip_broken,
    )
  elif INSTANCE[data.name].open:
    reader = parts.load(INSTANCE[data.name].open)
    source = reader(folder, split, data.skip_broken)
  else:
    source = tfds_objects.TfdsInstances(data.name, split, folder or None)
  if data.one_class:
    source = annotations.OneClass(source, data.one_class)
  annotations.check_objects(source, named(config, train), train)
  if mask_size and source.annotations(0).masks is None:
    raise UserError(
      f"{data.dir}: {split} has boxes and no masks; config.model.name = "
      "'faster_rcnn' will do"
    )
  of_image, _ = rows_of(config, train)
  return Opened(
    source,
    rows.bucketed(
      dataclasses.replace(of_image, source=source),
      source,
      _canvases(config, train),
    ),
  )


def _canvases(
  config: ml_collections.ConfigDict, train: bool
) -> list[tuple[int, int]]:
  data = config.data
  buckets = data.buckets if train else data.eval_buckets or data.buckets
  return [canvas(bucket) for bucket in buckets]


def rows_of(
  config: ml_collections.ConfigDict, train: bool
) -> tuple[rows.InstanceRows, tuple[str, ...]]:
  """See `TaskParts.rows_of`; of the largest bucket."""
  data, augment = config.data, config.augment
  of_image = rows.InstanceRows(
    canvas=max(_canvases(config, train), key=math.prod),
    channels=data.channels,
    max_objects=data.max_objects,
    mask_size=data.get("mask_size", 0),
    min_side=data.min_side,
    max_side=data.max_side,
    enlarge_only=data.enlarge_only,
    stretch=data.stretch,
    train=train,
    jitter=tuple(augment.scale),
    flip_left_right=augment.flip_left_right,
    flip_up_down=augment.flip_up_down,
    transpose=augment.transpose,
    copy_paste=augment.get("copy_paste", 0.0),
  )
  return of_image, ("image",)


def choose(config: ml_collections.ConfigDict) -> dict[str, Any]:
  """See `TaskParts.choose`."""
  files = plan.files_of(open_split(config, True).source.keys())
  if not files:
    return {}
  found = plan.survey(files)
  crop = "x".join(map(str, plan.crop_size(found.sizes)))
  return plan.pixel_choices(found) | {
    "buckets": (crop,),
    "eval_buckets": plan.canvases(found.sizes),
  }


def describe(
  config: ml_collections.ConfigDict, source: sources.Source, train: bool
) -> tuple[list[str], list[str]]:
  """See `TaskParts.describe`."""
  counts, boxes, classes = _objects(source)
  sides = np.sqrt((boxes[:, 2:] - boxes[:, :2]).prod(1))
  lines = [
    f"objects per image: {_spread(counts)}",
    f"side of an object, sqrt(width * height) in pixels: {_spread(sides)}",
  ]
  names = source.class_names
  of_class = np.bincount(classes, minlength=len(names) + 1)[1:]
  shown = [f"{k} {v}" for k, v in zip(names, of_class.tolist(), strict=True)]
  lines.append("objects: " + ", ".join(shown))
  odd = []
  if not counts.all():
    keys = source.keys()
    empty = [pathlib.Path(keys[i]) for i in np.flatnonzero(counts == 0)]
    odd.append(f"{first_of(empty)}: no object")
  most = config.data.max_objects
  if train and counts.max() > most:
    over = np.count_nonzero(counts > most)
    odd.append(f"{over} images have more objects than max_objects = {most}")
  return lines, odd


def suit(
  config: ml_collections.ConfigDict, source: sources.Source
) -> dict[str, Any]:
  """See `TaskParts.suit`; anchors are of the model, and set in place."""
  counts, boxes, _ = _objects(source)
  widths, heights = (boxes[:, 2:] - boxes[:, :2]).T
  sides, ratios = np.sqrt(widths * heights), heights / np.maximum(widths, 1e-6)
  if len(sides):
    low, high = np.percentile(sides, (5, 95))
    sizes = np.geomspace(max(4.0, low), max(8.0, high), 5)
    kind = type(config.model.anchor_sizes[0])
    config.model.anchor_sizes = tuple(kind(round(size)) for size in sizes)
    shapes = np.percentile(ratios, (15, 50, 85))
    config.model.aspect_ratios = tuple(round(float(r), 2) for r in shapes)
  return {"max_objects": max(8, int(np.ceil(counts.max() / 8)) * 8)}


def _objects(
  source: sources.Source,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """How many objects each image has, and boxes and classes of all of them."""
  found = [source.annotations(index) for index in range(len(source))]
  return (
    np.array([len(each.boxes) for each in found]),
    np.concatenate([each.boxes for each in found]),
    np.concatenate([each.classes for each in found]),
  )


def _spread(values: np.ndarray) -> str:
  """The least, the median and the most of numbers."""
  if not len(values):
    return "none"
  low, middle, high = np.percentile(values, (0, 50, 100))
  return f"{low:.4g} to {high:.4g}, median {middle:.4g}"


def complete(
  config: ml_collections.ConfigDict, source: sources.Source | None
) -> None:
  """Notes the ids of the classes in the data set's own files.

  Args:
    config: changed in place.
    source: of the training split; of None nothing is known.
  """
  if source is not None:
    config.data.category_ids = tuple(source.category_ids)


def check_classes(
  config: ml_collections.ConfigDict,
  source: sources.Source,
  learned: Sequence[str],
) -> None:
  """Raises `UserError` unless a split has the classes that were learned.

  A class is known by its place: with another list, names would be mixed up.
  """
  if tuple(source.class_names) == tuple(learned):
    return
  here, there = map(listed, (source.class_names, learned))
  raise UserError(
    f"config.data.eval_split = {config.data.eval_split!r} has the classes "
    f"{here}, and the training split {there}; give both files the same "
    "categories in the same order of ids"
  )
