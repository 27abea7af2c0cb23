"""Times pairs of equivalent functions in turns and prints a table."""

import os
import statistics
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple


class Case(NamedTuple):
  """Two equivalent functions; both return when they are done."""

  name: str
  peer: str
  ours: Callable[[], object]
  theirs: Callable[[], object]


def _num_cpus() -> int:
  """CPUs that this process may run on, if the system says so."""
  if hasattr(os, "sched_getaffinity"):
    return len(os.sched_getaffinity(0))
  return os.cpu_count()


def measure(
  case: Case, repeats: int, set_threads: Callable[[int], None]
) -> tuple[float, float]:
  """Median seconds of ours and theirs, run in turns after a warm-up.

  The peer gets the better of one thread and all: on few or busy cores
  PyTorch's threads can cost more than they bring.

  Args:
    case: what to run.
    repeats: counted runs of each.
    set_threads: sets the peer's number of threads (`torch.set_num_threads`).
  """
  settings = [None, *sorted({1, _num_cpus()})]
  times = {threads: [] for threads in settings}
  for repeat in range(repeats + 1):
    for threads in settings:
      function = case.ours if threads is None else case.theirs
      if threads is not None:
        set_threads(threads)
      start = time.perf_counter()
      function()
      if repeat:
        times[threads].append(time.perf_counter() - start)
  medians = {threads: statistics.median(times[threads]) for threads in settings}
  return medians.pop(None), min(medians.values())


def print_table(
  cases: Iterable[Case], repeats: int, set_threads: Callable[[int], None]
) -> None:
  """Measures each case and prints its row as soon as it is known."""
  print("| what | ours, ms | peer, ms | speed-up | peer |")
  print("|---|---|---|---|---|")
  for case in cases:
    ours, theirs = measure(case, repeats, set_threads)
    print(
      f"| {case.name} | {ours * 1e3:.1f} | {theirs * 1e3:.1f} "
      f"| {theirs / ours:.1f}x | {case.peer} |",
      flush=True,
    )
