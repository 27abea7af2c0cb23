"""What there is to know of a GPU or TPU, in one command.

    python -m benchmarks.accelerator --results=accelerator.md

First every public function, every kind of model and both backends are compared
with the CPU, by several processes at once. Then the models of
benchmarks/models.py are timed in bfloat16: train steps, images a second, model
FLOPs utilisation, inference, peak memory and the operations that take most of a
step; and PyTorch on a GPU, compiled, channels last and in bfloat16, where it is
installed. Last come the same models in float32. Every row is a process of its
own. They compile together and are timed one by one, and a row is written as
soon as it is known, so that a run cut short leaves what it has. `--minutes`
bounds all of it; what there was no time for is named.

It needs what the library needs, and pytest for the cases of the functions.
"""

import argparse
import concurrent.futures
import datetime
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence

from benchmarks import models
from benchmarks.model_rows import ROWS
from segsiam_jax import process

CHECKS_HEADER = "| check | difference | at most | |\n|---|---|---|---|"
HEADER = (
  "| model | dtype | step, ms | images/s | TFLOP/s | of the peak "
  "| inference, images/s | peak, GiB | slowest operations |\n"
  "|---|---|---|---|---|---|---|---|---|"
)
# So that the peak is that of the program.
_ENVIRONMENT = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
_DESCRIBE = (
  "import jax, jaxlib; d = jax.devices(); "
  "print(f'{len(d)} x {d[0].device_kind} ({d[0].platform}), '"
  "f'jax {jax.__version__}, jaxlib {jaxlib.__version__}')"
)


class Report:
  """Lines that go to a file and to the terminal at once.

  Attributes:
    deadline: of the programs that it runs, in seconds of `time.monotonic`.
  """

  def __init__(self, file: pathlib.Path, deadline: float):
    self._file, self.deadline = file, deadline
    self._lock = threading.Lock()
    file.write_text("")

  def add(self, line: str) -> None:
    with self._lock, self._file.open("a") as file:
      print(line, flush=True)
      file.write(line + "\n")

  def run(
    self, name: str, arguments: Sequence[str], share: float = 1.0
  ) -> bool:
    """Adds a program's lines as they come; whether it ended well.

    Args:
      name: what the report calls it if it does not.
      arguments: of Python.
      share: of the time that is left.
    """
    left = share * (self.deadline - time.monotonic())
    if left <= 0:
      self.add(f"| {name} | no time left |")
      return False
    with (
      tempfile.TemporaryFile("w+") as errors,
      subprocess.Popen(
        [sys.executable, *arguments],
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
        env=os.environ | _ENVIRONMENT,
      ) as child,
    ):
      timer = threading.Timer(left, child.kill)
      timer.start()
      for line in child.stdout:
        self.add(line.rstrip())
      code = child.wait()
      timer.cancel()
      errors.seek(0)
      *_, last = ["", *errors.read().split("\n")[:-1]]
    if code:
      self.add(f"| {name} | exit code {code}: {last[:300]} |")
    return code == 0

  def check(self, only: str, processes: int, share: float) -> bool:
    """Adds the comparisons with the CPU; whether all are the same.

    Args:
      only: part of a check's name.
      processes: to spread them over; most of the time goes to compilation.
      share: of the time that is left.
    """
    self.add(CHECKS_HEADER)

    def part(index: int) -> bool:
      options = [f"--only={only}", f"--part={index}/{processes}"]
      command = ["-m", "benchmarks.accelerator_checks", *options]
      return self.run(f"checks {index}/{processes}", command, share)

    with concurrent.futures.ThreadPoolExecutor(processes) as pool:
      return all(list(pool.map(part, range(processes))))


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--results", default="accelerator.md")
  parser.add_argument("--minutes", type=float, default=8.0)
  parser.add_argument("--batch-factor", type=int, default=8)
  parser.add_argument("--seconds", type=float, default=2.0, help="of a timing")
  parser.add_argument("--tiny", action="store_true", help="shapes of a test")
  parser.add_argument("--only", default=",".join(ROWS), help="rows")
  parser.add_argument("--checks", default="", help="those whose names hold it")
  args = parser.parse_args()
  process.configure()
  report = Report(
    pathlib.Path(args.results), time.monotonic() + 60 * args.minutes
  )
  today = datetime.datetime.now(datetime.UTC).date()
  report.add(f"{today}, `{' '.join(['python -m', *sys.orig_argv[2:]])}`:\n")
  if not report.run("device", ["-c", _DESCRIBE]):
    sys.exit(1)
  report.add("")
  factor = 1 if args.tiny else args.batch_factor
  names = [name for name in args.only.split(",") if name]
  processes = min(8, len(os.sched_getaffinity(0)))
  good = [report.check(args.checks, processes, share=0.45)]
  report.add("\n" + HEADER)

  def rows(dtype: str, peers: bool) -> None:
    """Compiles rows together, and times them one by one."""
    with tempfile.TemporaryDirectory() as folder:
      patience = 0.5 * (report.deadline - time.monotonic())
      common = [f"--batch-factor={factor}", f"--together={folder}"]
      common.append(f"--patience={patience}")
      if args.tiny:
        common.append("--tiny")

      def ours(name: str) -> None:
        command = ["-m", "benchmarks.accelerator_row", name, *common]
        command += [f"--dtype={dtype}", f"--seconds={args.seconds}"]
        good.append(report.run(f"{name}, {dtype}", command))

      def torch(name: str) -> None:
        command = ["-m", "benchmarks.models_peers", name, *common]
        report.run(f"{name}, torch", [*command, "--device=cuda"])

      with concurrent.futures.ThreadPoolExecutor(processes) as pool:
        list(pool.map(ours, names))
        if peers:
          list(pool.map(torch, names))

  rows("bfloat16", models.has_peers())
  rows("float32", False)
  sys.exit(not all(good))


if __name__ == "__main__":
  main()
