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

from tests.train_runs import OF_TIME

pytestmark = pytest.mark.multiprocess

ROOT = pathlib.Path(__file__).parents[2]

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
  config.mesh.update({mesh})
  return config
"""


def start(
  tmp_path,
  workdir,
  blobs,
  *,
  processes,
  backend,
  steps,
  data=None,
  mesh=None,
):
  """Starts the command line in every process."""
  config = tmp_path / f"config_{processes}_{backend}_{steps}.py"
  config.write_text(
    CONFIG.format(
      devices=4 // processes,
      blobs=str(blobs),
      backend=backend,
      steps=steps,
      data=data or {},
      mesh=mesh or {},
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
  drop = ("split", *OF_TIME)
  return [
    {k: v for k, v in json.loads(line).items() if k not in drop}
    for line in lines
  ]


@pytest.mark.slow
@pytest.mark.parametrize(
  ("backend", "data", "mesh"),
  [
    ("shard_map", {}, {}),
    # Files are scored at another size than a row's: resized, or by themselves.
    ("jit", {"fit": "resize", "image_size": (24, 24)}, {}),
    ("pmap", {"image_size": (24, 24)}, {}),
    # Parameters are split over both processes, or an image within each.
    ("jit", {"image_size": (24, 24)}, {"fsdp": 4}),
    ("jit", {}, {"space": 2}),
  ],
)
def test_two_processes_do_what_one_does(blobs, tmp_path, backend, data, mesh):
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
      mesh=mesh if processes > 1 else None,
    )
    codes, log = end(tmp_path, running)
    assert codes == [0] * processes, log
    results.append(metrics(workdir))
  one, two = results
  assert len(one) == len(two)
  for expected, line in zip(one, two, strict=True):
    assert line == pytest.approx(expected, rel=1e-4)
  if mesh:  # One process goes on from what two have saved.
    running = start(
      tmp_path, workdir, blobs, processes=1, backend="jit", steps=8, data=data
    )
    codes, log = end(tmp_path, running)
    assert codes == [0] and "resumed at step 6 of 8" in log, log


def running_pair(tmp_path, blobs, data=None, backend="jit"):
  """Two processes that have saved once, and their workdir."""
  workdir = tmp_path / "run"
  running = start(
    tmp_path,
    workdir,
    blobs,
    processes=2,
    backend=backend,
    steps=100_000,
    data=data,
  )
  deadline = time.time() + 240
  while not list(workdir.glob("checkpoints/*/commit_success.txt")):
    assert all(process.poll() is None for process in running), end(
      tmp_path, running
    )
    assert time.time() < deadline
    time.sleep(0.05)
  return running, workdir


def logs_of(tmp_path):
  return [path.read_text() for path in sorted(tmp_path.glob("log_*"))]


@pytest.mark.slow
@pytest.mark.parametrize(
  ("number", "to", "codes", "data"),
  [
    (signal.SIGTERM, [1], [75, 75], {}),
    (signal.SIGTERM, [0], [75, 75], {}),
    (signal.SIGINT, [1], [75, 130], {}),
    (signal.SIGTERM, [0, 1], [75, 75], {"workers": 1}),
    (signal.SIGINT, [0, 1], [130, 130], {}),
  ],
)
def test_signals_stop_all_at_one_step(blobs, tmp_path, number, to, codes, data):
  running, workdir = running_pair(tmp_path, blobs, data)
  for index in to:
    running[index].send_signal(number)
  ended, log = end(tmp_path, running)
  assert ended == codes, log
  assert "Traceback" not in log
  last = [text.strip().splitlines()[-1] for text in logs_of(tmp_path)]
  steps = {line.split("saved at step ")[1].split(";")[0] for line in last}
  assert len(steps) == 1, last
  saved = [path.parent.name for path in workdir.glob("checkpoints/*/metrics*")]
  saved += [path.name for path in (workdir / "checkpoints").iterdir()]
  assert steps.pop() in saved


@pytest.mark.slow
@pytest.mark.parametrize(
  ("dies", "number", "data"),
  [
    (0, signal.SIGKILL, {}),
    (1, signal.SIGKILL, {}),
    (0, signal.SIGKILL, {"workers": 1}),
    # Silent, as where a machine has lost its network.
    (1, signal.SIGSTOP, {}),
  ],
)
def test_the_others_end_when_a_process_dies(
  blobs, tmp_path, dies, number, data
):
  """Within a minute, with one line."""
  running, _ = running_pair(tmp_path, blobs, data)
  running[dies].send_signal(number)
  try:
    assert running[1 - dies].wait(timeout=60) == 1, logs_of(tmp_path)
  finally:
    for process in running:
      process.kill()
      process.wait()
  log = logs_of(tmp_path)[1 - dies]
  after = [
    line
    for line in log.splitlines()
    if "step" not in line and "first" not in line
  ]
  last = log.strip().splitlines()[-1]
  assert last.startswith("error: another process of this run has ended"), log
  assert "Traceback" not in log
  assert "Check failure" not in log
  assert len(after) < 20, log


@pytest.mark.slow
def test_a_process_with_an_error_of_its_own_ends_the_others(blobs, tmp_path):
  """It tells its error and leaves at once; the others end as above."""
  running, workdir = running_pair(tmp_path, blobs, {"workers": 1})
  # Its reading process dies: the error is of this process alone.
  children = subprocess.run(
    ["pgrep", "-P", str(running[1].pid), "-f", "spawn_main"],
    capture_output=True,
    text=True,
    check=True,
  ).stdout.split()
  for child in children:
    os.kill(int(child), signal.SIGKILL)
  codes = [process.wait(timeout=90) for process in running]
  logs = logs_of(tmp_path)
  assert codes == [1, 2], logs
  assert "a reading process was killed (SIGKILL)" in logs[1]
  assert "Traceback" not in "".join(logs)
  assert list(workdir.glob("checkpoints/*/commit_success.txt"))
