"""Checkpoints: the only file that imports Orbax.

A checkpoint holds the state, the data iterator's position and a small JSON
`meta`. It is written in the background to a temporary name and renamed when
complete, so that a killed run never leaves half a checkpoint behind.
"""

import contextlib
import functools
import json
import math
import os
import re
from collections.abc import Mapping
from typing import Any

import grain
import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from segsiam_jax import paths, strict_json
from segsiam_jax.errors import UserError, first_line
from segsiam_jax.state import TrainState
from segsiam_jax.tasks.base import PyTree

FOLDER = "checkpoints"


def _score(metrics: Mapping[str, float], name: str, mode: str) -> float:
  """A number whose largest value is the best; NaN is the worst."""
  value = metrics.get(name)
  if value is None or math.isnan(value):
    return -math.inf
  return value if mode == "max" else -value


class Checkpointer:
  """Saves and restores the checkpoints of one workdir.

  Keeps the last `keep` checkpoints, and the best one by a metric.
  """

  def __init__(
    self,
    workdir: str | os.PathLike,
    *,
    keep: int = 2,
    best_metric: str = "",
    best_mode: str = "max",
  ):
    """Opens `workdir/checkpoints`.

    Args:
      workdir: of the run.
      keep: number of latest checkpoints to keep.
      best_metric: name of an evaluation metric, or '' for none.
      best_mode: 'max' or 'min'.
    """
    self._best = (best_metric, best_mode)
    score, policies = None, [checkpoint_managers.LatestN(keep)]
    if best_metric:
      score = functools.partial(_score, name=best_metric, mode=best_mode)
      policies.append(checkpoint_managers.BestN(get_metric_fn=score, n=1))
    self._manager = ocp.CheckpointManager(
      paths.resolve(workdir) / FOLDER,
      options=ocp.CheckpointManagerOptions(
        # The policy decides what is kept; without best_fn, Orbax would not
        # write metrics.
        best_fn=score,
        preservation_policy=checkpoint_managers.AnyPreservationPolicy(policies),
        cleanup_tmp_directories=True,
      ),
      item_handlers={
        "state": ocp.StandardCheckpointHandler(),
        "data": grain.checkpoint.CheckpointHandler(),
        "meta": ocp.JsonCheckpointHandler(),
      },
    )

  @property
  def latest_step(self) -> int | None:
    return self._manager.latest_step()

  @property
  def best_step(self) -> int | None:
    """The step with the best metric, or None before any evaluation."""
    name, mode = self._best
    scored = {
      step: metrics
      for step in self._manager.all_steps()
      if (metrics := self._manager.metrics(step)) and name in metrics
    }
    if not scored:
      return None
    return max(scored, key=lambda step: _score(scored[step], name, mode))

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
      metrics: of an evaluation at this step, if there was one.
      meta: anything that JSON can hold.
    """
    if step in self._manager.all_steps():
      return
    try:
      self._manager.save(
        step,
        args=ocp.args.Composite(
          state=ocp.args.StandardSave(state),
          data=grain.checkpoint.CheckpointSave(iterator),
          meta=ocp.args.JsonSave(dict(meta or {})),
        ),
        metrics=strict_json.finite_or_none(dict(metrics or {})),
        force=True,
      )
    except OSError as error:
      raise UserError(
        f"{self._manager.directory}: saving step {step} failed ({error}); "
        "earlier checkpoints are untouched"
      ) from error

  def restore(
    self, state: TrainState, iterator: Any
  ) -> tuple[TrainState, dict[str, Any]] | None:
    """The latest checkpoint, its data position set on `iterator`.

    Args:
      state: arrays or `jax.ShapeDtypeStruct`s with shardings: the shapes that
        are expected.
      iterator: of grain, changed in place.

    Returns:
      The state and its meta, or None if there is no checkpoint.
    """
    step = self.latest_step
    if step is None:
      return None
    abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, state)
    try:
      restored = self._manager.restore(
        step,
        args=ocp.args.Composite(
          state=ocp.args.StandardRestore(abstract),
          data=grain.checkpoint.CheckpointRestore(iterator),
          meta=ocp.args.JsonRestore(),
        ),
      )
    except (ValueError, KeyError) as error:
      raise UserError(
        f"{self._manager.directory}/{step}: does not fit this config "
        f"({first_line(error)}); use another --workdir, or load its weights "
        "with config.init_from"
      ) from error
    return restored.state, restored.meta

  def delete_from(self, step: int) -> None:
    """Deletes the checkpoints of this step and of later ones."""
    self.wait()
    for each in self._manager.all_steps():
      if each >= step:
        self._manager.delete(each)

  def wait(self) -> None:
    """Returns when everything that was asked for is on disk."""
    self._manager.wait_until_finished()

  def close(self) -> None:
    self._manager.close()

  def __enter__(self) -> "Checkpointer":
    return self

  def __exit__(self, *unused) -> None:
    self.close()


def find(path: str, which: str, best_metric: str, best_mode: str) -> str:
  """The folder of one checkpoint.

  Args:
    path: a workdir, or the folder of a checkpoint itself.
    which: 'best' (the latest where none was evaluated), 'latest' or a step.
    best_metric: see `Checkpointer`.
    best_mode: see `Checkpointer`.
  """
  root = paths.resolve(path)
  if (root / "state").exists():
    return str(root)
  if not (root / FOLDER).exists():
    raise UserError(
      f"{path}: no checkpoints here; train first, or mend the path"
    )
  with Checkpointer(
    path, best_metric=best_metric, best_mode=best_mode
  ) as saved:
    step = saved.latest_step
    if step is None:
      raise UserError(f"{root / FOLDER}: no complete checkpoint; train first")
    if which == "best":
      step = saved.best_step or step
    elif which.isdecimal():
      step = int(which)
    elif which != "latest":
      raise UserError(f"--checkpoint={which}: give 'best', 'latest' or a step")
  if not (root / FOLDER / str(step)).exists():
    raise UserError(f"{root / FOLDER}: no checkpoint of step {step}")
  return str(root / FOLDER / str(step))


def restore_weights(
  checkpoint: str, params: PyTree, model_state: PyTree, *, skip: str = ""
) -> tuple[PyTree, PyTree]:
  """Parameters and batch statistics of a checkpoint, and nothing else.

  Averaged parameters are taken where the checkpoint has them.

  Args:
    checkpoint: its folder (see `find`).
    params: the parameters to replace, with their shardings.
    model_state: the batch statistics to replace.
    skip: regular expression, searched in names such as
      'params/logits/kernel'; what matches stays as it is.

  Returns:
    (params, model_state), of the same structure and shardings.

  Raises:
    UserError: a name is missing in the checkpoint, or has another shape.
  """
  folder = paths.resolve(checkpoint) / "state"
  # The handler itself: a Checkpointer would look for the whole checkpoint's
  # metadata in this one item, and warn.
  with contextlib.closing(ocp.PyTreeCheckpointHandler()) as reader:
    saved = reader.metadata(folder).tree
    source = "ema_params" if saved.get("ema_params") else "params"
    have = {"params": saved[source], "model_state": saved["model_state"] or {}}
    want = {"params": params, "model_state": model_state}
    have = {_name(path): leaf for path, leaf in _leaves(have)}
    chosen, problems = {}, []
    for path, leaf in _leaves(want):
      name = _name(path)
      if skip and re.search(skip, name):
        continue
      if name not in have:
        problems.append(f"{name} is missing")
      elif tuple(have[name].shape) != leaf.shape:
        problems.append(
          f"{name} is {tuple(have[name].shape)}, not {leaf.shape}"
        )
      else:
        chosen[name] = leaf
    if problems:
      raise UserError(
        f"{checkpoint}: {len(problems)} of the model's arrays do not fit: "
        f"{'; '.join(problems[:4])}{'; ...' if len(problems) > 4 else ''}; "
        "leave them at their fresh values with config.init_skip"
      )
    item = _nest(chosen, {"params": source})
    restored = reader.restore(
      folder,
      args=ocp.args.PyTreeRestore(
        item=jax.tree.map(ocp.utils.to_shape_dtype_struct, item),
        restore_args=ocp.checkpoint_utils.construct_restore_args(item),
        partial_restore=True,
      ),
    )
  restored = {
    _name(path).replace(source, "params", 1): leaf
    for path, leaf in _leaves(restored)
  }
  loaded = jax.tree_util.tree_map_with_path(
    lambda path, leaf: restored.get(_name(path), leaf), want
  )
  return loaded["params"], loaded["model_state"]


def _leaves(tree: PyTree) -> list[tuple[Any, Any]]:
  return jax.tree_util.tree_flatten_with_path(tree)[0]


def _name(path: Any) -> str:
  return jax.tree_util.keystr(path, simple=True, separator="/")


def _nest(leaves: Mapping[str, Any], renamed: Mapping[str, str]) -> PyTree:
  """{'a/b': x} -> {'a': {'b': x}}, the first part of names renamed."""
  tree: dict[str, Any] = {}
  for name, leaf in leaves.items():
    first, *rest = name.split("/")
    keys = [renamed.get(first, first), *rest]
    node = tree
    for key in keys[:-1]:
      node = node.setdefault(key, {})
    node[keys[-1]] = leaf
  return tree


def metrics_of(checkpoint: str) -> dict[str, float]:
  """Finite ones of the evaluation at a checkpoint; {} if there was none.

  Args:
    checkpoint: its folder (see `find`).
  """
  file = paths.resolve(checkpoint) / "metrics" / "metrics"
  metrics = json.loads(file.read_text()) if file.exists() else {}
  return {name: value for name, value in metrics.items() if value is not None}


def step_of(checkpoint: str) -> int:
  """The step that the folder of a checkpoint is named by."""
  return int(paths.resolve(checkpoint).name)
