"""The batches that a configuration asks for."""

import os
from collections.abc import Sequence
from typing import NamedTuple

import grain
import jax
import ml_collections
import numpy as np

from segsiam_jax import room
from segsiam_jax.data import (
  annotations,
  class_balance,
  coco,
  identities,
  identity_checks,
  identity_sets,
  images,
  instance,
  instance_folder,
  instance_tfds,
  pipeline,
  readers,
  sampling,
  semantic,
  siamese,
  sources,
)
from segsiam_jax.data.protocol import Evaluated, make_protocol
from segsiam_jax.errors import UserError, listed
from segsiam_jax.fields.instance import canvas


class Inputs(NamedTuple):
  """A split, ready to be read.

  Attributes:
    source: its examples.
    rows: what makes an example a row of a batch.
    batches: of this process; iterate over them as often as needed.
    element_spec: shapes and dtypes of a global batch.
    plan: of Siamese training batches; None for others.
    once: every example of a Siamese training split once, in order, as
      evaluation batches are; None for others.
  """

  source: sources.Source
  rows: pipeline.Rows | pipeline.Buckets
  batches: grain.IterDataset | readers.Readers
  element_spec: dict[str, jax.ShapeDtypeStruct]
  plan: sampling.BatchPlan | None = None
  once: grain.IterDataset | readers.Readers | None = None


class Opened(NamedTuple):
  """What a task's opener returns.

  Attributes:
    source: examples of the split.
    rows: what makes a record a row of a batch.
    records: what rows are made of; None for the source itself.
    plan: of training batches; None for each example once an epoch.
  """

  source: sources.Source
  rows: pipeline.Rows | pipeline.Buckets
  records: sources.Source | None = None
  plan: sampling.BatchPlan | None = None


def open_inputs(config: ml_collections.ConfigDict, *, train: bool) -> Inputs:
  """Opens the training or the evaluation split of a valid configuration.

  Raises:
    UserError: the data are bad, or no machine holds a batch of them.
  """
  opened = _OPENERS[config.task](config, train)
  records = opened.source if opened.records is None else opened.records

  def batches(
    batch_size: int, train: bool, plan: sampling.BatchPlan | None = None
  ) -> grain.IterDataset | readers.Readers:
    return pipeline.make_pipeline(
      records,
      opened.rows,
      batch_size=batch_size,
      train=train,
      seed=config.seed,
      process_index=jax.process_index(),
      process_count=jax.process_count(),
      threads=config.data.threads,
      workers=config.data.workers,
      plan=plan,
    )

  eval_size = config.train.eval_batch_size
  batch_size = config.train.batch_size if train else eval_size
  branches, once = ("image",), None
  if opened.plan is not None:
    branches = sampling.BRANCHES[config.batch.kind]
  # Before the plan of an epoch, which is as long as a batch.
  field = "train.batch_size" if train else "train.eval_batch_size"
  several = isinstance(opened.rows, pipeline.Buckets)
  for rows in opened.rows.rows if several else (opened.rows,):
    room.check_batch(field, pipeline.element_spec(rows, batch_size, branches))
  if opened.plan is not None:
    room.check_batch(
      "train.eval_batch_size", pipeline.element_spec(opened.rows, eval_size)
    )
    once = batches(eval_size, train=False)
  return Inputs(
    opened.source,
    opened.rows,
    batches(batch_size, train, opened.plan),
    pipeline.element_spec(opened.rows, batch_size, branches),
    opened.plan,
    once,
  )


def _semantic(config: ml_collections.ConfigDict, train: bool) -> Opened:
  data = config.data
  source = sources.open_source(
    data.name,
    data.train_split if train else data.eval_split,
    data_dir=os.path.expanduser(data.dir),
    class_names=tuple(data.class_names),
    label_values=tuple(data.label_values),
    instances=data.masks == "instances",
    image_format=image_format(config),
    skip_broken=data.skip_broken,
  )
  if train and data.train_fraction < 1:
    source = sources.Subset(source, data.train_fraction, config.seed)
  class_balance.check_classes_differ(source, _named(config, train), train)
  rows = semantic.SemanticRows(
    image_size=image_size(config, train),
    channels=data.channels,
    fit=data.fit,
    train=train,
    foreground_crops=data.foreground_crops,
    weight_map=config.loss.weight_map if train else 0.0,
    weight_map_sigma=config.loss.weight_map_sigma,
    image_dtype=data.image_dtype,
  )
  return Opened(source, rows)


def _named(config: ml_collections.ConfigDict, train: bool) -> str:
  """What to call a split in a message."""
  name = "train_split" if train else "eval_split"
  return f"config.data.{name} = {config.data[name]!r}"


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


def _siamese(config: ml_collections.ConfigDict, train: bool) -> Opened:
  data, batch, settings = config.data, config.batch, config.eval
  split = data.train_split if train else data.eval_split
  source = identity_sets.open_identities(
    data.name, split, os.path.expanduser(data.dir), data.skip_broken
  )
  rows = siamese.SiameseRows(tuple(data.image_size), data.channels, data.fit)
  plan = None
  if train:
    if data.singles == "drop":
      source = identities.without_singles(source)
    identity_checks.check_identities(
      source, _named(config, train), singles=data.singles == "keep"
    )
    plan = sampling.make_plan(
      identities.Index.of(source),
      sampling.Sampling(
        kind=batch.kind,
        batch_size=config.train.batch_size,
        seed=config.seed,
        same_ratio=batch.same_ratio,
        per_identity=batch.per_identity,
        ways=batch.ways,
        shots=batch.shots,
        queries=batch.queries,
        within_group=batch.within_group,
        by_drawer=batch.by_drawer,
      ),
    )
  else:
    protocol = make_protocol(
      source,
      pairs=settings.pairs,
      folds=settings.folds,
      ways=settings.ways,
      shots=tuple(settings.shots),
      queries=settings.queries,
      episodes=settings.episodes,
      within_group=settings.within_group,
      where=_named(config, train),
    )
    source = Evaluated(source, protocol)
  records = siamese.Contents(source)
  if data.keep:
    return Opened(
      source, siamese.AsKept(rows), siamese.Kept(records, rows), plan
    )
  return Opened(source, rows, records, plan)


def _instance(config: ml_collections.ConfigDict, train: bool) -> Opened:
  data, augment = config.data, config.augment
  split = data.train_split if train else data.eval_split
  # Detectors of boxes only have no such fields.
  mask_size = data.get("mask_size", 0)
  folder = os.path.expanduser(data.dir)
  image_format = images.ImageFormat(data.channels)
  if data.name == "folder":
    source = instance_folder.InstanceFolderSource(
      folder, split, tuple(data.class_names), image_format, data.skip_broken
    )
  elif data.name == "coco":
    source = coco.CocoSource(
      folder,
      split,
      image_format,
      masks=mask_size > 0,
      skip_broken=data.skip_broken,
    )
  else:
    source = instance_tfds.TfdsInstances(data.name, split, folder or None)
  if data.one_class:
    source = annotations.OneClass(source, data.one_class)
  annotations.check_objects(source, _named(config, train), train)
  if mask_size and source.annotations(0).masks is None:
    raise UserError(
      f"{data.dir}: {split} has boxes and no masks; config.model.name = "
      "'faster_rcnn' will do"
    )
  rows = instance.InstanceRows(
    canvas=(0, 0),
    channels=data.channels,
    max_objects=data.max_objects,
    mask_size=mask_size,
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
    source=source,
  )
  buckets = data.buckets if train else data.eval_buckets or data.buckets
  rows = instance.bucketed(rows, source, [canvas(b) for b in buckets])
  return Opened(source, rows)


def check_together(
  config: ml_collections.ConfigDict, train: Inputs, test: Inputs
) -> None:
  """Raises `UserError` if both splits do not go together."""
  if config.task == "siamese" and not config.data.shared_identities:
    identity_checks.check_disjoint(train.source, test.source)
  if not config.data.allow_overlap:
    sources.check_overlap(train.source, test.source)
  if config.task == "instance":
    check_classes(config, test.source, train.source.class_names)


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


_OPENERS = {
  "instance": _instance,
  "semantic": _semantic,
  "siamese": _siamese,
}


def class_pixels(
  config: ml_collections.ConfigDict,
  source: sources.SemanticSource | None = None,
) -> np.ndarray:
  """(K,) int64 pixels of each class in the training split.

  Args:
    config: a valid configuration.
    source: of the training split; None to open it.
  """
  if source is None:
    source = _OPENERS[config.task](config, True).source
  return class_balance.class_pixels(source)
