"""Processes that compile together and are timed one by one."""

import contextlib
import fcntl
import pathlib
import time
from collections.abc import Iterator


class Turns:
  """A process's part in it. It compiles from the start, until `timing`."""

  def __init__(self, folder: str, patience: float):
    """Takes part.

    Args:
      folder: shared by the processes; '' for a process by itself.
      patience: seconds from now after which it does not wait for others that
        still compile.
    """
    self._folder = pathlib.Path(folder) if folder else None
    self._until = time.monotonic() + patience
    if self._folder is not None:
      self._compiling = (self._folder / "compiling").open("a")
      fcntl.flock(self._compiling, fcntl.LOCK_SH)

  @contextlib.contextmanager
  def timing(self) -> Iterator[None]:
    """Waits until nobody compiles, and keeps others from timing."""
    if self._folder is None:
      yield
      return
    with self._compiling as compiling:
      fcntl.flock(compiling, fcntl.LOCK_UN)
      while time.monotonic() < self._until:
        with contextlib.suppress(BlockingIOError):
          fcntl.flock(compiling, fcntl.LOCK_EX | fcntl.LOCK_NB)
          break
        time.sleep(0.1)
      fcntl.flock(compiling, fcntl.LOCK_UN)
    with (self._folder / "timing").open("a") as timing:
      fcntl.flock(timing, fcntl.LOCK_EX)
      yield
