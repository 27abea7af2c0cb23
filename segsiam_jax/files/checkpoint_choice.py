"""Which checkpoints there are, which is the best, and which ones stay.

Nothing here writes, and nothing needs JAX or Orbax.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

from segsiam_jax.errors import UserError, nearest
from segsiam_jax.files import checkpoint_files, paths

_logger = logging.getLogger(__name__)

FOLDER = "checkpoints"
# What an exported network has instead.
PACKAGED = "model.safetensors"


def steps_in(folder: epath.Path) -> list[int]:
  """Of the complete checkpoints in a folder, the earliest first."""
  if not folder.exists():
    return []
  # A checkpoint gets its name when it is complete; in a bucket, where nothing
  # is renamed, a file says so.
  in_bucket = not paths.is_local(folder)
  return sorted(
    int(path.name)
    for path in folder.iterdir()
    if path.name.isdecimal()
    and (not in_bucket or (path / "commit_success.txt").exists())
  )


def exists(workdir: str) -> bool:
  """Whether a run has a checkpoint to go on from."""
  return bool(steps_in(paths.resolve(workdir) / FOLDER))


def best(
  scores: Mapping[int, Mapping[str, float]], name: str, mode: str
) -> int | None:
  """The step with the best value of a metric; NaN is the worst.

  >>> best({1: {"iou": 0.5}, 2: {"iou": 0.75}, 3: {}}, "iou", "max")
  2
  """

  def value(step: int) -> float:
    score = scores[step][name]
    if math.isnan(score):
      return -math.inf
    return score if mode == "max" else -score

  return max((s for s in scores if name in scores[s]), key=value, default=None)


def read_scores(folder: epath.Path) -> dict[int, dict[str, float]]:
  """Metrics by step of those that were evaluated; damaged ones are told."""
  scores = {}
  for step in steps_in(folder):
    try:
      metrics = checkpoint_files.read_metrics(folder / str(step))
    except UserError as error:
      _logger.warning("checkpoint of step %d has no metrics: %s", step, error)
      continue
    if metrics is not None:
      scores[step] = metrics
  return scores


class Scores:
  """The metrics of a run's checkpoints: an Orbax `PreservationPolicy`.

  Attributes:
    of: metrics by step.
    metric: that decides which is the best, '' for none.
    mode: 'max' or 'min'.
  """

  def __init__(self, folder: epath.Path, keep: int, metric: str, mode: str):
    """See `checkpoint.Checkpointer`."""
    self._folder, self._keep = folder, keep
    self.metric, self.mode = metric, mode
    self.of = read_scores(folder)

  @property
  def best_step(self) -> int | None:
    return best(self.of, self.metric, self.mode)

  def should_preserve(
    self, checkpoints: Sequence[Any], *, context: Any = None
  ) -> list[bool]:
    """The last ones, the best one, and those marked as once the best."""
    steps = [each.step for each in checkpoints]
    stay = {*sorted(steps)[-self._keep :], self.best_step}
    return [
      step in stay or checkpoint_files.is_marked(self._folder / str(step))
      for step in steps
    ]


def find(path: str, which: str, best_metric: str, best_mode: str) -> str:
  """The folder of one checkpoint; nothing is written or removed.

  Args:
    path: a workdir, or the folder of a checkpoint itself.
    which: 'best' (the latest where none was evaluated), 'latest' or a step.
    best_metric: see `checkpoint.Checkpointer`.
    best_mode: see `checkpoint.Checkpointer`.

  Raises:
    UserError: there is no such checkpoint, or it is damaged.
  """
  root = paths.resolve(path)
  if root.name == PACKAGED and root.is_file():
    return str(root)
  if (root / PACKAGED).exists() and not (root / FOLDER).exists():
    return str(root / PACKAGED)
  paths.check_takes_checkpoints(root)
  if (root / "state").exists():
    return _intact(root, "")
  folder = root / FOLDER
  if not folder.exists():
    raise UserError(
      f"{path}: no checkpoints here; train first, or fix the path"
    )
  steps = steps_in(folder)
  if not steps:
    raise UserError(f"{folder}: no complete checkpoint; train first")
  listed = ", ".join(map(str, steps))
  step = steps[-1]
  if which == "best":
    step = _best_in(folder, steps, best_metric, best_mode)
  elif which.isdecimal():
    step = int(which)
  elif which != "latest":
    raise UserError(f"--checkpoint={which}: give 'best', 'latest' or a step")
  if step not in steps:
    raise UserError(
      f"{folder}: no checkpoint of step {step}; there are {listed}"
    )
  return _intact(
    folder / str(step), f"; name another with --checkpoint, of {listed}"
  )


def _intact(folder: epath.Path, advice: str) -> str:
  if problem := checkpoint_files.damage(folder, parts=("state",)):
    checkpoint_files.check_stays(folder)
    raise UserError(f"checkpoint {folder.name} is damaged: {problem}{advice}")
  return str(folder)


def _best_in(
  folder: epath.Path, steps: Sequence[int], metric: str, mode: str
) -> int:
  scores = read_scores(folder) if metric else {}
  step = best(scores, metric, mode)
  if step is None and scores:
    known = sorted(set().union(*scores.values()))
    close = nearest(metric, known)
    hint = f"did you mean {close!r}? " if close else ""
    raise UserError(
      f"config.train.best_metric = {metric!r}: no evaluation in {folder} has "
      f"it; {hint}--checkpoint=latest needs none"
    )
  return steps[-1] if step is None else step
