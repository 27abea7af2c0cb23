"""Reading processes that die, and shared memory that is too small."""

import logging
import os
import pathlib
import signal
import threading
import time

import jax
import numpy as np
import pytest

from segsiam_jax.data import pipeline, readers
from segsiam_jax.errors import Lost, UserError

SHARED = pathlib.Path("/dev/shm")


class Deadly:
  """Examples of 64 kB, one of which ends the process that reads it."""

  class_names = ("a", "b")

  def __init__(self, deadly=-1, number=signal.SIGKILL):
    self._deadly, self._number = deadly, number

  def __len__(self):
    return 64

  def __getitem__(self, index):
    if index == self._deadly:
      os.kill(os.getpid(), self._number)
    return {"image": np.full((256, 256, 1), index, np.uint8)}


class Rows:
  def spec(self):
    return {"image": jax.ShapeDtypeStruct((256, 256, 1), np.uint8)}

  def __call__(self, example, rng):
    return example


def batches(source, workers=1):
  return pipeline.make_pipeline(
    source, Rows(), batch_size=4, train=False, workers=workers
  )


def values(batch):
  return batch["image"][:, 0, 0, 0].tolist()


def no_room(monkeypatch, free):
  monkeypatch.setattr(readers, "_free", lambda: free)


def test_need_counts_what_is_on_its_way():
  # Two processes hold four batches each, three are at the step.
  image, mask, index = 4 * 256 * 256, 4 * 4, 4 * 4
  need = batches(Deadly(), workers=2).need
  assert 11 * image <= need <= 11 * (image + mask + index)
  assert batches(Deadly(), workers=0) is not None


def test_branches_are_counted():
  class Pairs:
    def __len__(self):
      return 8

    def __getitem__(self, number):
      return {"image": np.arange(4), "other": np.arange(4)}

  two = pipeline.make_pipeline(
    Deadly(), Rows(), batch_size=4, train=True, workers=1, plan=Pairs()
  )
  assert two.need == 2 * batches(Deadly()).need


def test_too_little_shared_memory_is_told_once(monkeypatch, caplog):
  """And only then: one line with both figures and what helps."""
  dataset = batches(Deadly(), workers=2)
  with caplog.at_level(logging.WARNING, "segsiam_jax"):
    no_room(monkeypatch, dataset.need)
    dataset._read()
    assert not caplog.messages
    no_room(monkeypatch, 64 << 10)
    dataset._read()
    dataset._read()
  [line] = caplog.messages
  for part in (
    "/dev/shm has 0 MB free",
    "3 MB",
    "--config.data.workers=2",
    "--config.data.workers=0",
    "smaller batch",
  ):
    assert part in line


def test_shared_memory_that_cannot_be_written_is_one_line(monkeypatch):
  monkeypatch.setattr(os, "access", lambda *unused: False)
  if SHARED.is_dir():
    with pytest.raises(UserError, match="/dev/shm: not writable.*workers=0"):
      iter(batches(Deadly()))


@pytest.mark.parametrize(
  ("code", "parts"),
  [
    (-signal.SIGBUS, ("SIGBUS", "/dev/shm", "workers=0", "smaller batch")),
    (-signal.SIGKILL, ("SIGKILL", "memory runs out", "workers=0")),
    (-signal.SIGSEGV, ("SIGSEGV", "workers=0")),
    (3, ("exit code 3", "workers=0")),
  ],
)
def test_the_cause_of_a_death(code, parts):
  for part in parts:
    assert part in readers._cause(code)


@pytest.mark.slow
@pytest.mark.parametrize("room", [readers._NEVER, 0])
def test_batches_are_the_same_through_memory_and_pipes(monkeypatch, room):
  """And no name of theirs is left in shared memory."""
  no_room(monkeypatch, room)
  names, forgotten = [], readers._forgotten

  def spy(array):
    if isinstance(array, readers.SharedMemoryArray):
      names.append(array.shm.name.lstrip("/"))
    return forgotten(array)

  monkeypatch.setattr(readers, "_forgotten", spy)
  dataset, expected = batches(Deadly(), workers=2), batches(Deadly(), workers=0)
  for _ in range(2):
    for one, other in zip(dataset, expected, strict=True):
      assert sorted(one) == sorted(other)
      for name in one:
        np.testing.assert_array_equal(one[name], other[name])
  iterator = iter(dataset)
  first = next(iterator)
  iterator.close()
  assert values(first) == [0, 1, 2, 3]
  assert len(names) == (33 if room else 0)
  assert not [name for name in names if (SHARED / name).exists()]


@pytest.mark.slow
@pytest.mark.parametrize(
  ("number", "told"),
  [(signal.SIGKILL, "SIGKILL"), (signal.SIGBUS, "/dev/shm")],
)
def test_a_reading_process_that_dies_is_lost(number, told):
  iterator = iter(batches(Deadly(13, number), workers=2))
  started, seen = time.monotonic(), []
  with pytest.raises(Lost, match=told):
    seen += map(values, iterator)
  assert time.monotonic() - started < 60
  assert seen == [[4 * n + i for i in range(4)] for n in range(len(seen))]
  assert iterator.get_state() == {"next_index": len(seen)}
  iterator.close()
  assert list(iterator) == []


class _Stuck:
  """An iterator of grain's whose process has died with a lock in its hand."""

  def __next__(self):
    threading.Event().wait()

  def close(self):
    threading.Event().wait()


def test_a_death_that_grain_does_not_notice_is_lost(monkeypatch):
  class Dead:
    exitcode = -signal.SIGKILL

    def kill(self):
      pass

  monkeypatch.setattr(readers, "_LOOK", 0.01)
  monkeypatch.setattr(readers, "_GRACE", 0.05)
  monkeypatch.setattr(readers, "_END", 0.05)
  iterator = iter(batches(Deadly()))
  iterator._inner.close()
  iterator._inner, iterator._ours = _Stuck(), {Dead()}
  with pytest.raises(Lost, match="killed"):
    next(iterator)
  iterator.close()
