"""What there is to know of a GPU or TPU, in one command.

    python -m benchmarks.accelerator --results=accelerator.md

First every public function, every kind of model and both backends are compared
with the CPU. Then the models of benchmarks/models.py are timed in bfloat16 and
float32: train steps, images a second, model FLOPs utilisation, inference, peak
memory and the operations that take most of a step; and PyTorch on a GPU,
compiled, channels last and in bfloat16, where it is installed. Every row is a
process of its own, and is written as soon as it is known, so that a run cut
short leaves what it has. `--minutes` bounds all of it; what there was no time
for is named.

It needs what the library needs, and pytest for the cases of the functions.
"""

import argparse
import datetime
import os
import pathlib
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

from benchmarks import models
from benchmarks.model_rows import ROWS
from segsiam_jax import process

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
    file.write_text("")

  def add(self, line: str) -> None:
    print(line, flush=True)
    with self._file.open("a") as file:
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
    with subprocess.Popen(
      [sys.executable, *arguments],
      stdout=subprocess.PIPE,
      stderr=None if sys.flags.dev_mode else subprocess.DEVNULL,
      text=True,
      env=os.environ | _ENVIRONMENT,
    ) as child:
      timer = threading.Timer(left, child.kill)
      timer.start()
      for line in child.stdout:
        self.add(line.rstrip())
      code = child.wait()
      timer.cancel()
    if code:
      self.add(f"| {name} | exit code {code} |")
    return code == 0


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
  options = [f"--seconds={args.seconds}", f"--batch-factor={factor}"]
  if args.tiny:
    options.append("--tiny")
  same = report.run(
    "checks",
    ["-m", "benchmarks.accelerator_checks", f"--only={args.checks}"],
    share=0.45,
  )
  report.add("\n" + HEADER)
  ran = []
  for name in args.only.split(","):
    for dtype in ("bfloat16", "float32"):
      row = [name, f"--dtype={dtype}", *options]
      ran.append(
        report.run(
          f"{name}, {dtype}", ["-m", "benchmarks.accelerator_row", *row]
        )
      )
    if models.has_peers():
      peer = [name, f"--batch-factor={factor}", "--device=cuda"]
      report.run(f"{name}, torch", ["-m", "benchmarks.models_peers", *peer])
  sys.exit(not (same and all(ran)))


if __name__ == "__main__":
  main()
