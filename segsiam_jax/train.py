"""The training loop, from top to bottom."""

import logging
import math
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jax
import ml_collections

from segsiam_jax import (
  checkpoint,
  finite,
  hard_negatives,
  inputs,
  paths,
  runs,
  runtime,
  steps,
  writers,
)
from segsiam_jax.errors import Preempted, UserError
from segsiam_jax.evaluate import Evaluator
from segsiam_jax.metrics.base import compute_all, merge_all, widen
from segsiam_jax.pretrained import load
from segsiam_jax.state import TrainState, create_state, make_optimizer
from segsiam_jax.tasks.base import Metrics

_logger = logging.getLogger(__name__)


def train_and_evaluate(
  config: ml_collections.ConfigDict,
  workdir: str,
  profile: tuple[int, int] | None = None,
) -> TrainState:
  """Trains to `config.train.num_steps`, from where the workdir stopped.

  Args:
    config: valid (see `config.validate`).
    workdir: takes checkpoints, metrics and pictures; run again to resume.
    profile: first and last step to trace into workdir/profile.

  Returns:
    The final state.

  Raises:
    UserError: the input is at fault.
    Preempted: SIGTERM came; the state is saved.
  """
  settings = config.train
  total = settings.num_steps
  mesh = runtime.make_mesh()
  runtime.log_devices(mesh)
  runtime.check_batch_size(
    "train.batch_size", settings.batch_size, mesh, settings.grad_accum
  )
  runtime.check_batch_size(
    "train.eval_batch_size", settings.eval_batch_size, mesh
  )
  paths.make_writable("--workdir", workdir, jax.process_index())

  train_data = inputs.open_inputs(config, train=True)
  eval_data = inputs.open_inputs(config, train=False)
  inputs.check_together(config, train_data, eval_data)
  source = train_data.source
  config = runs.with_data(config, source.class_names, source)
  runs.check_same_run(config, workdir)
  _logger.info(
    "%s: %d examples to train on, %d to evaluate on, %d classes",
    config.data.name,
    len(train_data.source),
    len(eval_data.source),
    len(config.data.class_names),
  )

  task = runs.make_task(config, train_data.element_spec)
  tx, schedule = make_optimizer(config.optimizer, total)
  state = create_state(
    task,
    tx,
    config.seed,
    ema=settings.ema_decay > 0,
    sharding=runtime.replicated(mesh),
  )
  _logger.info(
    "%s: %s parameters",
    config.model.name,
    f"{sum(leaf.size for leaf in jax.tree.leaves(state.params)):,}",
  )
  train_step = steps.make_train_step(
    task,
    tx,
    mesh=mesh,
    backend=config.backend,
    grad_accum=settings.grad_accum,
    ema_decay=settings.ema_decay,
    frozen=config.optimizer.frozen,
  )
  evaluator = Evaluator(config, task, eval_data, mesh=mesh)

  iterator = iter(train_data.batches)
  with (
    runtime.Preemption() as preemption,
    checkpoint.Checkpointer(
      workdir,
      keep=settings.keep,
      best_metric=settings.best_metric,
      best_mode=settings.best_mode,
    ) as saved,
  ):
    restored = _restore(saved, state, iterator)
    evaluated = True
    if restored is not None:
      state, meta = restored
      evaluated = meta["evaluated"]
    elif config.init_from:
      state = _load_weights(state, config)
    start = int(state.step)
    miner = hard_negatives.Miner(config, task, train_data, mesh, workdir)
    iterator = miner.resume(start, iterator)
    runs.save_config(config, workdir)
    writer = writers.Writer(workdir, total, start)
    if restored is not None:
      writer.event("resumed at step %d of %d", start, total)

    def evaluate(step: int) -> dict[str, float] | None:
      """Metrics, written down; None if SIGTERM came meanwhile."""
      try:
        result = evaluator(state, preemption.reached)
      except UserError as error:
        raise UserError(
          f"evaluation at step {step}: {error}; {_again(saved)}"
        ) from error
      if result is None:
        return None
      writer.scalars(step, "eval", result.metrics)
      writer.event(
        "evaluation at step %d\n%s", step, writers.table(result.metrics)
      )
      warn_of(step, result.metrics, ("loss", settings.best_metric))
      result.show(writer, step)
      return result.metrics

    def log(step: int, metrics: Metrics, bad: jax.Array) -> None:
      metrics = widen(metrics)
      names = finite.names_of(state.weights, bad)
      _require_finite(saved, step, metrics, names)
      values = _log(writer, clock, schedule, total, step, metrics)
      warn_of(step, values, values)
      warning = task.watch(values)
      if warning:
        writer.event("warning at step %d: %s", step, warning)

    def warn_of(
      step: int, values: Mapping[str, float], names: Iterable[str]
    ) -> None:
      for name in names:
        if not math.isfinite(values.get(name, 0.0)):
          writer.event("warning at step %d: %s is %s", step, name, values[name])

    def due(step: int, every: int) -> bool:
      return step % every == 0 or step == total

    try:
      if not evaluated and evaluate(start) is None:
        raise Preempted(f"step {start}")
      clock = _Clock(settings.batch_size)
      so_far = pending = None
      for step in _traced(range(start + 1, total + 1), profile, workdir):
        batch = runtime.to_global(next(iterator), mesh, config.backend)
        state, metrics = train_step(state, batch)
        iterator = miner.after(step, state, iterator)
        if step == start + 1:
          jax.block_until_ready(state)
          writer.event("first step took %.1f s (compilation)", clock.restart())
        if pending is not None:
          # One step late, so that the device never waits for the host.
          log(*pending)
          pending = None
        so_far = metrics if so_far is None else _merge(so_far, metrics)
        if due(step, settings.log_every):
          bad = finite.bad_arrays(state.weights)
          pending, so_far = (step, so_far, bad), None

        evaluates = due(step, settings.eval_every)
        stops = preemption.reached()
        saves = due(step, settings.checkpoint_every) or evaluates or stops
        if saves and pending is not None:
          log(*pending)
          pending = None
        if saves:
          rest = {} if so_far is None else widen(so_far)
          names = finite.not_finite(state.weights)
          _require_finite(saved, step, rest, names)
        scores = None
        if evaluates and not stops:
          scores = evaluate(step)
          stops = scores is None
        if saves:
          saved.save(
            step,
            runtime.as_global(state, mesh),
            iterator,
            metrics=scores,
            meta={"evaluated": not evaluates or scores is not None},
          )
          clock.restart()
        if (stops and step < total) or (evaluates and scores is None):
          saved.wait()
          raise Preempted(f"step {step}")
      saved.wait()
      if start == total:
        writer.event("already at step %d of %d: nothing to do", start, total)
    finally:
      writer.close()
      iterator.close()
  return state


class _Clock:
  """Throughput and time left, evaluation and saving not counted."""

  def __init__(self, batch_size: int):
    self._batch_size = batch_size
    self._since = time.perf_counter()
    self._seconds_a_step = 0.0

  def restart(self) -> float:
    """Starts anew; returns the seconds since the last start."""
    now = time.perf_counter()
    passed, self._since = now - self._since, now
    return passed

  def images_per_second(self, steps_done: int) -> float:
    self._seconds_a_step = self.restart() / steps_done
    return self._batch_size / self._seconds_a_step

  def seconds_left(self, steps_left: int) -> float:
    return steps_left * self._seconds_a_step


_merge = jax.jit(merge_all)


def _restore(
  saved: checkpoint.Checkpointer, state: TrainState, iterator: Any
) -> tuple[TrainState, dict[str, Any]] | None:
  """The latest checkpoint that is finite; later ones are deleted."""
  start = iterator.get_state()
  while (restored := saved.restore(state, iterator)) is not None:
    names = finite.not_finite(restored[0].weights)
    if not names:
      return restored
    _logger.warning(
      "checkpoint of step %d: NaN or infinity in %s; deleted",
      saved.latest_step,
      finite.some_of(names),
    )
    saved.delete_from(saved.latest_step)
    iterator.set_state(start)
  return None


def _require_finite(
  saved: checkpoint.Checkpointer,
  step: int,
  metrics: Metrics,
  names: list[str],
) -> None:
  """Raises `UserError` if training has left the finite numbers.

  A checkpoint is good once a step from it has a finite loss and gradient: one
  that leads to others is deleted, so that a rerun does not end in the same way.

  Args:
    saved: of the run.
    step: the last one done.
    metrics: on the host, of the steps up to this one; {} for none.
    names: weights after it that are not finite.
  """
  problem, good = "", step
  if metrics and metrics["finite"].total < metrics["finite"].count:
    good = step - int(metrics["finite"].count - metrics["finite"].total)
    loss, norm = (metrics[n].compute()[""] for n in ("loss", "grad_norm"))
    problem = f"the loss is {loss}"
    if math.isfinite(loss):
      problem = f"the norm of the gradient is {norm}"
  elif names:
    problem = f"NaN or infinity in {finite.some_of(names)}"
  if not problem:
    return
  saved.delete_from(good)
  raise UserError(
    f"{problem} at step {step}; lower config.optimizer.learning_rate or set "
    f"config.optimizer.clip_norm; {_again(saved)}"
  )


def _again(saved: checkpoint.Checkpointer) -> str:
  """What running again does, for a message."""
  saved.wait()
  if saved.latest_step is None:
    return "running again starts anew: there is no good checkpoint"
  return (
    f"running again goes on from step {saved.latest_step}, the last good "
    "checkpoint"
  )


def _log(writer, clock, schedule, total, step, metrics) -> dict[str, float]:
  """Writes down the metrics of an interval that ended at `step`."""
  values = compute_all(metrics)
  del values["finite"]
  done = int(metrics["grad_norm"].count)
  values["images_per_second"] = clock.images_per_second(done)
  values["learning_rate"] = float(schedule(step - 1))
  writer.scalars(step, "train", values)
  writer.log_train(step, values, clock.seconds_left(total - step))
  return values


def _load_weights(
  state: TrainState, config: ml_collections.ConfigDict
) -> TrainState:
  """Fresh state with the weights of `config.init_from`."""
  if load.is_weights_file(config.init_from):
    params, model_state = load.load_weights(
      config.init_from, state.params, state.model_state, skip=config.init_skip
    )
  else:
    folder = checkpoint.find(
      config.init_from, "best", config.train.best_metric, config.train.best_mode
    )
    params, model_state = checkpoint.restore_weights(
      folder, state.params, state.model_state, skip=config.init_skip
    )
    _logger.info("weights from %s", folder)
  ema_params = state.ema_params
  if ema_params is not None:
    ema_params = jax.tree.map(jax.numpy.copy, params)
  state = state.replace(
    params=params, model_state=model_state, ema_params=ema_params
  )
  finite.require_finite(state.weights, config.init_from)
  return state


def _traced(
  numbers: range, profile: tuple[int, int] | None, workdir: str
) -> Iterator[int]:
  """The step numbers; those of `profile` are traced."""
  if profile is None:
    yield from numbers
    return
  first, last = profile
  running = False
  try:
    for step in numbers:
      if step == first:
        jax.profiler.start_trace(str(paths.resolve(workdir) / "profile"))
        running = True
      with jax.profiler.StepTraceAnnotation("train", step_num=step):
        yield step
      if running and step == last:
        jax.profiler.stop_trace()
        running = False
  finally:
    if running:
      jax.profiler.stop_trace()
