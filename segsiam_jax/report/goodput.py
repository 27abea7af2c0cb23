"""Where a run's wall time goes, over all of its restarts.

Goodput is the share that is spent in steps that count. The rest has causes: the
start of a process, compiling, waiting for input, evaluation, saving, and work
that was lost because a process ended before it was saved.
"""

import time
from collections.abc import Iterable, Mapping
from typing import Any

STEPS, LOST = "steps", "lost"
CAUSES = (STEPS, "start", "compile", "input", "evaluation", "save", LOST)
# Of a line of metrics.jsonl, the seconds so far by cause.
FIELD = "seconds"


class Goodput:
  """Adds up seconds by cause; one cause at a time."""

  def __init__(self):
    """Begins with the start of this process."""
    self._seconds = dict.fromkeys(CAUSES, 0.0)
    self._cause, self._since = "start", time.perf_counter()

  def resume(self, lines: Iterable[Mapping[str, Any]], step: int) -> None:
    """Adds the seconds of the processes before.

    Args:
      lines: of metrics.jsonl, as they have left it.
      step: that this one goes on from; what came later is lost.
    """
    kept, last = None, None
    for line in lines:
      if FIELD in line:
        last = line
        if line["step"] <= step:
          kept = line
    if kept is not None:
      for cause, seconds in kept[FIELD].items():
        self._seconds[cause] = self._seconds.get(cause, 0.0) + seconds
    if last is not None and last is not kept:
      before = sum(kept[FIELD].values()) if kept else 0.0
      self._seconds[LOST] += sum(last[FIELD].values()) - before

  def now(self, cause: str) -> None:
    """From here on, time goes to a cause."""
    passed = time.perf_counter()
    self._seconds[self._cause] += passed - self._since
    self._cause, self._since = cause, passed

  def seconds(self) -> dict[str, float]:
    """By cause, those that are not 0, to the millisecond."""
    self.now(self._cause)
    return {k: round(v, 3) for k, v in self._seconds.items() if v >= 5e-4}

  def summary(self) -> str:
    """A line for people.

    >>> Goodput().summary()
    'goodput 0 % of 0 s: start 0 %'
    """
    seconds = self.seconds()
    total = sum(seconds.values())
    shares = {k: 100 * v / max(total, 1e-9) for k, v in seconds.items()}
    good = shares.pop(STEPS, 0.0)
    rest = sorted(shares.items(), key=lambda item: -item[1])
    causes = ", ".join(f"{k} {v:.0f} %" for k, v in rest) or "start 0 %"
    return f"goodput {good:.0f} % of {total:,.0f} s: {causes}"
