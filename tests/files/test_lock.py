"""One writer a workdir, whatever ends it."""

import errno
import fcntl
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from segsiam_jax.errors import UserError
from segsiam_jax.files import lock

ROOT = pathlib.Path(__file__).parents[2]

HOLDER = """
import sys, time
from segsiam_jax.files import lock
with lock.hold(sys.argv[1]):
  print("held", flush=True)
  time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path):
  """Another process that trains in the workdir."""
  process = subprocess.Popen(
    [sys.executable, "-c", HOLDER, str(tmp_path)],
    cwd=ROOT,
    stdout=subprocess.PIPE,
    text=True,
  )
  assert process.stdout.readline() == "held\n"
  yield process
  process.kill()
  process.communicate()


def owner_of(workdir, **changes):
  """Writes the file of an owner, as a run elsewhere would have it."""
  content = {"host": "elsewhere", "pid": 7, "started": "then", "beat": 0}
  (workdir / lock.OWNER_FILE).write_text(json.dumps(content | changes))


def test_a_second_run_is_refused_with_the_owner_s_name(holder, tmp_path):
  message = (
    rf"process {holder.pid} on {socket.gethostname()}, started 20\d\d-.*T"
  )
  with pytest.raises(UserError, match=message), lock.hold(tmp_path):
    pass
  assert holder.poll() is None


def test_the_lock_of_a_killed_run_is_taken_over_at_once(
  holder, tmp_path, monkeypatch
):
  monkeypatch.setattr(lock, "_watch", None)  # Nothing is waited for.
  holder.send_signal(signal.SIGKILL)
  holder.wait()
  assert (tmp_path / lock.OWNER_FILE).exists()
  with lock.hold(tmp_path):
    owner = json.loads((tmp_path / lock.OWNER_FILE).read_text())
    assert owner["pid"] == os.getpid()


def test_nothing_is_left_behind(tmp_path):
  for _ in range(2):
    with lock.hold(tmp_path):
      assert len(list(tmp_path.iterdir())) == 2
    assert not list(tmp_path.iterdir())
  with pytest.raises(KeyError), lock.hold(tmp_path):
    raise KeyError
  assert not list(tmp_path.iterdir())


def test_a_run_elsewhere_that_beats_is_refused(tmp_path, monkeypatch):
  """A shared file system may lock on one machine alone."""
  monkeypatch.setattr(lock, "_WATCH", 30.0)
  owner_of(tmp_path)
  beating = threading.Timer(0.2, owner_of, [tmp_path], {"beat": 1})
  beating.start()
  message = "process 7 on elsewhere, started then"
  with pytest.raises(UserError, match=message), lock.hold(tmp_path):
    pass
  beating.join()


def test_a_run_elsewhere_that_is_dead_is_taken_over(tmp_path, monkeypatch):
  monkeypatch.setattr(lock, "_WATCH", 0.3)
  owner_of(tmp_path)
  start = time.monotonic()
  with lock.hold(tmp_path):
    assert time.monotonic() - start >= 0.3


def test_without_the_system_s_lock_the_beat_decides(tmp_path, monkeypatch):
  def refuse(*_):
    raise OSError(errno.ENOTSUP, "not supported")

  monkeypatch.setattr(fcntl, "flock", refuse)
  monkeypatch.setattr(lock, "_BEAT", 0.1)
  monkeypatch.setattr(lock, "_WATCH", 2.0)
  refused = pytest.raises(UserError, match=f"process {os.getpid()} ")
  with lock.hold(tmp_path), refused, lock.hold(tmp_path):
    pass
  owner_of(tmp_path, host=socket.gethostname())
  monkeypatch.setattr(lock, "_WATCH", 0.2)
  with lock.hold(tmp_path):
    pass


def test_a_damaged_owner_s_file_stops_nobody(tmp_path, monkeypatch):
  monkeypatch.setattr(lock, "_WATCH", 0.1)
  for content in ("", "[]", "{", '{"host": 3}'):
    (tmp_path / lock.OWNER_FILE).write_text(content)
    with lock.hold(tmp_path):
      pass
