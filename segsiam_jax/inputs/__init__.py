"""The batches that a configuration asks for.

What is special about the splits of a task is in the module of its name.
"""

from typing import NamedTuple

import grain
import jax
import ml_collections

from segsiam_jax import parts
from segsiam_jax.data import pipeline, readers, sources
from segsiam_jax.engine import room
from segsiam_jax.fields import tasks


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
  plan: pipeline.Plan | None = None
  once: grain.IterDataset | readers.Readers | None = None


class Opened(NamedTuple):
  """What a task's opener returns.

  Attributes:
    source: examples of the split.
    rows: what makes a record a row of a batch.
    records: what rows are made of; None for the source itself.
    plan: of training batches; None for each example once an epoch.
    branches: of a row, see `pipeline.element_spec`.
  """

  source: sources.Source
  rows: pipeline.Rows | pipeline.Buckets
  records: sources.Source | None = None
  plan: pipeline.Plan | None = None
  branches: tuple[str, ...] = ("image",)


def open_inputs(config: ml_collections.ConfigDict, *, train: bool) -> Inputs:
  """Opens the training or the evaluation split of a valid configuration.

  Raises:
    UserError: the data are bad, or no machine holds a batch of them.
  """
  opened = parts.load(tasks.find(config.task).open_split)(config, train)
  records = opened.source if opened.records is None else opened.records

  def batches(
    batch_size: int, train: bool, plan: pipeline.Plan | None = None
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
  branches, once = opened.branches, None
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


def named(config: ml_collections.ConfigDict, train: bool) -> str:
  """What to call a split in a message."""
  name = "train_split" if train else "eval_split"
  return f"config.data.{name} = {config.data[name]!r}"


def check_together(
  config: ml_collections.ConfigDict, train: Inputs, test: Inputs
) -> None:
  """Raises `UserError` if both splits do not go together."""
  of_task = tasks.find(config.task)
  if of_task.check_splits:
    parts.load(of_task.check_splits)(config, train.source, test.source)
  if not config.data.allow_overlap:
    sources.check_overlap(train.source, test.source)
  if of_task.check_classes:
    learned = train.source.class_names
    parts.load(of_task.check_classes)(config, test.source, learned)


def of_training(
  config: ml_collections.ConfigDict, source: sources.Source
) -> ml_collections.ConfigDict:
  """A copy that knows its classes and what else the training data say.

  So prediction needs no data set, and evaluation has the same loss.

  Args:
    config: of the run.
    source: of the training split.
  """
  return _completed(config, source.class_names, source)


def of_evaluation(
  config: ml_collections.ConfigDict,
  source: sources.Source,
  learned: tuple[str, ...],
) -> ml_collections.ConfigDict:
  """The same copy when only an evaluation split is open.

  Args:
    config: of the run.
    source: of the evaluation split.
    learned: class names of the training split; () if they are not known.

  Raises:
    UserError: the split has other classes than were learned.
  """
  check = tasks.find(config.task).check_classes
  if check and learned:
    parts.load(check)(config, source, learned)
  # Of Siamese networks, other identities are tested than were trained on.
  return _completed(config, learned or source.class_names, None)


def _completed(
  config: ml_collections.ConfigDict,
  class_names: tuple[str, ...],
  training: sources.Source | None,
) -> ml_collections.ConfigDict:
  config = config.copy_and_resolve_references()
  if "class_names" in config.data:
    config.data.class_names = tuple(class_names)
  complete = tasks.find(config.task).complete
  if complete:
    parts.load(complete)(config, training)
  return config
