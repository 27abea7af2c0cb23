"""Two processes with two devices each do what one with four does."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import jax
import pytest

ROOT = pathlib.Path(__file__).parent.parent

CONFIG = """
import jax
jax.config.update("jax_num_cpu_devices", {devices})
from tests.conftest import make_tiny_config
jax.config.update("jax_num_cpu_devices", {devices})

def get_config(arg=""):
  config = make_tiny_config({blobs!r})
  config.backend = {backend!r}
  config.optimizer.name = "momentum"
  config.train.num_steps = {steps}
  config.train.num_pictures = 2
  config.data.update({data})
  return config
"""


def start(tmp_path, workdir, blobs, *, processes, backend, steps, data=None):
  """Starts the command line in every process."""
  config = tmp_path / f"config_{processes}_{backend}_{steps}.py"
  config.write_text(
    CONFIG.format(
      devices=4 // processes,
      blobs=str(blobs),
      backend=backend,
      steps=steps,
      data=data or {},
    )
  )
  with socket.socket() as probe:
    probe.bind(("localhost", 0))
    port = probe.getsockname()[1]
  running = []
  for index in range(processes):
    environment = dict(os.environ)
    environment["SEGSIAM_JAX_CACHE"] = jax.config.jax_compilation_cache_dir
    if processes > 1:
      environment |= {
        "JAX_COORDINATOR_ADDRESS": f"localhost:{port}",
        "JAX_NUM_PROCESSES": str(processes),
        "JAX_PROCESS_ID": str(index),
      }
    with (tmp_path / f"log_{processes}_{backend}_{index}").open("w") as log:
      running.append(
        subprocess.Popen(
          [
            *(sys.executable, "-m", "segsiam_jax.main"),
            *(f"--config={config}", f"--workdir={workdir}"),
          ],
          cwd=ROOT,
          env=environment,
          stderr=log,
        )
      )
  return running


def end(tmp_path, running):
  codes = [process.wait(timeout=300) for process in running]
  logs = [path.read_text() for path in sorted(tmp_path.glob("log_*"))]
  return codes, "\n".join(logs)


def metrics(workdir):
  lines = (workdir / "metrics.jsonl").read_text().splitlines()
  drop = ("time", "split", "images_per_second")
  return [
    {k: v for k, v in json.loads(line).items() if k not in drop}
    for line in lines
  ]


@pytest.mark.slow
@pytest.mark.parametrize(
  ("backend", "data"),
  [
    ("jit", {}),
    ("pmap", {}),
    # Files are scored at another size than a row's: resized, or by themselves.
    ("jit", {"fit": "resize", "image_size": (24, 24)}),
    ("jit", {"image_size": (24, 24)}),
    ("pmap", {"image_size": (24, 24)}),
  ],
)
def test_two_processes_do_what_one_does(blobs, tmp_path, backend, data):
  results = []
  for processes in (1, 2):
    workdir = tmp_path / f"run{processes}"
    running = start(
      tmp_path,
      workdir,
      blobs,
      processes=processes,
      backend=backend,
      steps=6,
      data=data,
    )
    codes, log = end(tmp_path, running)
    assert codes == [0] * processes, log
    results.append(metrics(workdir))
  one, two = results
  assert len(one) == len(two)
  for expected, line in zip(one, two, strict=True):
    assert line == pytest.approx(expected, rel=1e-4)


@pytest.mark.slow
def test_sigterm_to_one_process_stops_both(blobs, tmp_path):
  workdir = tmp_path / "run"
  running = start(
    tmp_path, workdir, blobs, processes=2, backend="jit", steps=100_000
  )
  deadline = time.time() + 240
  while not list(workdir.glob("checkpoints/*/commit_success.txt")):
    assert all(process.poll() is None for process in running), end(
      tmp_path, running
    )
    assert time.time() < deadline
    time.sleep(0.05)
  running[1].send_signal(signal.SIGTERM)
  codes, log = end(tmp_path, running)
  assert codes == [75, 75], log
