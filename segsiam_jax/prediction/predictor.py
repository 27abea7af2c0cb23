"""A task's `predict`, compiled once: rows in, rows out."""

import collections
import copy
import itertools
from collections.abc import Iterable, Iterator, Mapping

import jax
import ml_collections
import numpy as np

from segsiam_jax.engine import meshes, runs, runtime, steps
from segsiam_jax.engine.state import TrainState


class Predictor:
  """What a task predicts of rows, with the weights of a checkpoint.

  Every process works by itself, on its own devices.

  Attributes:
    rows: of a batch.
    state: weights, on all devices of the mesh.
    step: see `steps.make_predict_step`.
  """

  def __init__(
    self,
    config: ml_collections.ConfigDict,
    checkpoint: str,
    row: Mapping[str, jax.ShapeDtypeStruct],
    batch_size: int | None = None,
  ):
    """Loads the weights.

    Args:
      config: of the run.
      checkpoint: its folder; '' for those of `with_weights`.
      row: shapes and dtypes of a row.
      batch_size: rows at once, at least one per device; None for one row, which
        one device works on.
    """
    devices = runtime.all_devices(local=True)
    self._mesh = meshes.make_mesh(devices if batch_size else devices[:1])
    self._backend = config.backend
    self.rows = -(-(batch_size or 1) // self._mesh.size) * self._mesh.size
    spec = {
      name: jax.ShapeDtypeStruct((self.rows, *leaf.shape), leaf.dtype)
      for name, leaf in row.items()
    }
    task = runs.make_task(config, spec)
    if checkpoint:
      self.state = runs.weights_only(task, checkpoint, self._mesh)
    self.step = steps.make_predict_step(
      task, mesh=self._mesh, backend=self._backend
    )

  def with_weights(self, state: TrainState) -> "Predictor":
    """The same with the weights of a state, which may be on any devices.

    What was compiled is shared.
    """
    other = copy.copy(self)
    other.state = runs.local_weights(state, meshes.replicated(self._mesh))
    return other

  def __call__(
    self, rows: Iterable[Mapping[str, np.ndarray]]
  ) -> Iterator[dict[str, np.ndarray]]:
    """Predicts rows, in batches of one size.

    Args:
      rows: any number, taken as they are needed; of one shape, or compiled
        anew for each.

    Yields:
      What `Task.predict` gives, without the axis of the batch, row by row.
    """
    rows, waiting = iter(rows), collections.deque()

    def fetch() -> Iterator[dict[str, np.ndarray]]:
      count, out = waiting.popleft()
      out = meshes.to_local(out, self._backend)
      for index in range(count):
        yield {name: values[index] for name, values in out.items()}

    while batch := list(itertools.islice(rows, self.rows)):
      count = len(batch)
      batch += [batch[-1]] * (self.rows - count)
      stacked = {
        name: np.stack([row[name] for row in batch]) for name in batch[0]
      }
      placed = meshes.to_global(stacked, self._mesh, self._backend)
      waiting.append((count, self.step(self.state, placed)))
      # The devices work on one batch while the one before is used.
      if len(waiting) > 1:
        yield from fetch()
    while waiting:
      yield from fetch()
