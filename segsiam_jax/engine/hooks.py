"""What a task does between the steps of the loop."""

from typing import Any

import ml_collections
from jax.sharding import Mesh

from segsiam_jax import parts
from segsiam_jax.engine import checkpoint
from segsiam_jax.engine.state import TrainState
from segsiam_jax.fields import tasks
from segsiam_jax.tasks.base import Task


class Hooks:
  """Does nothing; a task's own hooks override what they need."""

  def __init__(
    self,
    config: ml_collections.ConfigDict,
    task: Task,
    data: Any,
    mesh: Mesh,
    workdir: str,
  ):
    """Prepares, and computes nothing yet.

    Args:
      config: of the run.
      task: made for the config's backend.
      data: `inputs.Inputs` of the training split.
      mesh: the devices.
      workdir: of the run.
    """

  def resume(
    self, step: int, iterator: Any, saved: checkpoint.Checkpointer
  ) -> Any:
    """The iterator to go on with at `step`."""
    del step, saved
    return iterator

  def after(
    self,
    step: int,
    state: TrainState,
    iterator: Any,
    saved: checkpoint.Checkpointer,
  ) -> Any:
    """The iterator to go on with after `step`."""
    del step, state, saved
    return iterator


def of_task(config: ml_collections.ConfigDict) -> type[Hooks]:
  """The hooks of a config's task."""
  reference = tasks.find(config.task).hooks
  return parts.load(reference) if reference else Hooks
