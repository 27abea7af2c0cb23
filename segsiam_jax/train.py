"""The training loop, from top to bottom."""

import functools
import logging
import math
from collections.abc import Iterable, Mapping

import jax
import ml_collections
import numpy as np
from jax.sharding import Mesh

from segsiam_jax import inputs
from segsiam_jax.engine import (
  checkpoint,
  distributed,
  finite,
  hooks,
  initial,
  meshes,
  resuming,
  runs,
  runtime,
)
from segsiam_jax.engine.patience import Patience
from segsiam_jax.engine.state import TrainState, create_state, make_optimizer
from segsiam_jax.errors import UserError
from segsiam_jax.evaluate import Evaluator
from segsiam_jax.files import paths
from segsiam_jax.inputs import checkup, plan
from segsiam_jax.metrics.base import compute_all, merge_all, widen
from segsiam_jax.report import metrics_log, writers
from segsiam_jax.report.goodput import Goodput
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
    UserError: bad input.
    Preempted: SIGTERM or SIGINT came; the state is saved.
  """
  # First: threads that are older get signals that are meant for it.
  with runtime.Preemption() as preemption:
    mesh = _devices(config)
    paths.make_writable("--workdir", workdir, jax.process_index())
    with runs.only_writer(workdir):
      return _train(config, workdir, mesh, profile, preemption)


def _devices(config: ml_collections.ConfigDict) -> Mesh:
  """All devices; raises `UserError` unless they share batches evenly."""
  mesh = meshes.of_config(config)
  meshes.log_devices(mesh)
  meshes.check_batches(config, mesh)
  return mesh


def _train(
  config: ml_collections.ConfigDict,
  workdir: str,
  mesh: Mesh,
  profile: tuple[int, int] | None,
  preemption: runtime.Preemption,
) -> TrainState:
  """See `train_and_evaluate`."""
  goodput = Goodput()
  initial.check(config, workdir)
  config = plan.planned(config, workdir)
  train_data = inputs.open_inputs(config, train=True)
  source = train_data.source
  config = runs.in_steps(inputs.of_training(config, source), len(source))
  settings = config.train
  total = settings.num_steps
  eval_data = inputs.open_inputs(config, train=False)
  inputs.check_together(config, train_data, eval_data)
  if config.data.auto and not checkpoint.exists(workdir):
    checkup.advise(workdir)
  before = runs.check_same_run(config, workdir)
  identity = resuming.check_data(workdir, source, eval_data.source)
  _logger.info(
    "%s: %d examples to train on, %d to evaluate on%s",
    config.data.name,
    len(source),
    len(eval_data.source),
    f", {len(source.class_names)} classes" if source.class_names else "",
  )

  task = runs.make_task(config, train_data.element_spec)
  evaluator = Evaluator(config, task, eval_data, mesh=mesh)
  evaluator.check_best_metric()
  tx, schedule = make_optimizer(config.optimizer, total)
  state = create_state(
    task,
    tx,
    config.seed,
    ema=settings.ema_decay > 0,
    sharding=functools.partial(meshes.of_state, mesh),
  )
  _logger.info(
    "%s: %s parameters",
    config.model.name,
    f"{sum(leaf.size for leaf in jax.tree.leaves(state.params)):,}",
  )
  train_step = runs.make_train_step(config, task, tx, mesh)

  loaded = bool(config.init_from) and not checkpoint.exists(workdir)
  if loaded:  # Before anything is written.
    state = initial.load_weights(state, config)
  iterator = iter(train_data.batches)
  with checkpoint.Checkpointer(
    workdir,
    keep=settings.keep,
    best_metric=settings.best_metric,
    best_mode=settings.best_mode,
  ) as saved:
    resuming.check_steps(saved, total)
    restored = resuming.restore(saved, state, iterator)
    evaluated, interval = True, {}
    if restored is not None:
      state, meta = restored
      evaluated = meta["evaluated"] or saved.has_scores(int(state.step))
      interval = meta.get("interval", {})
    elif config.init_from and not loaded:
      state = initial.load_weights(state, config)
    start = int(state.step)
    preemption.leave_early(f"step {start}")
    between = hooks.of_task(config)(config, task, train_data, mesh, workdir)
    iterator = between.resume(start, iterator, saved)
    if before is not None:
      saved.keep_best_of(before.train.best_metric, before.train.best_mode)
    runs.save_config(config, workdir)
    resuming.save_data(identity, workdir)
    lines = metrics_log.read(paths.resolve(workdir))
    goodput.resume(lines, start)
    writer = writers.Writer(
      workdir,
      total,
      start,
      trains=True,
      evaluated=evaluated,
      goodput=goodput,
    )
    if restored is not None:
      writer.event("resumed at step %d of %d", start, total)
    best = (settings.best_metric, settings.best_mode)
    patience = Patience(settings.patience, *best, lines if start else ())

    def evaluate(step: int) -> dict[str, float] | None:
      """Metrics, written down; None if it was told to stop meanwhile."""
      goodput.now("evaluation")
      try:
        with writer.evaluating(evaluator.batches) as advance:
          result = evaluator(state, preemption.reached, advance)
      except UserError as error:
        raise type(error)(
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
      # Last: an evaluation is done when the checkpoint knows it.
      saved.record(step, result.metrics)
      patience.add(step, result.metrics)
      return result.metrics

    def log(step: int, metrics: Metrics, bad: jax.Array) -> None:
      metrics = widen(metrics)
      names = finite.names_of(state.weights, bad)
      _require_finite(saved, step, metrics, names)
      values = _log(writer, clock, schedule, total, step, step - start, metrics)
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

    def save(step: int, evaluates: bool) -> None:
      nonlocal pending
      if pending is not None:
        log(*pending)
        pending = None
      rest = {} if so_far is None else widen(so_far)
      names = finite.not_finite(state.weights)
      _require_finite(saved, step, rest, names)
      saved.save(
        step,
        meshes.as_global(state, mesh),
        iterator,
        meta={"evaluated": not evaluates, "interval": resuming.pack(so_far)},
      )

    def read(step: int) -> Mapping[str, np.ndarray]:
      """The batch of a step; saves the one before if it cannot be read."""
      try:
        return next(iterator)
      except UserError as error:
        # Several processes save together, and the others do not know of this.
        if step - 1 > start and jax.process_count() == 1:
          save(step - 1, False)
        raise type(error)(f"step {step}: {error}; {_again(saved)}") from error

    so_far = pending = None
    try:
      if not evaluated and evaluate(start) is None:
        raise preemption.stop(f"step {start}")
      clock = writers.Clock(settings.batch_size)
      last = start if patience.ended else total
      numbers = range(start + 1, last + 1)
      for step in runtime.traced(numbers, profile, paths.resolve(workdir)):
        goodput.now("input")
        batch = meshes.to_global(read(step), mesh, config.backend)
        goodput.now("compile" if step == start + 1 else "steps")
        state, metrics = train_step(state, batch)
        iterator = between.after(step, state, iterator, saved)
        writer.advance(step)
        if step == start + 1:
          so_far = resuming.unpack(interval, metrics)
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
        if saves:
          goodput.now("save")
          save(step, evaluates)
          if evaluates and not stops:
            evaluates = evaluate(step) is None
          clock.restart()
        if (stops and step < total) or (saves and evaluates):
          saved.wait()
          raise preemption.stop(f"step {step}")
        if patience.ended:
          break
      goodput.now("save")
      saved.wait()
      if patience.ended:
        writer.event("ended: %s", patience.ended)
      elif start == total:
        writer.event("already at step %d of %d: nothing to do", start, total)
      writer.event("%s\n%s", goodput.summary(), _summary(workdir, *best))
    except Exception as error:
      distributed.leave_if_lost(error)
      raise
    finally:
      writer.close()
      iterator.close()
  return state


def _summary(workdir: str, metric: str, mode: str) -> str:
  """What a run that is done has, and what can be done with it."""
  folder = checkpoint.find(workdir, "best", metric, mode)
  score = checkpoint.metrics_of(folder).get(metric)
  kind = "best" if metric else "last"
  which = f"{kind} checkpoint: step {checkpoint.step_of(folder)}"
  if score is not None:
    which += f", {metric} {score:.4f}"
  where = paths.resolve(workdir)
  return (
    f"{which}\n{where} has checkpoints/, images/, metrics.jsonl and "
    "tensorboard/\nnext: python -m segsiam_jax.main --mode=predict "
    f"--workdir={workdir} --input=IMAGES"
  )


_merge = jax.jit(merge_all)


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
    f"running again continues from step {saved.latest_step}, the last good "
    "checkpoint"
  )


def _log(
  writer, clock, schedule, total, step, here, metrics
) -> dict[str, float]:
  """Writes down the metrics of an interval that ended at `step`.

  Of its steps, at most `here` are of this process.
  """
  values = compute_all(metrics)
  del values["finite"]
  done = min(here, int(metrics["grad_norm"].count))
  values["images_per_second"] = clock.images_per_second(done)
  values["learning_rate"] = float(schedule(step - 1))
  writer.scalars(step, "train", values)
  writer.log_train(step, values, clock.seconds_left(total - step))
  return values
