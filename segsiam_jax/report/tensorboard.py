"""TensorBoard's event files, written at once, without a thread.

tensorboardX's own writer hands events to a thread through shared memory. With
no room left, its thread ends, and training waits for it for ever.
"""

import os
import time

import numpy as np
from etils import epath
from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog

from segsiam_jax.files import paths

# Seconds until others see what was written.
_FLUSH = 30.0


class EventFile:
  """One file of events; a resumed run has another one beside it."""

  def __init__(self, folder: epath.Path, purge_step: int | None = None):
    """Begins a file.

    Args:
      folder: that TensorBoard is shown.
      purge_step: events from here on, of earlier files, are hidden.
    """
    self._folder, self._flushed = folder, 0.0
    with paths.naming(folder):
      folder.mkdir(parents=True, exist_ok=True)
      # In the same second, another run may begin a file.
      suffix = f".{os.getpid()}.{time.time_ns() % 10**9}"
      self._file = EventsWriter(os.fspath(folder / "events"), suffix)
    if purge_step is not None:
      start = SessionLog(status=SessionLog.START)
      self._write(Event(step=purge_step, session_log=start))

  def scalar(self, name: str, value: float, step: int) -> None:
    self._write(Event(step=step, summary=summary.scalar(name, value)))

  def image(self, name: str, picture: np.ndarray, step: int) -> None:
    """Adds a (h, w, 3) uint8 picture."""
    content = summary.image(name, picture, dataformats="HWC")
    self._write(Event(step=step, summary=content))

  def _write(self, event: Event) -> None:
    event.wall_time = time.time()
    with paths.naming(self._folder):
      self._file.write_event(event)
      if event.wall_time - self._flushed > _FLUSH:
        self._file.flush()
        self._flushed = event.wall_time

  def close(self) -> None:
    with paths.naming(self._folder):
      self._file.close()
