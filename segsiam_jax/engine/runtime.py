"""Devices and processes: set-up, the mesh, and batches from host to device."""

import contextlib
import logging
import os
import pathlib
import signal
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from segsiam_jax import process
from segsiam_jax.errors import Preempted, UserError, first_line

_logger = logging.getLogger(__name__)

AXIS = "data"
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


def make_mesh(devices: list[jax.Device] | None = None) -> Mesh:
  """A mesh of all devices (or of `devices`) along the axis 'data'."""
  devices = all_devices() if devices is None else devices
  # Auto: the compiler places what is not said; Explicit is JAX's default.
  return jax.make_mesh(
    (len(devices),), (AXIS,), axis_types=(AxisType.Auto,), devices=devices
  )


def replicated(mesh: Mesh) -> NamedSharding:
  """The sharding of the state: every device holds all of it."""
  return NamedSharding(mesh, P())


def check_batch_size(
  field: str, batch_size: int, mesh: Mesh, grad_accum: int = 1
) -> None:
  """Raises `UserError` unless the devices share a batch evenly."""
  shares = mesh.size * grad_accum
  if batch_size % shares:
    nearest = max(1, round(batch_size / shares)) * shares
    among = f"{mesh.size} devices"
    if grad_accum > 1:
      among += f" x train.grad_accum {grad_accum}"
    raise UserError(
      f"config.{field} = {batch_size}: {among} do not divide it; "
      f"--config.{field}={nearest} would do"
    )


def to_global(
  batch: Mapping[str, np.ndarray], mesh: Mesh, backend: str
) -> dict[str, Any]:
  """This process's rows -> the batch that a compiled step takes.

  Args:
    batch: (b, ...) arrays, this process's share of the global batch.
    mesh: all devices.
    backend: 'pmap' for (local devices, b / local devices, ...) arrays; others
      for global arrays, sharded over the mesh.
  """
  if backend == "pmap":
    local = len(mesh.local_devices)
    return {
      name: np.reshape(rows, (local, -1, *rows.shape[1:]))
      for name, rows in batch.items()
    }
  sharding = NamedSharding(mesh, P(AXIS))
  return {
    name: jax.make_array_from_process_local_data(sharding, np.asarray(rows))
    for name, rows in batch.items()
  }


def to_local(rows: Any, backend: str) -> Any:
  """What `to_global` did, undone for outputs with one row a batch row.

  Returns:
    (b, ...) NumPy arrays: the rows of this process, in their order.
  """

  def fetch(array: jax.Array) -> np.ndarray:
    shards = sorted(
      array.addressable_shards, key=lambda shard: shard.index[0].start or 0
    )
    return np.concatenate([np.asarray(shard.data) for shard in shards])

  local = jax.tree.map(fetch, rows)
  if backend == "pmap":
    local = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), local)
  return local


def as_global(state: Any, mesh: Mesh) -> Any:
  """A replicated state as arrays of the whole mesh.

  With several processes, pmap returns arrays that know this process's devices
  alone; checkpoints need to know that all processes hold the same.
  """
  if jax.process_count() == 1:
    return state

  def convert(leaf: jax.Array) -> jax.Array:
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
      data = convert(jax.random.key_data(leaf))
      return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
    return jax.make_array_from_single_device_arrays(
      leaf.shape,
      replicated(mesh),
      [shard.data for shard in leaf.addressable_shards],
    )

  return jax.tree.map(convert, state)


def log_devices(mesh: Mesh) -> None:
  """One line on what the run will use."""
  device = mesh.devices.flat[0]
  _logger.info(
    "%d x %s (%s), process %d of %d, jax %s",
    mesh.size,
    device.device_kind,
    device.platform,
    jax.process_index(),
    jax.process_count(),
    jax.__version__,
  )


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
