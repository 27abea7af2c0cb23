"""Checkpoints: this file and `pretrained.checkpoint` alone import Orbax.

A checkpoint holds the state, the data iterator's position and a small JSON
`meta`. It is written in the background to a temporary name and renamed when
complete, so that a killed run never leaves half a checkpoint behind. What is
added to it later is in `checkpoint_files`.

One `Checkpointer` writes and cleans up, under the workdir's lock; `find` and
the functions only read.
"""

import contextlib
import json
import logging
import os
from collections.abc import Iterator, Mapping
from typing import Any

import grain
import jax
import orbax.checkpoint as ocp
from etils import epath
from jax.experimental import multihost_utils

from segsiam_jax.data import readers
from segsiam_jax.engine.state import TrainState
from segsiam_jax.errors import UserError
from segsiam_jax.files import checkpoint_choice, checkpoint_files, paths
from segsiam_jax.files.checkpoint_choice import FOLDER
from segsiam_jax.files.checkpoint_choice import exists as exists
from segsiam_jax.files.checkpoint_choice import find as find
from segsiam_jax.files.checkpoint_files import DAMAGE, why
from segsiam_jax.pretrained import packaged
from segsiam_jax.pretrained.checkpoint import restore_weights as restore_weights
from segsiam_jax.tasks.base import PyTree

_logger = logging.getLogger(__name__)


class Checkpointer:
  """Saves and restores the checkpoints of one workdir; one at a time writes.

  Keeps the last `keep` checkpoints, the best one by a metric, and those that
  `keep_best_of` has marked.
  """

  def __init__(
    self,
    workdir: str | os.PathLike,
    *,
    keep: int = 2,
    best_metric: str = "",
    best_mode: str = "max",
  ):
    """Opens `workdir/checkpoints`, and removes what a killed run left there.

    Args:
      workdir: of the run.
      keep: number of latest checkpoints to keep.
      best_metric: name of an evaluation metric, or '' for none.
      best_mode: 'max' or 'min'.
    """
    self._folder = paths.resolve(workdir) / FOLDER
    self._scores = checkpoint_choice.Scores(
      self._folder, keep, best_metric, best_mode
    )
    self._saving, self._failed = 0, False
    self._manager = ocp.CheckpointManager(
      self._folder,
      options=ocp.CheckpointManagerOptions(
        preservation_policy=self._scores,
        cleanup_tmp_directories=True,
        # Metrics are ours, and may be damaged.
        lightweight_initialize=True,
        async_options=ocp.options.AsyncOptions(
          post_finalization_callback=self._complete
        ),
      ),
      item_handlers={
        "state": ocp.StandardCheckpointHandler(),
        "data": grain.checkpoint.CheckpointHandler(),
        "meta": ocp.JsonCheckpointHandler(),
      },
    )

  @property
  def steps(self) -> list[int]:
    """Of all checkpoints, the earliest first."""
    return sorted(self._manager.all_steps())

  @property
  def latest_step(self) -> int | None:
    return self._manager.latest_step()

  @property
  def best_step(self) -> int | None:
    """The step with the best metric, or None before any evaluation."""
    return self._scores.best_step

  def folder(self, step: int) -> epath.Path:
    return self._folder / str(step)

  def keep_best_of(self, metric: str, mode: str) -> None:
    """Keeps the best checkpoint by the metric that decided until now."""
    step = checkpoint_choice.best(self._scores.of, metric, mode)
    changed = (metric, mode) != (self._scores.metric, self._scores.mode)
    if changed and step is not None and jax.process_index() == 0:
      checkpoint_files.mark_best(self.folder(step), metric)

  def save(
    self,
    step: int,
    state: TrainState,
    iterator: Any,
    *,
    metrics: Mapping[str, float] | None = None,
    meta: Mapping[str, Any] | None = None,
  ) -> None:
    """Starts to save; the state may be donated once this returns.

    Args:
      step: a step that is already saved is left alone.
      state: of the run.
      iterator: of grain, after the batch of this step.
      metrics: see `record`, if they are known already.
      meta: anything that JSON can hold.

    Raises:
      UserError: this or the save before failed.
    """
    if step not in self._manager.all_steps():
      with self._one_line():
        self._manager.wait_until_finished()
        self._saving = step
        self._manager.save(
          step,
          args=ocp.args.Composite(
            state=ocp.args.StandardSave(state),
            data=grain.checkpoint.CheckpointSave(iterator),
            meta=ocp.args.JsonSave(dict(meta or {})),
          ),
          force=True,
        )
    if metrics is not None:
      self.record(step, metrics)

  def record(self, step: int, metrics: Mapping[str, float]) -> None:
    """Adds the metrics of an evaluation to a checkpoint, once it is saved."""
    self._scores.of[step] = dict(metrics)
    self.wait()
    if jax.process_index() == 0:
      with self._one_line():
        checkpoint_files.write_metrics(self.folder(step), metrics)

  def has_scores(self, step: int) -> bool:
    """Whether an evaluation is recorded of it, and not damaged."""
    return step in self._scores.of

  def restore(
    self, state: TrainState, iterator: Any
  ) -> tuple[TrainState, dict[str, Any]] | None:
    """The latest intact checkpoint, its data position set on `iterator`.

    Damaged ones that are later are named in warnings and put aside.

    Args:
      state: arrays or `jax.ShapeDtypeStruct`s with shardings: the shapes that
        are expected.
      iterator: of grain, changed in place.

    Returns:
      The state and its meta, or None if there is no checkpoint.

    Raises:
      UserError: the checkpoint does not fit, or none is intact.
    """
    abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, state)
    problems, restored, good = {}, None, None
    for step in reversed(self.steps):
      problem, restored = self._restore(step, abstract, iterator)
      if not problem:
        good = step
        break
      problems[step] = problem
    if problems and good is None:
      raise UserError(
        f"{self._folder}: no checkpoint is intact "
        f"({'; '.join(problems.values())}); delete that folder to start again, "
        "or use another --workdir"
      )
    for step, problem in problems.items():
      aside = self._put_aside(step)
      _logger.warning(
        "checkpoint of step %d is damaged: %s; it is now %s, and the run "
        "continues from step %d",
        step,
        problem,
        aside,
        good,
      )
    return restored

  def _restore(
    self, step: int, abstract: PyTree, iterator: Any
  ) -> tuple[str, Any]:
    """(what is damaged, None) or ('', what `restore` returns)."""
    folder = self.folder(step)
    if problem := checkpoint_files.damage(folder):
      return problem, None
    try:
      meta = checkpoint_files.read_meta(folder)
      position = _position(folder)
      restored = self._manager.restore(
        step, args=ocp.args.Composite(state=ocp.args.StandardRestore(abstract))
      )
    except DAMAGE as error:
      if not checkpoint_files.has_checksums(folder) and _fits(folder, abstract):
        return f"{folder} is unreadable ({why(error)})", None
      raise UserError(
        f"{folder}: does not fit this config ({why(error)}); use "
        "another --workdir, or load its weights with config.init_from"
      ) from error
    readers.go_to(iterator, position)
    return "", (restored.state, meta)

  def _put_aside(self, step: int) -> epath.Path:
    """Gives a checkpoint a name that no checkpoint has."""
    number, aside = 1, self._folder / f"damaged-{step}.1"
    while aside.exists():
      number += 1
      aside = self._folder / f"damaged-{step}.{number}"
    if jax.process_index() == 0:
      self.folder(step).rename(aside)
    if jax.process_count() > 1:
      multihost_utils.sync_global_devices("put aside")
    self._manager.reload()
    self._scores.of.pop(step, None)
    return aside

  def delete_from(self, step: int) -> None:
    """Deletes the checkpoints of this step and of later ones."""
    self.wait()
    for each in self.steps:
      if each >= step:
        self._manager.delete(each)
        self._scores.of.pop(each, None)

  def wait(self) -> None:
    """Returns when everything that was asked for is on disk.

    Raises:
      UserError: saving failed.
    """
    with self._one_line():
      self._manager.wait_until_finished()

  def _complete(self) -> None:
    """Called in the background when all but the last move is done."""
    if jax.process_index() == 0:
      for path in self._folder.iterdir():
        if path.name.startswith(f"{self._saving}.orbax-checkpoint-tmp"):
          checkpoint_files.write_checksums(path)

  @contextlib.contextmanager
  def _one_line(self) -> Iterator[None]:
    """A failed save as a `UserError`, whatever the library makes of it."""
    try:
      yield
    except UserError:
      raise
    except Exception as error:
      self._failed = True
      raise UserError(
        f"{self._folder}: saving step {self._saving} failed ({why(error)}); "
        "earlier checkpoints are untouched: make room there, and run again to "
        "go on"
      ) from error

  def close(self) -> None:
    """Waits for what is being saved; a failed save is not told anew."""
    with contextlib.ExitStack() as stack:
      if self._failed:
        stack.enter_context(contextlib.suppress(Exception))
      with self._one_line():
        self._manager.close()

  def __enter__(self) -> "Checkpointer":
    return self

  def __exit__(self, *unused) -> None:
    self.close()


def _position(folder: epath.Path) -> int:
  """Batches that were read, from any process's position."""
  files = [
    path
    for path in (folder / "data").iterdir()
    if path.name.startswith("process_")
  ]
  if not files:
    raise ValueError(f"{folder / 'data'} holds no position in the data")
  return readers.batches_read(json.loads(min(files, key=str).read_text()))


def _fits(folder: epath.Path, abstract: PyTree) -> bool:
  """Whether a checkpoint has arrays of these shapes, or does not say."""
  try:
    with contextlib.closing(ocp.PyTreeCheckpointHandler()) as reader:
      saved = jax.tree.leaves(reader.metadata(folder / "state").tree)
  except DAMAGE:
    return True
  expected = jax.tree.leaves(abstract)
  return sorted(tuple(leaf.shape) for leaf in saved) == sorted(
    tuple(leaf.shape) for leaf in expected
  )


def metrics_of(checkpoint: str) -> dict[str, float]:
  """Finite ones of the evaluation at a checkpoint; {} if there was none.

  Args:
    checkpoint: its folder (see `find`).

  Raises:
    UserError: they are damaged.
  """
  if packaged.is_packaged(checkpoint):
    return dict(packaged.describe(checkpoint)["metrics"])
  return checkpoint_files.read_metrics(paths.resolve(checkpoint)) or {}


def step_of(checkpoint: str) -> int:
  """The step that the folder of a checkpoint is named by."""
  if packaged.is_packaged(checkpoint):
    return int(packaged.describe(checkpoint)["step"])
  return int(paths.resolve(checkpoint).name)
