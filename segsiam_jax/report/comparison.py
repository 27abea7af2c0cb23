"""Results of several runs as CSV, as a Markdown table and as a plot."""

import csv
import io
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from segsiam_jax.errors import UserError
from segsiam_jax.metrics import t_interval
from segsiam_jax.report import plots


class Result(NamedTuple):
  """What a run came to; `metrics` are those of the last step."""

  label: str
  fraction: float
  seed: int
  examples: int
  parameters: int
  seconds: float
  metrics: dict[str, float]


def to_csv(results: Sequence[Result]) -> str:
  """A header, and a line a run with every metric that any run has."""
  metrics = list(dict.fromkeys(name for r in results for name in r.metrics))
  columns = Result._fields[:-1]
  text = io.StringIO()
  table = csv.writer(text, lineterminator="\n")
  table.writerow([*columns, *metrics])
  for result in results:
    table.writerow(
      [getattr(result, column) for column in columns]
      + [result.metrics.get(name, "") for name in metrics]
    )
  return text.getvalue()


class Cell(NamedTuple):
  """A metric over the seeds: its mean and Student's 95 % interval."""

  mean: float
  low: float
  high: float
  count: int


def cells(
  results: Sequence[Result], metric: str
) -> dict[tuple[str, float], Cell]:
  """By label and fraction; seeds whose metric is not finite are left out."""
  groups: dict[tuple[str, float], list[float]] = {}
  for result in results:
    value = result.metrics.get(metric, math.nan)
    group = groups.setdefault((result.label, result.fraction), [])
    if math.isfinite(value):
      group.append(value)
  return {key: _cell(values) for key, values in groups.items()}


def _cell(values: Sequence[float]) -> Cell:
  if not values:
    return Cell(math.nan, math.nan, math.nan, 0)
  mean = float(np.mean(values))
  std = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
  return Cell(mean, *t_interval(mean, std, len(values)), len(values))


def to_markdown(results: Sequence[Result], metric: str) -> str:
  """A table of one metric: a row a config, a column a training set size.

  A column's head has the numbers of training examples, in the order of the
  configs; one where all have the same.
  """
  table = cells(results, metric)
  labels = list(dict.fromkeys(result.label for result in results))
  # Configs of several data sets have several numbers.
  sizes: dict[float, dict[int, None]] = {}
  for result in sorted(results, key=lambda result: result.fraction):
    sizes.setdefault(result.fraction, {})[result.examples] = None
  head = [
    f"{fraction:.4g} ({', '.join(map(str, counts))})"
    for fraction, counts in sizes.items()
  ]
  lines = [
    f"### {metric}",
    "",
    "| | " + " | ".join(head) + " |",
    "|---" * (1 + len(head)) + "|",
  ]
  for label in labels:
    row = [_written(table.get((label, fraction))) for fraction in sizes]
    lines.append(f"| {label} | " + " | ".join(row) + " |")
  most = max((cell.count for cell in table.values()), default=0)
  lines += [
    "",
    f"Mean over {most} seeds, with Student's 95 % interval; columns are the "
    "fraction (and number) of training examples.",
    "",
  ]
  return "\n".join(lines)


def _written(cell: Cell | None) -> str:
  if cell is None or not cell.count:
    return "-"
  if not math.isfinite(cell.low):
    return f"{cell.mean:.3f}"
  return f"{cell.mean:.3f} ± {cell.high - cell.mean:.3f}"


def to_plot(results: Sequence[Result], metric: str) -> np.ndarray:
  """A line a config over the number of training examples, with its interval.

  Returns:
    (height, width, 3) uint8.
  """
  table = cells(results, metric)
  sizes = {(r.label, r.fraction): r.examples for r in results}
  lines = []
  for label in dict.fromkeys(result.label for result in results):
    points = sorted(
      (sizes[name, fraction], cell)
      for (name, fraction), cell in table.items()
      if name == label and cell.count
    )
    if points:
      x, found = zip(*points, strict=True)
      bands = all(math.isfinite(cell.low) for cell in found)
      lines.append(
        plots.Line(
          x,
          [cell.mean for cell in found],
          label,
          low=[cell.low for cell in found] if bands else None,
          high=[cell.high for cell in found] if bands else None,
        )
      )
  if not lines:
    raise UserError(
      f"--metrics={metric}: no run has it; they have "
      f"{', '.join(results[0].metrics)}"
    )
  return plots.line_plot(
    lines,
    x_label="training examples",
    y_label=metric,
    log_x=len(set(sizes.values())) > 1,
    size=(480, 720),
  )


def slug(text: str) -> str:
  """The text as part of a file name."""
  return "".join(c if c.isalnum() else "_" for c in text).strip("_").lower()
