"""When evaluations no longer get better."""

import math
from collections.abc import Iterable, Mapping
from typing import Any


class Patience:
  """Counts evaluations since the best one.

  Attributes:
    last: of them without a better one, after which a run ends; 0 for never.
  """

  def __init__(
    self,
    last: int,
    metric: str,
    mode: str,
    lines: Iterable[Mapping[str, Any]] = (),
  ):
    """Starts with the evaluations that a run has made so far.

    Args:
      last: see above.
      metric: what is compared.
      mode: 'max' or 'min', whichever is better.
      lines: of metrics.jsonl.
    """
    self.last, self._metric = last, metric
    self._sign = 1.0 if mode == "max" else -1.0
    self._best, self._best_step, self._since = -math.inf, 0, 0
    for line in lines:
      if line.get("split") == "eval":
        self.add(line["step"], line)

  def add(self, step: int, metrics: Mapping[str, Any]) -> None:
    """Takes an evaluation; one without the metric, or NaN, is no better."""
    value = metrics.get(self._metric)
    score = -math.inf if value is None else self._sign * value
    if score > self._best:
      self._best, self._best_step, self._since = score, step, 0
    else:
      self._since += 1

  @property
  def ended(self) -> str:
    """Why the run ends, or ''.

    >>> scores = [{"split": "eval", "step": n, "iou": 1 / n} for n in (1, 2, 3)]
    >>> Patience(2, "iou", "max", scores).ended
    'no better iou in 2 evaluations since step 1'
    >>> Patience(3, "iou", "max", scores).ended
    ''
    """
    if not self.last or self._since < self.last:
      return ""
    return (
      f"no better {self._metric} in {self._since} evaluations since step "
      f"{self._best_step}"
    )
