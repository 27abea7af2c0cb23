"""One writer a workdir: who trains there, and a refusal of the next.

Two files: `train.lock` is locked by the operating system, which lets go when
the process ends, however it ends. `train.lock.json` says whose lock it is, and
beats every few seconds. The beat decides where the operating system cannot
tell: in buckets, and on shared file systems that lock on one machine alone.
"""

import contextlib
import datetime
import errno
import json
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

from etils import epath

from segsiam_jax.errors import UserError
from segsiam_jax.files import paths

_logger = logging.getLogger(__name__)

LOCK_FILE = "train.lock"
OWNER_FILE = "train.lock.json"

# Seconds between beats, and how long a file without a beat is watched.
_BEAT, _WATCH = 5.0, 20.0


@contextlib.contextmanager
def hold(workdir: str | os.PathLike) -> Iterator[None]:
  """Keeps other runs from training in a workdir.

  A run that was killed leaves its files, which are taken over: at once on the
  same machine, else after seconds in which nothing beats.

  Args:
    workdir: exists and can be written to.

  Raises:
    UserError: another run trains there.
  """
  folder = paths.resolve(workdir)
  owner = folder / OWNER_FILE
  with contextlib.ExitStack() as stack:
    alone = False
    if paths.is_local(folder):
      alone = stack.enter_context(_locked(folder / LOCK_FILE, owner))
    previous = _read(owner)
    same_host = (previous or {}).get("host") == socket.gethostname()
    if previous is not None and not (alone and same_host):
      _watch(owner, previous)
    stack.enter_context(_beating(owner))
    yield


@contextlib.contextmanager
def _locked(path: epath.Path, owner: epath.Path) -> Iterator[bool]:
  """Holds the system's lock of a file; False if the file system has none."""
  try:
    import fcntl
  except ImportError:  # Not on Windows.
    yield False
    return
  while True:
    # Not inherited: a reading process that outlives the run does not hold it.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
      fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
      os.close(descriptor)
      if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
        raise _refusal(owner, _read(owner) or {}) from None
      yield False
      return
    # The one who had it may have removed the file in between.
    with contextlib.suppress(FileNotFoundError):
      if os.path.samestat(os.fstat(descriptor), os.stat(path)):
        break
    os.close(descriptor)
  try:
    yield True
  finally:
    with contextlib.suppress(OSError):
      os.unlink(path)
    os.close(descriptor)


@contextlib.contextmanager
def _beating(owner: epath.Path) -> Iterator[None]:
  """Says who we are, again and again, until the run ends."""
  content = {
    "host": socket.gethostname(),
    "pid": os.getpid(),
    "started": _started(),
    "beat": 0,
  }
  paths.write_text(owner, json.dumps(content) + "\n")
  ended = threading.Event()

  def beat() -> None:
    while not ended.wait(_BEAT):
      content["beat"] += 1
      # A full disk or a network that is away ends no run.
      with contextlib.suppress(OSError):
        paths.write_text(owner, json.dumps(content) + "\n")

  thread = threading.Thread(target=beat, name="lock", daemon=True)
  thread.start()
  try:
    yield
  finally:
    ended.set()
    thread.join()
    with contextlib.suppress(OSError):
      owner.unlink()


def _watch(owner: epath.Path, before: dict[str, Any]) -> None:
  """Raises `UserError` if the owner's file beats."""
  _logger.info(
    "%s: belongs to process %s on %s, which may have ended; watching it for "
    "%.0f s",
    owner,
    before.get("pid", "?"),
    before.get("host", "an unknown host"),
    _WATCH,
  )
  end = time.monotonic() + _WATCH
  while time.monotonic() < end:
    time.sleep(min(1.0, _WATCH / 10))
    now = _read(owner)
    if now is None:  # It has ended.
      return
    if now != before:
      raise _refusal(owner, now)


def _refusal(owner: epath.Path, who: dict[str, Any]) -> UserError:
  return UserError(
    f"--workdir={owner.parent}: another run is training there (process "
    f"{who.get('pid', '?')} on {who.get('host', 'an unknown host')}, started "
    f"{who.get('started', 'at an unknown time')}); wait for it, stop it, or "
    "use another --workdir"
  )


def _read(owner: epath.Path) -> dict[str, Any] | None:
  """The owner's file; {} if it is no such file, None if there is none."""
  try:
    content = json.loads(owner.read_text())
  except FileNotFoundError:
    return None
  except (OSError, ValueError):
    return {}
  return content if isinstance(content, dict) else {}


def _started() -> str:
  """When this process started, as in 2024-05-01T12:00:00+00:00."""
  seconds = time.time()
  with contextlib.suppress(OSError, ValueError, IndexError):
    ticks = int(_stat().rpartition(")")[2].split()[19])
    with open("/proc/uptime") as file:
      uptime = float(file.read().split()[0])
    seconds -= uptime - ticks / os.sysconf("SC_CLK_TCK")
  moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
  return moment.isoformat(timespec="seconds")


def _stat() -> str:
  with open("/proc/self/stat") as file:
    return file.read()
