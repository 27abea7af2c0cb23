"""Evaluation: in the training loop, and of a checkpoint by itself."""

import logging
from collections.abc import Callable
from typing import NamedTuple

import jax
import ml_collections
import numpy as np
from jax.sharding import Mesh

from segsiam_jax import inputs, parts
from segsiam_jax.config import of_workdir
from segsiam_jax.data import sources
from segsiam_jax.engine import checkpoint, meshes, runs, steps
from segsiam_jax.engine.state import TrainState
from segsiam_jax.errors import UserError, nearest
from segsiam_jax.fields import tasks
from segsiam_jax.files import paths
from segsiam_jax.inputs import plan
from segsiam_jax.metrics.base import Mean, compute_all, merge_all, widen
from segsiam_jax.report import bars, overlays, writers
from segsiam_jax.tasks.base import HostMetrics, Task

_logger = logging.getLogger(__name__)

# Device counts are int32: they are fetched before they can reach 2^31.
_MOST_ELEMENTS = 2**30


class Evaluator:
  """Evaluates a task on a split; compiles once, however often it is called.

  Scores are those of what prediction writes for the split's files. Losses are
  those of the rows that the model is given, as in training.
  """

  def __init__(
    self,
    config: ml_collections.ConfigDict,
    task: Task,
    data: inputs.Inputs,
    *,
    mesh: Mesh,
    thorough: bool = False,
  ):
    """Prepares the step.

    Args:
      config: of the run. The rows of the first `train.num_pictures` examples
        are drawn; 0 for no plots, either.
      task: of the config.
      data: its batches hold every example once, padded; the same number of
        them on every process.
      mesh: the devices.
      thorough: whether plots may take their time.
    """
    self._task, self._data = task, data
    self._mesh, self._backend = mesh, config.backend
    self._num_pictures, self._thorough = config.train.num_pictures, thorough
    self._best = (config.train.best_metric, config.train.best_mode)
    self._host_metrics = _host_metrics(config, task, data.source)
    self._eval_step = steps.make_eval_step(
      task, mesh=mesh, backend=config.backend
    )

  def names(self) -> dict[str, str]:
    """Of the metrics, which values are better: 'max', 'min' or '' (neither).

    Sums that are means are losses.
    """
    names = {}
    for name, empty in widen(self._task.empty_metrics()).items():
      better = "min" if isinstance(empty, Mean) else "max"
      names |= dict.fromkeys(compute_all({name: empty}), better)
    if self._host_metrics is not None:
      names |= self._host_metrics(None).names()
    return names

  def check_best_metric(self) -> None:
    """Raises `UserError` unless `train.best_metric` is known, and its mode."""
    name, mode = self._best
    if not name:
      return
    names = self.names()
    if names.get(name) == mode:
      return
    if name not in names:
      close = nearest(name, names, cutoff=0.4)
      hint = f"did you mean {close!r}? " if close else ""
      known = ", ".join(each for each in names if each.count("/") < 2)
      raise UserError(
        f"config.train.best_metric = {name!r}: the evaluation has no such "
        f"metric; {hint}it has {known}"
      )
    if not names[name]:
      raise UserError(
        f"config.train.best_metric = {name!r}: neither large nor small values "
        "of it are better; choose another metric"
      )
    size = "small" if names[name] == "min" else "large"
    raise UserError(
      f"config.train.best_mode = {mode!r}: {name} is better when it is {size}; "
      f"set --config.train.best_mode={names[name]}"
    )

  @property
  def batches(self) -> int:
    """Of the split, on each process."""
    rows = next(iter(self._data.element_spec.values())).shape[0]
    return -(-len(self._data.source) // rows)

  def __call__(
    self,
    state: TrainState,
    should_stop: Callable[[], bool] = lambda: False,
    advance: Callable[[], None] = lambda: None,
  ) -> "Evaluation | None":
    """Metrics over the whole split, or None if it was told to stop.

    Args:
      state: to evaluate.
      should_stop: asked after every batch, on every process.
      advance: called after every batch.

    Raises:
      UserError: the loss is NaN, so that scores would say nothing.
    """
    empty = jax.device_get(self._task.empty_metrics())
    total, so_far, unfetched = widen(empty), None, 0
    pictures: list[np.ndarray] = []
    host = None
    if self._host_metrics is not None:
      host = self._host_metrics(state)
    iterator = iter(self._data.batches)
    try:
      for batch in iterator:
        placed = meshes.to_global(batch, self._mesh, self._backend)
        elements = max(leaf.size for leaf in placed.values())
        if unfetched and unfetched + elements > _MOST_ELEMENTS:
          total, so_far, unfetched = merge_all(total, widen(so_far)), None, 0
        if so_far is None:
          so_far = jax.device_put(empty, meshes.replicated(self._mesh))
        so_far, found = self._eval_step(state, placed, so_far)
        unfetched += elements
        draws = len(pictures) < self._num_pictures
        predictions: dict[str, np.ndarray] = {}
        if draws or (host is not None and host.wants(batch)):
          predictions = meshes.to_local(found, self._backend)
        if host is not None:
          host.add(batch, predictions)
        if draws:
          pictures += self._task.draw(batch, predictions)
        advance()
        if should_stop():
          return None
    finally:
      iterator.close()
    if so_far is not None:
      total = merge_all(total, widen(so_far))
    if "loss" in total and np.isnan(total["loss"].total):
      raise UserError(
        "the evaluation loss is NaN, because the weights are NaN or overflow; "
        "use an earlier checkpoint"
      )
    plots = {}
    if host is not None:
      host = host.gather()
      own = host.sums()
      total |= merge_all(own, {name: total[name] for name in own})
      metrics = compute_all(total)
      metrics |= host.compute()
      draws = self._task.plots is not None and self._num_pictures
      if draws and jax.process_index() == 0:
        plots = self._task.plots(host, self._data.source, self._thorough)
    else:
      metrics = compute_all(total)
    shown = pictures[: self._num_pictures]
    return Evaluation(metrics, shown, plots, host, self._task.caption)


def _host_metrics(
  config: ml_collections.ConfigDict, task: Task, source: sources.Source
) -> Callable[[TrainState | None], HostMetrics] | None:
  """Starts what a split is scored by on the host, for a state.

  Of no state it makes metrics that know their names alone.
  """
  reference = tasks.find(config.task).host_metrics
  if reference:
    return parts.load(reference)(config, source)
  if task.host_metrics is None:
    return None

  def start(state: TrainState | None) -> HostMetrics:
    return task.host_metrics(source, state and state.eval_params)

  return start


class Evaluation(NamedTuple):
  """What an evaluation found.

  Attributes:
    metrics: by name.
    pictures: of examples, of one size.
    plots: of the whole split, by name.
    host: host metrics of all processes, or None.
    caption: see `Task.caption`.
  """

  metrics: dict[str, float]
  pictures: list[np.ndarray]
  plots: dict[str, np.ndarray]
  host: HostMetrics | None = None
  caption: tuple[str, tuple[str, ...]] = ("", ())

  def show(self, writer: writers.Writer, step: int) -> None:
    """Writes pictures and plots."""
    if self.pictures:
      picture = overlays.grid(self.pictures, columns=2)
      caption, names = self.caption
      if caption:
        picture = overlays.legend(picture, names, caption)
      writer.image(step, "eval", picture)
    for name, plot in self.plots.items():
      writer.image(step, f"eval_{name}", plot)


def evaluate(
  config: ml_collections.ConfigDict, workdir: str, which: str = "best"
) -> dict[str, float]:
  """Evaluates a checkpoint of a workdir on `config.data.eval_split`.

  Args:
    config: of the run.
    workdir: of the run; a line is added to its metrics.jsonl, and pictures to
      its images/. Objects that are found go to its detections.json.
    which: 'best', 'latest' or a step.

  Returns:
    The metrics by name.
  """
  mesh = meshes.of_config(config)
  meshes.check_batch_size(
    "train.eval_batch_size", config.train.eval_batch_size, mesh
  )
  best = (config.train.best_metric, config.train.best_mode)
  folder = checkpoint.find(workdir, which, *best)
  paths.make_writable("--workdir", workdir, jax.process_index())
  config = plan.planned(config, workdir)
  data = inputs.open_inputs(config, train=False)
  trained = of_workdir.read(workdir)
  learned = trained.data.get("class_names", ()) if trained else ()
  config = inputs.of_evaluation(config, data.source, learned)
  task = runs.make_task(config, data.element_spec)
  if not paths.resolve(folder).exists():
    # Replaced in the meantime, by the run that trains there.
    folder = checkpoint.find(workdir, which, *best)
  state = runs.weights_only(task, folder, mesh)
  evaluator = Evaluator(config, task, data, mesh=mesh, thorough=True)
  with bars.bar("evaluate", evaluator.batches) as advance:
    result = evaluator(state, advance=advance)
  step = checkpoint.step_of(folder)
  writer = writers.Writer(workdir, total_steps=step, start_step=step)
  split = f"eval:{config.data.eval_split}"
  writer.scalars(step, split, result.metrics)
  result.show(writer, step)
  if result.host is not None and jax.process_index() == 0:
    result.host.write(workdir)
  _logger.info("%s, %s\n%s", folder, split, writers.table(result.metrics))
  writer.close()
  return result.metrics
