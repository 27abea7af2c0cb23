"""Runs of training in processes of their own, and what they leave behind."""

import contextlib
import json
import os
import pathlib
import subprocess
import sys
import time

import jax
import numpy as np
import orbax.checkpoint as ocp

ROOT = pathlib.Path(__file__).parent.parent


def assert_equal(one, other):
  """Bit for bit, keys included."""
  one, other = (
    jax.device_get(
      jax.tree.map(
        lambda x: (
          jax.random.key_data(x)
          if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)
          else x
        ),
        state,
      )
    )
    for state in (one, other)
  )
  jax.tree.map(np.testing.assert_array_equal, one, other)


# What differs between two runs that do the same.
OF_TIME = ("time", "images_per_second", "seconds")


def read_metrics(workdir):
  lines = (workdir / "metrics.jsonl").read_text().splitlines()
  return [json.loads(line) for line in lines]


RUNNER = """
import functools, sys
from absl import app
from tests.conftest import make_tiny_config
from segsiam_jax import command_line, main
from segsiam_jax.config import override
from unittest import mock

config = make_tiny_config(sys.argv.pop(1))
config.train.num_steps = int(sys.argv.pop(1))
config.train.eval_every = config.train.num_steps
config.train.checkpoint_every = 3
while "=" in sys.argv[1] and not sys.argv[1].startswith("-"):
  override(config, sys.argv.pop(1))
with mock.patch.object(main, "_CONFIG", mock.Mock(value=config)):
  app.run(functools.partial(command_line.run, main._run))
"""


class Run:
  """A training process whose messages go to a file.

  It has its own process group. `settings` are fields of its config, such as
  'data.workers=1', and then flags.
  """

  def __init__(self, blobs, workdir, num_steps, *settings, log="log"):
    environment = os.environ | {
      "XLA_FLAGS": "--xla_force_host_platform_device_count=1",
      "JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir,
      "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.3",
    }
    self.workdir = workdir
    self._log = workdir.with_suffix(f".{log}")
    with self._log.open("w") as log:
      self.process = subprocess.Popen(
        [
          *(sys.executable, "-c", RUNNER, str(blobs), str(num_steps)),
          *settings,
          f"--workdir={workdir}",
        ],
        cwd=ROOT,
        env=environment,
        stderr=log,
        start_new_session=True,
      )

  @property
  def messages(self):
    return self._log.read_text()

  def last_step(self):
    folder = self.workdir / "checkpoints"
    steps = [int(path.name) for path in folder.glob("*") if path.name.isdigit()]
    return max(steps, default=0)

  def wait_for(self, condition, seconds=240):
    """Polls until `condition()`; fails if the process ends before."""
    deadline = time.time() + seconds
    while not condition():
      assert self.process.poll() is None, self.messages
      assert time.time() < deadline
      time.sleep(0.02)

  def end(self, number=None):
    """Sends a signal, if any, and returns the exit code."""
    if number is not None:
      self.process.send_signal(number)
    return self.process.wait()

  def send_to_group(self, number):
    """As a terminal or a scheduler does: reading processes get it, too."""
    os.killpg(self.process.pid, number)

  def is_gone(self):
    """Whether no process of the group is left."""
    try:
      os.killpg(self.process.pid, 0)
    except ProcessLookupError:
      return True
    return False


def restored(workdir, step):
  """The raw arrays of a checkpoint."""
  with contextlib.closing(ocp.PyTreeCheckpointer()) as reader:
    return reader.restore(workdir / f"checkpoints/{step}/state")


def fails(result, *words):
  code, stderr = result
  assert code == 2, stderr
  lines = [line for line in stderr.splitlines() if line.startswith("error: ")]
  assert len(lines) == 1, stderr
  assert "Traceback" not in stderr
  for word in words:
    assert word in lines[0]
