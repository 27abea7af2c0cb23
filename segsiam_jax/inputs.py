"""The batches that a configuration asks for."""

from typing import NamedTuple

import grain
import jax
import ml_collections
import numpy as np

from segsiam_jax.data import images, pipeline, semantic, sources


class Inputs(NamedTuple):
  """A split, ready to be read.

  Attributes:
    source: its examples.
    rows: what makes an example a row of a batch.
    batches: of this process; iterate over them as often as needed.
    element_spec: shapes and dtypes of a global batch.
  """

  source: sources.Source
  rows: pipeline.Rows
  batches: grain.IterDataset
  element_spec: dict[str, jax.ShapeDtypeStruct]


def open_inputs(config: ml_collections.ConfigDict, *, train: bool) -> Inputs:
  """Opens the training or the evaluation split of a valid configuration."""
  data = config.data
  batch_size = (
    config.train.batch_size if train else config.train.eval_batch_size
  )
  source, rows = _OPENERS[config.task](config, train)
  batches = pipeline.make_pipeline(
    source,
    rows,
    batch_size=batch_size,
    train=train,
    seed=config.seed,
    process_index=jax.process_index(),
    process_count=jax.process_count(),
    threads=data.threads,
    workers=data.workers,
  )
  spec = pipeline.element_spec(rows, batch_size)
  return Inputs(source, rows, batches, spec)


def _semantic(
  config: ml_collections.ConfigDict, train: bool
) -> tuple[sources.Source, pipeline.Rows]:
  data = config.data
  source = sources.open_source(
    data.name,
    data.train_split if train else data.eval_split,
    data_dir=data.dir,
    class_names=tuple(data.class_names),
    label_values=tuple(data.label_values),
    instances=data.masks == "instances",
    image_format=image_format(config),
  )
  if train and data.train_fraction < 1:
    source = sources.Subset(source, data.train_fraction, config.seed)
  image_size = tuple(data.image_size)
  if not train and any(data.eval_image_size):
    image_size = tuple(data.eval_image_size)
  rows = semantic.SemanticRows(
    image_size=image_size,
    channels=data.channels,
    fit=data.fit,
    train=train,
    foreground_crops=data.foreground_crops,
    weight_map=config.loss.weight_map if train else 0.0,
    weight_map_sigma=config.loss.weight_map_sigma,
    image_dtype=data.image_dtype,
  )
  return source, rows


def image_format(config: ml_collections.ConfigDict) -> images.ImageFormat:
  """That the model of a config for semantic segmentation takes."""
  data = config.data
  return images.ImageFormat(
    channels=data.channels,
    dtype=data.image_dtype,
    rank=len(data.image_size),
  )


# Examples that class weights are counted in.
_MOST_LABELS = 1000

_OPENERS = {"semantic": _semantic}


def class_pixels(config: ml_collections.ConfigDict) -> np.ndarray:
  """Pixels of each class in the training split, for class weights.

  Returns:
    (K,) int64, of at most a thousand examples, evenly spread.
  """
  source, _ = _OPENERS[config.task](config, True)
  step = -(-len(source) // _MOST_LABELS)
  counts = np.zeros(len(source.class_names), np.int64)
  for index in range(0, len(source), step):
    label = source[index]["label"]
    counts += np.bincount(label[label != 255].ravel(), minlength=len(counts))
  return counts
