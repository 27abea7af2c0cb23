"""The devices and signals of a process, and the cache of compiled programs."""

import contextlib
import logging
import os
import pathlib
import signal
import sys
import threading
import time
from collections.abc import Iterator

import jax
from etils import epath
from jax.experimental import multihost_utils

from segsiam_jax import process
from segsiam_jax.errors import Preempted, UserError, first_line

_logger = logging.getLogger(__name__)

CACHE_VARIABLE = "SEGSIAM_JAX_CACHE"
# Seconds in which a signal that comes again counts once.
_ONE_SIGNAL = 0.3


def enable_compilation_cache() -> None:
  """Keeps compiled programs between runs, in the user's cache folder.

  The variable SEGSIAM_JAX_CACHE names another folder, or '' for none. A folder
  that was already given to JAX is kept.
  """
  if jax.config.jax_compilation_cache_dir:
    return
  default = pathlib.Path(
    os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")
  )
  folder = os.environ.get(CACHE_VARIABLE, str(default / "segsiam_jax" / "xla"))
  if folder:
    jax.config.update("jax_compilation_cache_dir", folder)


def all_devices(*, local: bool = False) -> list[jax.Device]:
  """The devices of all processes, or with `local` those of this one.

  Raises:
    UserError: there are none of the platform that JAX_PLATFORMS names.
  """
  try:
    return jax.local_devices() if local else jax.devices()
  except (RuntimeError, AssertionError) as error:
    named = os.environ.get("JAX_PLATFORMS", "")
    what = f"JAX_PLATFORMS={named}: " if named else ""
    # JAX finds a plugin without a device, and then asserts that there is one.
    why = first_line(error) if str(error) else "this machine has no such device"
    raise UserError(
      f"{what}no device to run on ({why}); unset JAX_PLATFORMS to take what is "
      "there, or install JAX for the device, such as 'jax[cuda12]'"
    ) from error


def traced(
  numbers: range, profile: tuple[int, int] | None, folder: epath.Path
) -> Iterator[int]:
  """The step numbers; those of `profile` are traced."""
  if profile is None:
    yield from numbers
    return
  first, last = profile
  running = False
  try:
    for step in numbers:
      if step == first:
        jax.profiler.start_trace(str(folder / "profile"))
        running = True
      with jax.profiler.StepTraceAnnotation("train", step_num=step):
        yield step
      if running and step == last:
        jax.profiler.stop_trace()
        running = False
  finally:
    if running:
      jax.profiler.stop_trace()


class Preemption:
  """Tells, at the boundaries that the loop asks at, whether to save and leave.

  One process listens for SIGTERM and SIGINT itself; a second signal ends it at
  once. Several processes agree through JAX's preemption service, so that all of
  them stop at the same boundary.

  Threads and processes that start in the meantime have both signals blocked:
  a signal to the whole process group leaves reading processes alone.
  """

  def __init__(self):
    self._told = False
    self._signal, self._when = 0, 0.0
    self._boundary = 0
    self._distributed = jax.distributed.is_initialized()
    # JAX's service has its own handler of SIGTERM.
    self._heard = {signal.SIGINT}
    if not self._distributed:
      self._heard.add(signal.SIGTERM)
    self._restore = contextlib.ExitStack()

  def __enter__(self) -> "Preemption":
    if threading.current_thread() is not threading.main_thread():
      return self
    both = {signal.SIGINT, signal.SIGTERM}
    # Handlers of Python wait for the main thread, which may be compiling. The
    # number of a signal is in the pipe at once, whichever thread gets it.
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    listener = threading.Thread(target=self._listen, args=[reader], daemon=True)
    listener.start()
    # It unblocks both signals when it starts.
    process.start_tracker()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, both)
    wakeup = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    previous = {
      number: signal.signal(number, lambda *unused: None)
      for number in self._heard
    }

    def restore() -> None:
      for number, handler in previous.items():
        signal.signal(number, handler)
      signal.set_wakeup_fd(wakeup)
      signal.pthread_sigmask(signal.SIG_SETMASK, mask)
      os.write(writer, b"\0")
      listener.join()
      os.close(reader)
      os.close(writer)

    self._restore.callback(restore)
    return self

  def __exit__(self, *unused) -> None:
    self._restore.close()

  def _listen(self, reader: int) -> None:
    """In a thread of its own, until a 0 comes."""
    while number := os.read(reader, 1)[0]:
      if number in self._heard:
        self._hear(number)

  def _hear(self, number: int) -> None:
    now = time.monotonic()
    if self._told:
      # `timeout` and some schedulers send the same signal twice.
      if number != self._signal or now - self._when > _ONE_SIGNAL:
        print("exiting at once", file=sys.stderr, flush=True)
        os._exit(128 + number)
      return
    self._told, self._signal, self._when = True, number, now
    if self._distributed:
      os.kill(os.getpid(), signal.SIGTERM)

  def stop(self, where: str) -> Preempted:
    """What to raise when all is saved; `where` is the last step."""
    interrupted = self._signal == signal.SIGINT
    return Preempted(where, 130 if interrupted else 75)

  def leave_early(self, where: str) -> None:
    """Raises `Preempted` if told before the first step; one process alone."""
    if self._told and not self._distributed:
      raise self.stop(where)

  def reached(self) -> bool:
    """Whether to stop here; every process must ask equally often."""
    if self._distributed:
      self._boundary += 1
      return multihost_utils.reached_preemption_sync_point(self._boundary)
    return self._told
