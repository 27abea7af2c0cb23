"""Signals: the first one saves, the second one leaves at once."""

import os
import signal
import subprocess
import sys
import time

import pytest

from segsiam_jax.engine import runtime
from tests.train_runs import ROOT, Run, read_metrics


def wait_until(condition, seconds=60):
  deadline = time.monotonic() + seconds
  while not condition():
    assert time.monotonic() < deadline
    time.sleep(0.02)


@pytest.mark.parametrize(
  ("number", "exit_code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)]
)
def test_a_signal_is_noticed_and_has_its_code(number, exit_code):
  before = signal.getsignal(number)
  with runtime.Preemption() as preemption:
    assert not preemption.reached()
    preemption.leave_early("step 0")
    os.kill(os.getpid(), number)
    wait_until(preemption.reached)
    # The same signal once more at once, as `timeout` sends it, is one.
    os.kill(os.getpid(), number)
    assert preemption.stop("step 3").exit_code == exit_code
    with pytest.raises(runtime.Preempted, match="step 0"):
      preemption.leave_early("step 0")
    time.sleep(0.05)
  assert signal.getsignal(number) == before
  assert number not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


STUCK = """
import multiprocessing, subprocess, sys, time
from segsiam_jax.engine import runtime
with runtime.Preemption():
  # Starts a process of Python's own, which changes what is blocked.
  multiprocessing.get_context("spawn").Lock()
  child = [sys.executable, "-c", "import time; time.sleep(600)"]
  silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
  print(subprocess.Popen(child, **silent).pid, flush=True)
  time.sleep(600)
"""


@pytest.mark.parametrize(
  ("first", "second"),
  [
    (signal.SIGTERM, signal.SIGINT),
    (signal.SIGINT, signal.SIGINT),
    (signal.SIGINT, signal.SIGTERM),
  ],
)
def test_a_second_signal_leaves_at_once(first, second):
  """Whatever the main thread is busy with; children are born deaf to both."""
  process = subprocess.Popen(
    [sys.executable, "-c", STUCK],
    cwd=ROOT,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    start_new_session=True,
  )
  child = int(process.stdout.readline())
  os.killpg(process.pid, first)
  time.sleep(0.5)
  assert process.poll() is None
  os.killpg(process.pid, second)
  _, messages = process.communicate(timeout=30)
  assert process.returncode == 128 + second
  assert messages == "exiting at once\n"
  os.kill(child, 0)
  os.kill(child, signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.parametrize(
  ("number", "code", "told"),
  [(signal.SIGTERM, 75, "preempted"), (signal.SIGINT, 130, "interrupted")],
)
def test_signals_to_the_group_save_and_end_all(
  blobs, tmp_path, number, code, told
):
  run = Run(blobs, tmp_path / "run", 100_000, "data.workers=1")
  run.wait_for(lambda: run.last_step() >= 3)
  run.send_to_group(number)
  assert run.end() == code, run.messages
  assert f"{told}: saved at step {run.last_step()};" in run.messages
  assert "Traceback" not in run.messages
  wait_until(run.is_gone)


@pytest.mark.slow
def test_reading_processes_end_with_a_killed_run(blobs, tmp_path):
  run = Run(blobs, tmp_path / "run", 100_000, "data.workers=2")
  run.wait_for(lambda: run.last_step() >= 3)
  run.end(signal.SIGKILL)
  wait_until(run.is_gone)


@pytest.mark.slow
def test_reading_a_run_that_trains_does_not_disturb_it(blobs, tmp_path):
  """And a second run is refused; both leave the first one alone."""
  run = Run(blobs, tmp_path / "run", 100_000, "train.checkpoint_every=100")
  run.wait_for(lambda: run.last_step() >= 3)
  reader = Run(
    blobs,
    tmp_path / "run",
    100_000,
    "--mode=eval",
    "--checkpoint=latest",
    log="reader",
  )
  second = Run(blobs, tmp_path / "run", 100_000, log="second")
  assert reader.end() == 0, reader.messages
  assert second.end() == 2, second.messages
  assert "another run is training there (process " in second.messages
  assert "Traceback" not in second.messages
  step = run.last_step()
  run.wait_for(lambda: run.last_step() > step)
  assert run.end(signal.SIGTERM) == 75, run.messages
  splits = [line["split"] for line in read_metrics(tmp_path / "run")]
  assert splits.count("eval:test") == 1
