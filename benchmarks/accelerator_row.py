"""One model on the default device: `python -m benchmarks.accelerator_row ROW`.

Prints one line of the table of benchmarks/accelerator.py, which starts it.
"""

import argparse
import collections
import pathlib
import re
import statistics
import tempfile
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp

from benchmarks import alone, model_rows
from benchmarks.models_ours import MODELS, Case
from segsiam_jax.engine import runtime

# Dense peak of a chip in TFLOP/s, by what its kind's name holds: bfloat16, and
# float32 as its matrix units compute it by default (TF32 on GPUs, bfloat16 on
# TPUs). From the vendors' data sheets.
PEAKS = {
  "H100 PCIe": (756.0, 378.0),
  "H100": (989.0, 494.0),
  "H200": (989.0, 494.0),
  "A100": (312.0, 156.0),
  "L4": (121.0, 60.0),
  "v6": (918.0, 918.0),
  "v5p": (459.0, 459.0),
  "v5": (197.0, 197.0),
  "v4": (275.0, 275.0),
}
# Lines of a device's trace that hold whole programs, not their operations.
_NOT_OPERATIONS = ("XLA Modules", "Steps", "Framework", "Source", "TraceMe")


def peak_flops(kind: str, dtype: str) -> float | None:
  """FLOP/s that a chip could do at most; None where that is not known."""
  for name, (half, single) in PEAKS.items():
    if name.lower() in kind.lower():
      return 1e12 * (half if dtype == "bfloat16" else single)
  return None


def seconds_of(run: Callable[[], object], at_least: float) -> float:
  """Median seconds of a run, of at least three."""
  taken, until = [], time.perf_counter() + at_least
  while len(taken) < 3 or time.perf_counter() < until:
    start = time.perf_counter()
    run()
    taken.append(time.perf_counter() - start)
  return statistics.median(taken)


def slowest(run: Callable[[], object], count: int = 3) -> list[str]:
  """The operations that take most of a run, with their share of all of them."""
  with tempfile.TemporaryDirectory() as folder:
    with jax.profiler.trace(folder):
      run()
    [file] = pathlib.Path(folder).rglob("*.xplane.pb")
    planes = list(jax.profiler.ProfileData.from_file(str(file)).planes)
    durations: collections.Counter[str] = collections.Counter()
    on_device = [p for p in planes if p.name.startswith("/device:")]
    for plane in on_device or planes:
      lines = list(plane.lines)
      chosen = [line for line in lines if line.name == "XLA Ops"]
      for line in chosen or lines:
        if not line.name.startswith(_NOT_OPERATIONS) and (
          on_device or line.name.startswith("tf_XLA")
        ):
          for event in line.events:
            if "::" in event.name:
              continue
            durations[event.name] += event.duration_ns
  total = sum(durations.values())
  return [
    f"{_short(name)} {spent / total:.0%}"
    for name, spent in durations.most_common(count)
  ]


def _short(operation: str) -> str:
  """A name for a cell of a table; those of kernels can be a page long."""
  name = re.sub(r"[|%` ].*", "", operation.lstrip("%"))
  return name if len(name) <= 40 else name[:37] + "..."


def flops_of(case: Case) -> float:
  """Of a step as it is written; the body of a loop counts once."""
  arguments = jax.eval_shape(lambda: (case.state(), *case.batch))
  # Only this backend counts them.
  with jax.default_device(jax.devices("cpu")[0]):
    return case.step.lower(*arguments).cost_analysis()["flops"]


def measure(
  row: model_rows.Row, dtype: str, seconds: float, turns: alone.Turns
) -> str:
  """The row's cells, from the dtype on."""
  case: Case = MODELS[row.model](row, jnp.dtype(dtype))
  state = [case.state()]

  def train():
    state[0], loss = case.step(state[0], *case.batch)
    return jax.block_until_ready(loss)

  def infer():
    return jax.block_until_ready(case.infer(case.variables, case.batch[0]))

  train()
  infer()
  flops = flops_of(case)
  with turns.timing():
    # A process that has waited takes back caches and memory.
    train()
    step = seconds_of(train, seconds)
    infer()
    inference = seconds_of(infer, seconds)
    operations = ", ".join(slowest(train))
  device = jax.devices()[0]
  peak = peak_flops(device.device_kind, dtype)
  memory = (device.memory_stats() or {}).get("peak_bytes_in_use")
  cells = [
    dtype,
    f"{step * 1e3:.1f}",
    f"{row.shape[0] / step:.0f}",
    f"{flops / step / 1e12:.2f}",
    f"{flops / step / peak:.1%}" if peak else "",
    f"{row.shape[0] / inference:.0f}",
    f"{memory / 2**30:.1f}" if memory else "",
    operations,
  ]
  return " | ".join(cells)


def main() -> None:
  parser = argparse.ArgumentParser()
  parser.add_argument("row", choices=model_rows.ROWS)
  parser.add_argument("--dtype", default="float32")
  parser.add_argument("--batch-factor", type=int, default=1)
  parser.add_argument("--tiny", action="store_true")
  parser.add_argument("--seconds", type=float, default=2.0)
  parser.add_argument("--together", default="", help="folder, see alone.py")
  parser.add_argument("--patience", type=float, default=0.0)
  args = parser.parse_args()
  turns = alone.Turns(args.together, args.patience)
  runtime.enable_compilation_cache()
  row = model_rows.find(args.row, args.tiny, args.batch_factor)
  cells = measure(row, args.dtype, args.seconds, turns)
  print(f"| {args.row}, {' x '.join(map(str, row.shape))} | {cells} |")


if __name__ == "__main__":
  main()
