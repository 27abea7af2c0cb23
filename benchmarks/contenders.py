"""Contenders in processes of their own, timed in turns.

A contender runs in a fresh process, so that no library's threads, allocator or
settings disturb another's, and so that its start and its memory can be told.
It builds functions by name, and then runs the one that it is told to.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

# When the parent started this process, in seconds since the epoch.
_STARTED = "BENCHMARK_STARTED"


def serve(functions: Mapping[str, Callable[[], object]], **facts: Any) -> None:
  """Runs functions on demand until standard input ends.

  Args:
    functions: by name; each returns when its work is done.
    **facts: told to the parent.
  """
  _say(ready=time.time() - float(os.environ[_STARTED]), facts=facts)
  for line in sys.stdin:
    start = time.perf_counter()
    functions[line.strip()]()
    seconds = time.perf_counter() - start
    usage = resource.getrusage(resource.RUSAGE_SELF)
    _say(seconds=seconds, peak_mb=usage.ru_maxrss / 1024)


def _say(**message: Any) -> None:
  print(json.dumps(message), file=sys.__stdout__, flush=True)


class Contender:
  """The parent's side of a process that calls `serve`."""

  def __init__(
    self, arguments: Sequence[str], environment: Mapping[str, str | None] = {}
  ):
    """Starts the process, and waits until it is ready.

    Args:
      arguments: of Python, such as ('-m', 'benchmarks.models_ours').
      environment: variables to set, or to take out where the value is None.
    """
    variables = dict(os.environ)
    for name, value in environment.items():
      if value is None:
        variables.pop(name, None)
      else:
        variables[name] = value
    variables[_STARTED] = repr(time.time())
    self._process = subprocess.Popen(
      [sys.executable, *arguments],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      stderr=subprocess.DEVNULL if not sys.flags.dev_mode else None,
      text=True,
      env=variables,
    )
    first = self._hear()
    self.ready, self.facts = first["ready"], first["facts"]
    self.peak_mb = 0.0

  def run(self, function: str) -> float:
    """Seconds that one run of a function took."""
    self._process.stdin.write(function + "\n")
    self._process.stdin.flush()
    answer = self._hear()
    self.peak_mb = answer["peak_mb"]
    return answer["seconds"]

  def _hear(self) -> dict[str, Any]:
    # Libraries print, too; ours are the lines that are JSON.
    for line in self._process.stdout:
      if line.startswith("{"):
        return json.loads(line)
    code = self._process.wait()
    raise RuntimeError(f"{' '.join(self._process.args)}: exit code {code}")

  def close(self) -> None:
    self._process.stdin.close()
    self._process.wait()
    self._process.stdout.close()

  def __enter__(self) -> "Contender":
    return self

  def __exit__(self, *unused: object) -> None:
    self.close()


class Timing(NamedTuple):
  """Seconds of a contender's runs."""

  median: float
  lowest: float
  highest: float


# Seconds of a turn.
_TURN = 2.0


def in_turns(
  contenders: Mapping[str, Contender], function: str, repeats: int
) -> dict[str, Timing]:
  """Times one function of every contender, in turns.

  A turn is some runs in a row, as in training. The first does not count: in it
  a process takes back caches and memory that it lost while the others ran.
  """
  seconds: dict[str, list[float]] = {name: [] for name in contenders}
  for _ in range(repeats):
    for name, contender in contenders.items():
      contender.run(function)
      end = time.perf_counter() + _TURN
      seconds[name].append(contender.run(function))
      while time.perf_counter() < end:
        seconds[name].append(contender.run(function))
  return {
    name: Timing(statistics.median(all_), min(all_), max(all_))
    for name, all_ in seconds.items()
  }
