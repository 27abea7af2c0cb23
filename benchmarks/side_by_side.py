"""Times two functions that do the same, in turns, and prints a table."""

import statistics
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple


class Case(NamedTuple):
  """Two functions that do the same; both return when they are done."""

  name: str
  peer: str
  ours: Callable[[], object]
  theirs: Callable[[], object]


def measure(case: Case, repeats: int) -> tuple[float, float]:
  """Median seconds of ours and theirs, run in turns after a warm-up."""
  times = ([], [])
  for repeat in range(repeats + 1):
    for function, seconds in zip((case.ours, case.theirs), times, strict=True):
      start = time.perf_counter()
      function()
      if repeat:
        seconds.append(time.perf_counter() - start)
  return tuple(statistics.median(seconds) for seconds in times)


def print_table(cases: Iterable[Case], repeats: int) -> None:
  """Measures each case and prints its row as soon as it is known."""
  print("| what | ours, ms | peer, ms | faster | peer |")
  print("|---|---|---|---|---|")
  for case in cases:
    ours, theirs = measure(case, repeats)
    print(
      f"| {case.name} | {ours * 1e3:.1f} | {theirs * 1e3:.1f} "
      f"| {theirs / ours:.1f}x | {case.peer} |",
      flush=True,
    )
