"""From a source to batches on the host, with grain.

Reading is random access, so that shuffling is global and an iterator's whole
state is a position. Batches are planned as indices of the global batch, of
which a process reads its share: the data are the same however many there are.

Where examples come in several static shapes, each belongs to a bucket, and a
batch is of one bucket.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import grain
import jax
import numpy as np

from segsiam_jax.data import readers
from segsiam_jax.data.sources import Source


class Rows(Protocol):
  """What makes an example a row: a picklable callable of static output."""

  def spec(self) -> Mapping[str, jax.ShapeDtypeStruct]: ...

  def __call__(
    self, example: Mapping[str, Any], rng: np.random.Generator
  ) -> Mapping[str, np.ndarray]: ...


class Plan(Protocol):
  """Batches of indices: (B,), or a dictionary with one such array a branch."""

  def __len__(self) -> int: ...

  def __getitem__(
    self, index: int
  ) -> np.ndarray | Mapping[str, np.ndarray]: ...


class Buckets(NamedTuple):
  """Rows of several static shapes, in batches of one shape each.

  Attributes:
    rows: those of each bucket.
    of: (length of the source,) integers, the bucket of each example.
  """

  rows: Sequence[Rows]
  of: np.ndarray


class _ReadRows(grain.transforms.RandomMap):
  """Indices of a global batch -> this process's rows; -1 is a padding row.

  Indices are (B,), or a dictionary with one such array per branch (see
  `element_spec`).
  """

  def __init__(self, source: Source, buckets: Buckets, share: slice):
    self._source, self._buckets, self._share = source, buckets, share

  def random_map(
    self,
    plan: np.ndarray | Mapping[str, np.ndarray],
    rng: np.random.Generator,
  ):
    if not isinstance(plan, Mapping):
      plan = {"image": plan}
    out = {}
    for branch, indices in plan.items():
      # A row's randomness is its own, whichever process reads it.
      seeds = rng.integers(2**63, size=len(indices))
      chosen = zip(indices[self._share], seeds[self._share], strict=True)
      # Of this process's rows all may be padding, but never the global first.
      rows = self._buckets.rows[self._buckets.of[indices[0]]]
      read = [self._read(rows, int(index), seed) for index, seed in chosen]
      out |= {
        of_branch(branch, name): np.stack([row[name] for row in read])
        for name in read[0]
      }
    return out

  def _read(self, rows: Rows, index: int, seed: int) -> dict[str, np.ndarray]:
    if index < 0:
      row = {
        name: np.zeros(spec.shape, spec.dtype)
        for name, spec in rows.spec().items()
      }
    else:
      rng = np.random.default_rng(seed)
      row = dict(rows(self._source[index], rng))
    row["mask"] = np.float32(index >= 0)
    row["index"] = np.int32(index)
    return row


def of_branch(branch: str, name: str) -> str:
  """What a row's array is called: 'label', or 'other_label' of a branch.

  >>> of_branch("image", "label"), of_branch("other", "image")
  ('label', 'other')
  """
  if branch == "image":
    return name
  return branch if name == "image" else f"{branch}_{name}"


def element_spec(
  rows: Rows | Buckets,
  batch_size: int,
  branches: tuple[str, ...] = ("image",),
) -> dict[str, jax.ShapeDtypeStruct]:
  """Shapes and dtypes of a batch of `batch_size` rows.

  Args:
    rows: their `spec` is what an example gives; mask and index are added. Of
      several buckets, those of the first count.
    batch_size: rows.
    branches: a Siamese row has several examples. Those after the first have
      'other', 'other_label', 'other_mask' and so on.
  """
  if isinstance(rows, Buckets):
    rows = rows.rows[0]
  one = dict(rows.spec()) | {
    "mask": jax.ShapeDtypeStruct((), np.float32),
    "index": jax.ShapeDtypeStruct((), np.int32),
  }
  return {
    of_branch(branch, name): jax.ShapeDtypeStruct(
      (batch_size, *row.shape), row.dtype
    )
    for branch in branches
    for name, row in one.items()
  }


def make_pipeline(
  source: Source,
  rows: Rows | Buckets,
  *,
  batch_size: int,
  train: bool,
  seed: int = 0,
  process_index: int = 0,
  process_count: int = 1,
  threads: int = 4,
  workers: int = 0,
  plan: Plan | None = None,
) -> grain.IterDataset | readers.Readers:
  """Batches of one process: dictionaries of NumPy arrays of static shape.

  Training batches go on for ever, each epoch in another order; buckets take
  turns by their numbers of examples. Evaluation batches hold every example
  once, bucket by bucket and in order; the last one of a bucket is padded with
  rows whose `mask` is 0, and every process has the same number of batches. A
  row's `index` is its example's in the source, -1 for padding.

  Args:
    source: random-access examples.
    rows: example -> row.
    batch_size: rows of a batch over all processes together.
    train: see above.
    seed: of the order and of random rows.
    process_index: which share of each batch is this process's.
    process_count: number of processes; it divides `batch_size`.
    threads: reading threads; each reads a batch.
    workers: reading processes in addition to this one; 0 for none.
    plan: of training batches; None for each example once an epoch.

  Returns:
    The batches; their iterator has `get_state` and `set_state`.
  """
  if batch_size % process_count:
    raise ValueError(
      f"{process_count} processes do not divide batch_size {batch_size}"
    )
  buckets = rows
  if not isinstance(rows, Buckets):
    buckets = Buckets((rows,), np.zeros(len(source), np.int64))
  members = [
    np.flatnonzero(buckets.of == bucket) for bucket in np.unique(buckets.of)
  ]
  if train and plan is not None:
    planned = grain.MapDataset.source(plan).seed(seed)
  elif train:
    parts = [
      # Repeated before it is batched: no example waits for a full last batch.
      grain.MapDataset.source(part)
      .seed(seed)
      .shuffle()
      .repeat()
      .batch(batch_size, drop_remainder=True)
      for part in members
    ]
    planned = parts[0]
    if len(parts) > 1:
      planned = grain.MapDataset.mix(parts, [len(part) for part in members])
  else:
    padded = [
      np.pad(part, (0, -len(part) % batch_size), constant_values=-1)
      for part in members
    ]
    planned = grain.MapDataset.source(np.concatenate(padded)).seed(seed)
    planned = planned.batch(batch_size, drop_remainder=True)
  local = batch_size // process_count
  share = slice(process_index * local, (process_index + 1) * local)
  batches = planned.random_map(_ReadRows(source, buckets, share))
  dataset = batches.to_iter_dataset(
    grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads)
  )
  if workers:
    plans = planned[0]
    branches = len(plans) if isinstance(plans, Mapping) else 1
    nbytes = max(_nbytes(each) for each in buckets.rows)
    return readers.Readers(dataset, workers, branches * local * nbytes)
  return dataset


def _nbytes(rows: Rows) -> int:
  return sum(
    math.prod(each.shape) * np.dtype(each.dtype).itemsize
    for each in rows.spec().values()
  )
