"""From a source to batches on the host, with grain.

Reading is random access, so that shuffling is global and an iterator's whole
state is a position. Batches are planned as indices of the global batch, of
which a process reads its share: the data are the same however many there are.
"""

from collections.abc import Mapping
from typing import Any, Protocol

import grain
import jax
import numpy as np

from segsiam_jax.data.sources import Source


class Rows(Protocol):
  """What makes an example a row: a picklable callable of static output."""

  def spec(self) -> Mapping[str, jax.ShapeDtypeStruct]: ...

  def __call__(
    self, example: Mapping[str, Any], rng: np.random.Generator
  ) -> Mapping[str, np.ndarray]: ...


class _PaddedIndices:
  """0, 1, ... length - 1, and then -1 up to a multiple of the batch."""

  def __init__(self, length: int, multiple: int):
    self._length = length
    self._padded = -(-length // multiple) * multiple

  def __len__(self) -> int:
    return self._padded

  def __getitem__(self, index: int) -> int:
    return index if index < self._length else -1


class _ReadRows(grain.transforms.RandomMap):
  """Indices of a global batch -> this process's rows; -1 is a padding row."""

  def __init__(self, source: Source, rows: Rows, share: slice):
    self._source, self._rows, self._share = source, rows, share

  def random_map(self, indices: np.ndarray, rng: np.random.Generator):
    # A row's randomness is its own, whichever process reads it.
    seeds = rng.integers(2**63, size=len(indices))
    chosen = zip(indices[self._share], seeds[self._share], strict=True)
    rows = [self._read(int(index), seed) for index, seed in chosen]
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}

  def _read(self, index: int, seed: int) -> dict[str, np.ndarray]:
    if index < 0:
      row = {
        name: np.zeros(spec.shape, spec.dtype)
        for name, spec in self._rows.spec().items()
      }
    else:
      rng = np.random.default_rng(seed)
      row = dict(self._rows(self._source[index], rng))
    row["mask"] = np.float32(index >= 0)
    row["index"] = np.int32(index)
    return row


def element_spec(
  rows: Rows, batch_size: int
) -> dict[str, jax.ShapeDtypeStruct]:
  """Shapes and dtypes of a batch of `batch_size` rows; adds mask and index."""
  spec = {
    name: jax.ShapeDtypeStruct((batch_size, *row.shape), row.dtype)
    for name, row in rows.spec().items()
  }
  return spec | {
    "mask": jax.ShapeDtypeStruct((batch_size,), np.float32),
    "index": jax.ShapeDtypeStruct((batch_size,), np.int32),
  }


def make_pipeline(
  source: Source,
  rows: Rows,
  *,
  batch_size: int,
  train: bool,
  seed: int = 0,
  process_index: int = 0,
  process_count: int = 1,
  threads: int = 4,
  workers: int = 0,
) -> grain.IterDataset:
  """Batches of one process: dictionaries of NumPy arrays of static shape.

  Training batches go on for ever, each epoch in another order. Evaluation
  batches hold every example once, in order; the last one is padded with rows
  whose `mask` is 0, and every process has the same number of batches. A row's
  `index` is its example's in the source, -1 for padding.

  Args:
    source: random-access examples.
    rows: example -> row.
    batch_size: rows of a batch over all processes together.
    train: see above.
    seed: of the order and of random rows.
    process_index: which share of each batch is this process's.
    process_count: number of processes; it divides `batch_size`.
    threads: reading threads; each reads a batch.
    workers: reading processes beside this one; 0 for none.

  Returns:
    The batches; their iterator has `get_state` and `set_state`.
  """
  if batch_size % process_count:
    raise ValueError(
      f"{process_count} processes do not divide batch_size {batch_size}"
    )
  if train:
    indices = grain.MapDataset.range(len(source)).seed(seed).shuffle()
    # Repeated before it is batched: no example waits for a full last batch.
    indices = indices.repeat()
  else:
    padded = _PaddedIndices(len(source), batch_size)
    indices = grain.MapDataset.source(padded).seed(seed)
  local = batch_size // process_count
  share = slice(process_index * local, (process_index + 1) * local)
  batches = indices.batch(batch_size, drop_remainder=True).random_map(
    _ReadRows(source, rows, share)
  )
  dataset = batches.to_iter_dataset(
    grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads)
  )
  if workers:
    dataset = dataset.mp_prefetch(
      grain.MultiprocessingOptions(num_workers=workers)
    )
  return dataset
