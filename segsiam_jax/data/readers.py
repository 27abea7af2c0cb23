"""Reading processes: what their batches go through, and how they end.

Batches come through shared memory where /dev/shm has room for them, and
through pipes elsewhere: where /dev/shm is full, SIGBUS ends the process that
writes to it. grain tells of most processes that die. One that is killed while
it holds a lock or is halfway through a message would leave this process waiting
for ever, so that a thread does the waiting, and this process watches.
"""

import logging
import multiprocessing
import os
import queue
import re
import signal
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any

import grain
import numpy as np
from grain.multiprocessing import SharedMemoryArray

from segsiam_jax import process
from segsiam_jax.errors import Lost, UserError

_logger = logging.getLogger(__name__)

_FOLDER = "/dev/shm"
# Batches of a process in shared memory: waiting for room in the queue, in it,
# read ahead, and being handed over.
_EACH = 4
# And of all together: in the step, and the ones before and after it.
_ALL = 3
# Bytes; an array below comes through a pipe in any case.
_SMALL = 1 << 16
_NEVER = 1 << 62
# What grain says of a process that has died.
_TOLD = re.compile(r"terminated unexpectedly with exit code (-?\d+)")
# Seconds: between looks at the processes, for grain to tell of one that has
# died, and for them to end.
_LOOK, _GRACE, _END = 0.5, 10.0, 60.0


class Readers:
  """Batches that several processes read; iterate as often as needed."""

  def __init__(
    self, dataset: grain.IterDataset, workers: int, nbytes: int
  ) -> None:
    """Starts nothing yet.

    Args:
      dataset: of batches.
      workers: processes, at least one.
      nbytes: of a batch.
    """
    self._dataset, self._workers, self._nbytes = dataset, workers, nbytes
    self._told = False

  def __iter__(self) -> grain.DatasetIterator:
    process.start_tracker()
    return _Iterator(self._read(), self._workers)

  def _read(self) -> grain.IterDataset:
    """Raises `UserError` where the system cannot have reading processes."""
    free, need = _free(), self.need
    if need > free and not self._told:
      self._told = True
      _logger.warning(
        "%s has %d MB free, and the batches of --config.data.workers=%d may "
        "take %d MB there: they come through pipes, which is slower; give it "
        "more room, take a smaller batch, or --config.data.workers=0",
        _FOLDER,
        free >> 20,
        self._workers,
        -(-need >> 20),
      )
    size = _SMALL if need <= free else _NEVER
    return grain.experimental.WithOptionsIterDataset(
      self._dataset, grain.experimental.DatasetOptions(min_shm_size=size)
    ).mp_prefetch(
      grain.MultiprocessingOptions(num_workers=self._workers),
      worker_init_fn=_start,
    )

  @property
  def need(self) -> int:
    """Bytes of shared memory that the batches may take at a time."""
    return (self._workers * _EACH + _ALL) * self._nbytes


def _free() -> int:
  """Bytes that shared memory has room for."""
  if not os.path.isdir(_FOLDER):
    return _NEVER  # A system that keeps it elsewhere.
  if not os.access(_FOLDER, os.W_OK):
    raise UserError(
      f"{_FOLDER}: not writable, and reading processes need it; set "
      "--config.data.workers=0"
    )
  system = os.statvfs(_FOLDER)
  return system.f_bavail * system.f_frsize


def _start(number: int, count: int) -> None:
  """Of a reading process: it ends when its parent says so, or has ended.

  Signals to the process group are for the parent, which may need more batches.
  """
  del number, count
  for kind in (signal.SIGINT, signal.SIGTERM):
    signal.signal(kind, signal.SIG_IGN)
  parent = multiprocessing.parent_process()

  def leave() -> None:
    parent.join()
    os._exit(1)

  threading.Thread(target=leave, daemon=True).start()


class _Iterator(grain.DatasetIterator):
  """Batches, and a `Lost` if a process that reads them dies.

  The position is the number of batches, whatever the number of processes.
  """

  def __init__(self, dataset: grain.IterDataset, workers: int):
    super().__init__()
    self._workers = workers
    self._before = set(multiprocessing.active_children())
    self._inner = iter(dataset)
    self._count = 0
    self._ours: set[Any] = set()
    self._wanted: queue.SimpleQueue = queue.SimpleQueue()
    self._found: queue.SimpleQueue = queue.SimpleQueue()
    self._thread: threading.Thread | None = None
    self._over = self._is_lost = False

  def __next__(self) -> Mapping[str, np.ndarray]:
    if self._over:
      raise StopIteration
    if self._thread is None:
      self._thread = threading.Thread(target=self._wait, daemon=True)
      self._thread.start()
    self._wanted.put(True)
    batch, error = self._next()
    if error is None:
      self._count += 1
      if len(self._ours) < self._workers:
        self._dead()
      return {name: _forgotten(array) for name, array in batch.items()}
    told = _TOLD.search(str(error))
    if isinstance(error, RuntimeError) and told:
      raise self._lost(int(told[1])) from error
    raise error

  def _wait(self) -> None:
    """In a thread of its own: the next batch, as often as one is wanted."""
    while self._wanted.get():
      try:
        self._found.put((next(self._inner), None))
      except BaseException as error:
        self._found.put((None, error))

  def _next(self) -> tuple[Any, BaseException | None]:
    """(batch, None) or (None, error); raises `Lost` when neither will come."""
    since = None
    while True:
      try:
        return self._found.get(timeout=_LOOK)
      except queue.Empty:
        dead = self._dead()
      since = (since or time.monotonic()) if dead else None
      if since is not None and time.monotonic() - since > _GRACE:
        raise self._lost(dead)

  def _dead(self) -> int:
    """The exit code of a process that ended badly, 0 if there is none."""
    self._ours |= set(multiprocessing.active_children()) - self._before
    codes = (each.exitcode for each in self._ours)
    return next(filter(None, codes), 0)

  def _lost(self, code: int) -> Lost:
    self._over = self._is_lost = True
    for each in self._ours:
      each.kill()
    return Lost(f"a reading process {_cause(code)}")

  def get_state(self) -> dict[str, int]:
    return {"next_index": self._count}

  def set_state(self, state: Mapping[str, Any]) -> None:
    self._count = batches_read(state)
    go_to(self._inner, self._count)

  def close(self) -> None:
    """Ends the processes; waits for them a minute at most."""
    # grain calls it anew when it forgets the iterator, which may be when the
    # interpreter ends and starts no more threads.
    if self._closed or sys.is_finalizing():
      return
    self._closed = self._over = True
    self._wanted.put(False)
    closing = threading.Thread(target=self._inner.close, daemon=True)
    closing.start()
    # In vain where a process had a lock when it died.
    closing.join(1 if self._is_lost else _END)


def _forgotten(array: np.ndarray) -> np.ndarray:
  """The array, its shared memory without a name: it goes when the array does.

  Names that are there when a process ends are leaks to Python.
  """
  if isinstance(array, SharedMemoryArray):
    array.shm.unlink()
    array._unlink_on_del = False
  return array


def _cause(code: int) -> str:
  """What an exit code says, and what helps."""
  fewer = "--config.data.workers=0 or a smaller batch"
  if code == -signal.SIGBUS:
    free = _free() >> 20
    return (
      f"ended with SIGBUS: {_FOLDER} had no room for its batches ({free} MB "
      f"are free now); give it more room, or take {fewer}"
    )
  if code == -signal.SIGKILL:
    return (
      "was killed (SIGKILL), as the system does when memory runs out; "
      f"{fewer} takes less"
    )
  name = f"exit code {code}"
  if -code in {int(number) for number in signal.Signals}:
    name = signal.Signals(-code).name
  return f"ended with {name}; --config.data.workers=0 reads without one"


def batches_read(position: Mapping[str, Any]) -> int:
  """How many batches an iterator had given at a position.

  Args:
    position: what `get_state` of a training iterator returned, with any number
      of reading processes.

  Raises:
    ValueError: it is not such a position.
  """
  try:
    if "next_index" in position:
      return int(position["next_index"])
    states = position["iterators_in_use_states"]
    return sum(int(state["next_index"]) for state in states)
  except (KeyError, TypeError) as error:
    raise ValueError(f"not a position in the data ({error!r})") from error


def go_to(iterator: grain.DatasetIterator, batches: int) -> None:
  """Sets a training iterator to where it has given so many batches.

  Reading processes take turns, so that their number makes no difference.
  """
  position = iterator.get_state()
  if "next_index" in position:
    iterator.set_state({"next_index": batches})
    return
  states = position["iterators_in_use_states"]
  turns, rest = divmod(batches, len(states))
  iterator.set_state(
    position
    | {
      "next_index_in_cycle": rest,
      "iterators_in_use_states": [
        {"next_index": turns + (number < rest)} for number in range(len(states))
      ],
    }
  )
