"""What a run finds again when it goes on: its data, and half an interval."""

import hashlib
import json
import logging
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from segsiam_jax.data import sources
from segsiam_jax.engine import checkpoint, finite
from segsiam_jax.engine.state import TrainState
from segsiam_jax.errors import UserError, first_line
from segsiam_jax.files import paths, text_files
from segsiam_jax.tasks.base import Metrics

_logger = logging.getLogger(__name__)

DATA_FILE = "data.json"


def check_data(
  workdir: str, train: sources.Source, test: sources.Source
) -> dict[str, Any]:
  """Raises `UserError` if a run's position means other training examples.

  Of an evaluation split that has changed, a warning says so.

  Returns:
    What `save_data` writes down, for the next time.
  """
  now = {"train": _identity(train), "eval": _identity(test)}
  file = paths.resolve(workdir) / DATA_FILE
  if not file.exists():
    return now
  try:
    before = text_files.parse_json(file.read_bytes(), file.name)
    changes = {part: _change(before[part], now[part]) for part in now}
  except (UserError, OSError, KeyError, TypeError) as error:
    _logger.warning(
      "%s: damaged (%s); cannot check that the data are the same",
      file,
      first_line(error),
    )
    return now
  if changes["train"]:
    raise UserError(
      f"--workdir={workdir}: the training split {changes['train']}: its "
      "position in the data would mean other examples; give it the data that "
      "it started with, or use another --workdir (config.init_from loads "
      "weights from this one)"
    )
  if changes["eval"]:
    _logger.warning(
      "the evaluation split %s: scores before and after cannot be compared",
      changes["eval"],
    )
  return now


def save_data(identity: Mapping[str, Any], workdir: str) -> None:
  """Writes workdir/data.json on process 0."""
  if jax.process_index() == 0:
    text = json.dumps(identity, indent=1) + "\n"
    paths.write_text(paths.resolve(workdir) / DATA_FILE, text)


def _identity(source: sources.Source) -> dict[str, Any]:
  """Of a split: the number of examples, and a digest of what is known of each.

  That is its name below its folder, and the identity that it shows. Contents
  are not read.
  """
  ids = tuple(getattr(source, "ids", ()))
  known = {
    "ids": ids,
    "classes": tuple(source.class_names),
    "labels": np.asarray(getattr(source, "labels", ())).tolist(),
  }
  text = json.dumps(known).encode("utf-8", "surrogateescape")
  return {
    "examples": len(source),
    "first": ids[0] if ids else "",
    "last": ids[-1] if ids else "",
    "digest": hashlib.sha256(text).hexdigest(),
  }


def _change(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
  """What has happened to a split, '' for nothing."""
  if before["examples"] != now["examples"]:
    return (
      f"had {before['examples']} examples when this run began, and has "
      f"{now['examples']} now"
    )
  if before["digest"] == now["digest"]:
    return ""
  ends = (
    f" ({before['first']} to {before['last']} before, {now['first']} to "
    f"{now['last']} now)"
  )
  return "has other examples, or in another order" + (
    ends if now["first"] else ""
  )


def restore(
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


def check_steps(saved: checkpoint.Checkpointer, total: int) -> None:
  """Raises `UserError` if a run is beyond the steps that it is to have."""
  step = saved.latest_step
  if step is not None and step > total:
    raise UserError(
      f"config.train.num_steps = {total}: the run is at step {step} already; "
      f"give at least that many, evaluate it with --mode=eval, or use another "
      "--workdir"
    )


def pack(metrics: Metrics | None) -> dict[str, list[str]]:
  """Sums of an interval that is not over, for a checkpoint's JSON."""
  leaves = jax.tree_util.tree_leaves_with_path(jax.device_get(metrics or {}))
  return {
    # As text, what is not finite is JSON, too.
    jax.tree_util.keystr(path): [
      repr(number) for number in np.asarray(leaf, np.float64).ravel().tolist()
    ]
    for path, leaf in leaves
  }


def unpack(packed: Mapping[str, list[str]], like: Metrics) -> Metrics | None:
  """What `pack` was given, or None if there was none or it does not fit.

  Args:
    packed: from `pack`.
    like: metrics of a step, on the devices.
  """
  leaves, tree = jax.tree_util.tree_flatten_with_path(like)
  names = [jax.tree_util.keystr(path) for path, _ in leaves]
  if set(packed) != set(names):
    return None
  try:
    placed = [
      jax.device_put(
        np.reshape(list(map(float, packed[name])), leaf.shape).astype(
          leaf.dtype
        ),
        leaf.sharding,
      )
      for name, (_, leaf) in zip(names, leaves, strict=True)
    ]
  except ValueError:
    return None
  return jax.tree.unflatten(tree, placed)
