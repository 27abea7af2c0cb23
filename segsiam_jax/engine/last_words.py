"""One line in place of the many with which JAX ends a process.

When one process of several dies, JAX's coordination service tells the others,
and its client ends them with SIGABRT and pages of messages. A client can be
given a function to call instead, but none of Python's: jaxlib cannot convert
what it passes. So the signal is caught here, and what C++ prints goes through a
pipe, in which it can be dropped.
"""

import contextlib
import ctypes
import faulthandler
import os
import re
import select
import signal
import sys
import threading
from collections.abc import Callable

from segsiam_jax import command_line

# Lines of C++ on processes that are gone, and of the stack where one ends.
_NOISE = re.compile(
  rb"coordination_|preemption_|Coordination|Additional GRPC error"
  rb"|JAX distributed service|the task|tasks are|^:UNKNOWN|^\d+\s*$"
  rb"|Check failure|^\s+@ |^\s*$|terminate called|what\(\):"
)
_OF_OTHERS = re.compile(rb"JAX distributed service|oordination")
# Seconds in which the main thread may tell more than a signal does.
_GRACE = 3.0


class LastWords:
  """Filters what C++ prints, and has the last word where JAX aborts."""

  def __init__(self, leave: Callable[[], None]):
    """Starts at once, and lasts as long as the process.

    Args:
      leave: tells that another process has ended, and ends this one.
    """
    self._leave = leave
    self._rest, self._seen = b"", b""
    self._lock = threading.Lock()
    sys.stderr.flush()
    self._out = os.dup(2)
    self._pipe, writer = os.pipe()
    os.set_blocking(self._pipe, False)
    os.dup2(writer, 2)
    os.close(writer)
    # Python's own lines need no filter.
    sys.stderr = os.fdopen(
      os.dup(self._out), "w", buffering=1, errors="backslashreplace"
    )
    command_line.log_to_stderr()
    threading.Thread(target=self._relay, daemon=True).start()
    faulthandler.disable()
    # Python's handlers wait for the main thread; abort() waits for none.
    self._handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(self._aborted)
    system = ctypes.CDLL(None)
    system.signal.restype = ctypes.c_void_p
    system.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
    self._signal = system.signal
    self._signal(signal.SIGABRT, ctypes.cast(self._handler, ctypes.c_void_p))

  def _relay(self) -> None:
    while True:
      select.select([self._pipe], [], [])
      self._drain()

  def _drain(self) -> None:
    """Passes on all whole lines but noise."""
    with self._lock, contextlib.suppress(BlockingIOError):
      while text := os.read(self._pipe, 1 << 16):
        self._seen = (self._seen + text)[-(1 << 16) :]
        *lines, self._rest = (self._rest + text).split(b"\n")
        for line in lines:
          if not _NOISE.search(line):
            os.write(self._out, line + b"\n")

  def _aborted(self, number: int) -> None:
    """In the thread that called abort(), in C."""
    self._drain()
    if _OF_OTHERS.search(self._seen):
      threading.Event().wait(_GRACE)
      self._leave()
    os.write(self._out, self._seen)
    self._signal(number, None)
    os.kill(os.getpid(), number)
