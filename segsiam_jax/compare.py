"""Several configs, parts of the training set and seeds: one table and plot.

  python -m segsiam_jax.compare --workdir=runs/compare --seeds=0,1,2 \
    --fractions=0.01,0.1,1 --configs=U-Net=configs/a.py,FCN=configs/b.py:arg

Every run trains in WORKDIR/runs and is evaluated at its last step: no step is
chosen by the data that it is scored on. Run again, it goes on where it was
stopped. WORKDIR gets results.csv (a line a run), results.md (means with
Student's 95 % intervals over the seeds) and a plot of every metric.
"""

import functools
import hashlib
import importlib.util
import itertools
import json
import logging
import math
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import ml_collections
from absl import app, flags
from PIL import Image

from segsiam_jax import command_line, inputs, process, train
from segsiam_jax.config import override, validate
from segsiam_jax.engine import distributed, runtime
from segsiam_jax.errors import UserError, first_line
from segsiam_jax.files import paths, strict_json
from segsiam_jax.report import comparison, metrics_log
from segsiam_jax.report.comparison import Result

_logger = logging.getLogger(__name__)

RESULT_FILE = "result.json"


class Run(NamedTuple):
  """One training.

  Attributes:
    label: of its config, in the table.
    fraction: of the training set.
    seed: of parameters, order, augmentation and the part of the set.
    config: valid.
  """

  label: str
  fraction: float
  seed: int
  config: ml_collections.ConfigDict


def plan(
  configs: Mapping[str, ml_collections.ConfigDict],
  fractions: Sequence[float],
  seeds: Sequence[int],
) -> list[Run]:
  """Every config with every fraction and seed, each of them checked."""
  planned = []
  for fraction, seed, label in itertools.product(fractions, seeds, configs):
    config = configs[label].copy_and_resolve_references()
    config.seed = seed
    if fraction != 1:
      if "train_fraction" not in config.data:
        raise UserError(
          f"--fractions={fraction}: {label} has no config.data.train_fraction"
        )
      config.data.train_fraction = fraction
    validate(config)
    planned.append(Run(label, fraction, seed, config))
  return planned


def compare(
  planned: Sequence[Run], workdir: str, metrics: Sequence[str] = ()
) -> list[Result]:
  """Trains what is planned, but for what has been trained in the workdir.

  Args:
    planned: see `plan`.
    workdir: takes a folder for each run in runs/, and the results so far
      after each.
    metrics: see `write`.

  Returns:
    A result a run.
  """
  runtime.all_devices()  # Without one, nothing is made.
  paths.make_writable("--workdir", workdir, jax.process_index())
  results: list[Result] = []
  for number, run in enumerate(planned, 1):
    name = f"{comparison.slug(run.label)}-{run.fraction:g}-{run.seed}"
    folder = paths.resolve(workdir) / "runs" / name
    _logger.info("run %d of %d: %s", number, len(planned), folder)
    results.append(_result(run, folder))
    write(results, workdir, metrics)
  return results


def _result(run: Run, folder) -> Result:
  file = folder / RESULT_FILE
  identity = hashlib.sha256(
    run.config.to_json_best_effort(sort_keys=True).encode()
  ).hexdigest()
  if file.exists():
    saved = json.loads(file.read_text())
    if saved.pop("config") != identity:
      raise UserError(
        f"{folder}: trained with another config; use another --workdir, or "
        "delete that folder"
      )
    return Result(**saved | {"metrics": _with_nan(saved["metrics"])})
  start = time.perf_counter()
  state = train.train_and_evaluate(run.config, str(folder))
  result = Result(
    label=run.label,
    fraction=run.fraction,
    seed=run.seed,
    examples=len(inputs.open_inputs(run.config, train=True).source),
    parameters=sum(leaf.size for leaf in jax.tree.leaves(state.params)),
    seconds=round(time.perf_counter() - start, 1),
    metrics=_last_metrics(folder, run.config.train.num_steps),
  )
  if jax.process_index() == 0:
    saved = result._asdict() | {"config": identity}
    paths.write_text(file, strict_json.dumps(saved, indent=2) + "\n")
  return result


def _last_metrics(folder, step: int) -> dict[str, float]:
  """Of the evaluation after the last step; what was not finite is NaN."""
  found = {}
  for line in metrics_log.read(folder):
    if line["step"] == step and line["split"] == "eval":
      found = line
  return {
    name: value
    for name, value in _with_nan(found).items()
    if name not in ("step", "split", "time")
  }


def _with_nan(metrics: Mapping[str, float | None]) -> dict[str, float]:
  """Metrics of a JSON, which has null for what is not finite."""
  return {
    name: math.nan if value is None else value
    for name, value in metrics.items()
  }


def write(
  results: Sequence[Result], workdir: str, metrics: Sequence[str] = ()
) -> None:
  """Writes the CSV, the tables and the plots; process 0 alone.

  Args:
    results: at least one.
    workdir: to write to.
    metrics: to tabulate and plot; the first of the first result if none.
  """
  if jax.process_index() != 0:
    return
  folder = paths.resolve(workdir)
  metrics = list(metrics) or list(results[0].metrics)[:1]
  paths.write_text(folder / "results.csv", comparison.to_csv(results))
  tables = [comparison.to_markdown(results, metric) for metric in metrics]
  paths.write_text(folder / "results.md", "\n".join(tables))
  for metric in metrics:
    name = f"{comparison.slug(metric)}.png"
    with (folder / name).open("wb") as file:
      Image.fromarray(comparison.to_plot(results, metric)).save(file, "PNG")


def load_config_file(spec: str) -> ml_collections.ConfigDict:
  """The config of 'FILE.py' or 'FILE.py:ARGUMENT'."""
  path, _, argument = spec.partition(":")
  module_spec = importlib.util.spec_from_file_location(
    "compared_config", os.path.expanduser(path)
  )
  if module_spec is None:
    raise UserError(f"--configs={spec}: {path} is not a Python file")
  module = importlib.util.module_from_spec(module_spec)
  try:
    module_spec.loader.exec_module(module)
    return module.get_config(*([argument] if argument else []))
  except (OSError, AttributeError, ValueError) as error:
    raise UserError(f"--configs={spec}: {first_line(error)}") from error


def define_flags() -> None:
  """Called by the command alone: other commands have a --workdir, too."""
  flags.DEFINE_list(
    "configs", [], "What to compare: FILE.py, FILE.py:ARG or LABEL=FILE.py:ARG."
  )
  flags.DEFINE_list(
    "fractions", ["1"], "Parts of the training set, such as 0.01,0.1,1."
  )
  flags.DEFINE_list("seeds", ["0", "1", "2"], "A run for each.")
  flags.DEFINE_string("workdir", None, "Folder of the runs and the results.")
  flags.DEFINE_multi_string(
    "set", [], "Field of every config, such as --set=train.num_steps=100."
  )
  flags.DEFINE_list(
    "metrics", [], "To tabulate and plot; the first of all if not given."
  )


def _numbers(name: str, texts: Sequence[str], kind: type) -> list[Any]:
  try:
    numbers = [kind(text) for text in texts]
  except ValueError:
    raise UserError(
      f"--{name}={','.join(texts)}: expected numbers separated by commas"
    ) from None
  if len(set(numbers)) != len(numbers) or not numbers:
    raise UserError(f"--{name}={','.join(texts)}: give each number once")
  return numbers


def _labelled(
  specs: Sequence[str], assignments: Sequence[str]
) -> dict[str, ml_collections.ConfigDict]:
  if not specs:
    raise UserError("--configs: name config files, such as configs/a.py,b.py")
  configs = {}
  for spec in specs:
    label, equals, file = spec.partition("=")
    if not equals:
      label, file = spec.rpartition("/")[2].replace(".py", ""), spec
    if label in configs:
      raise UserError(f"--configs: two are called {label!r}; use LABEL=FILE")
    config = load_config_file(file)
    for assignment in assignments:
      override(config, assignment)
    configs[label] = config
  return configs


def _run() -> None:
  values = flags.FLAGS
  if not values.workdir:
    raise UserError("--workdir: name a folder for the runs")
  fractions = _numbers("fractions", values.fractions, float)
  if not all(0 < fraction <= 1 for fraction in fractions):
    raise UserError(
      f"--fractions={','.join(values.fractions)}: expected 0 < fraction <= 1"
    )
  planned = plan(
    _labelled(values.configs, values.set),
    fractions,
    _numbers("seeds", values.seeds, int),
  )
  runtime.enable_compilation_cache()
  with distributed.joined():
    results = compare(planned, values.workdir, values.metrics)
  _logger.info("%d runs: %s", len(results), values.workdir)


if __name__ == "__main__":
  process.configure_and_restart()
  define_flags()
  app.run(
    functools.partial(command_line.run, _run),
    flags_parser=command_line.parse_flags,
  )
