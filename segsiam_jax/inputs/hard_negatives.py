"""Hardest negatives of a whole training split, searched for now and then.

Every `batch.mine_every` steps all training images are embedded, and for each
the nearest images of other identities are kept. Batches planned from then on
are made of them. What was found is kept in WORKDIR/negatives, so that a run
that resumes goes on with the very same batches; what an older checkpoint needs
goes into that checkpoint's folder, and lives as long as it does.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from etils import epath
from jax.sharding import Mesh

from segsiam_jax.engine import checkpoint, hooks, meshes, steps
from segsiam_jax.engine.state import TrainState
from segsiam_jax.errors import UserError, first_line
from segsiam_jax.files import paths
from segsiam_jax.inputs import Inputs
from segsiam_jax.metrics.gather import gather
from segsiam_jax.ops.distances import Metric, pairwise_distances
from segsiam_jax.tasks.base import Task

FOLDER = "negatives"

# Distances that are held at a time.
_BLOCK_FLOATS = 1 << 26


class Miner(hooks.Hooks):
  """Searches when it is due, and gives the batches what it finds."""

  def __init__(
    self,
    config: ml_collections.ConfigDict,
    task: Task,
    data: Inputs,
    mesh: Mesh,
    workdir: str,
  ):
    """Prepares, and searches nothing yet.

    Args:
      config: of the run; without `batch.mine_every` nothing is mined.
      task: made for the config's backend.
      data: of the training split.
      mesh: the devices.
      workdir: of the run.
    """
    self._data, self._mesh, self._backend = data, mesh, config.backend
    self._folder = paths.resolve(workdir) / FOLDER
    self._every = 0
    if config.batch.mine_every:
      self._every = config.batch.mine_every
      self._count = config.batch.mine_count
      head = config.model.head
      # The learned weights may be of either sign: no metric.
      self._metric = "l1" if head == "learned" else head
      self._embed = steps.make_predict_step(
        task, mesh=mesh, backend=config.backend
      )

  def resume(
    self, step: int, iterator: Any, saved: checkpoint.Checkpointer
  ) -> Any:
    """The iterator to go on with at `step`, and what was found before."""
    last = self._last(step)
    if not last:
      return iterator
    path = self._folder / f"{last}.npy"
    inside = saved.folder(step) / FOLDER / path.name
    if not path.exists() and not inside.exists():
      raise UserError(
        f"{path}: missing, and the batches after step {last} are made of it; "
        "use another --workdir (config.init_from loads weights from this one)"
      )
    path = path if path.exists() else inside
    try:
      with path.open("rb") as file:
        negatives = np.load(file)
    except (OSError, ValueError, EOFError) as error:
      raise UserError(
        f"{path}: damaged ({first_line(error)}), and the batches after step "
        f"{last} are made from it; use another --workdir"
      ) from error
    return self._restart(negatives, iterator)

  def after(
    self,
    step: int,
    state: TrainState,
    iterator: Any,
    saved: checkpoint.Checkpointer,
  ) -> Any:
    """The iterator to go on with after `step`; searches if it is due."""
    if not self._every or step % self._every:
      return iterator
    negatives = self.search(state)
    if jax.process_index() == 0:
      self._folder.mkdir(exist_ok=True)
      path = self._folder / f"{step}.npy"
      with paths.write_whole(path, "wb") as file:
        np.save(file, negatives)
      for old in list(self._folder.iterdir()):
        # A checkpoint from before the last search may still be resumed.
        if old.suffix == ".npy" and int(old.stem) < step - self._every:
          self._retire(old, saved)
    return self._restart(negatives, iterator)

  def _retire(self, old: epath.Path, saved: checkpoint.Checkpointer) -> None:
    """Removes a file, once the checkpoints that need it have it."""
    saved.wait()
    for step in saved.steps:
      folder = saved.folder(step)
      if self._last(step) == int(old.stem) and folder.exists():
        (folder / FOLDER).mkdir(exist_ok=True)
        old.copy(folder / FOLDER / old.name, overwrite=True)
    old.unlink()

  def _last(self, step: int) -> int:
    """The step of the search that batches after `step` are made of; 0: none."""
    return step - step % self._every if self._every else 0

  def search(self, state: TrainState) -> np.ndarray:
    """(n, k) int64, see `sampling.BatchPlan.use_negatives`."""
    rows: list[tuple[int, np.ndarray]] = []
    iterator = iter(self._data.once)
    for batch in iterator:
      placed = meshes.to_global(batch, self._mesh, self._backend)
      out = meshes.to_local(self._embed(state, placed), self._backend)
      rows += [
        (int(batch["index"][row]), out["embeddings"][row])
        for row in np.flatnonzero(batch["mask"])
      ]
    iterator.close()
    rows = sorted(gather(rows), key=lambda row: row[0])
    source = self._data.source
    labels = np.asarray(source.labels)
    contents = source.contents
    if contents is None:
      contents = np.arange(len(labels))
    return hardest_negatives(
      np.stack([embedding for _, embedding in rows]),
      labels,
      np.asarray(contents),
      count=self._count,
      metric=self._metric,
    )

  def _restart(self, negatives: np.ndarray, iterator: Any) -> Any:
    """The same position, but nothing that was read ahead."""
    position = iterator.get_state()
    iterator.close()
    self._data.plan.use_negatives(negatives)
    iterator = iter(self._data.batches)
    iterator.set_state(position)
    return iterator


def hardest_negatives(
  embeddings: np.ndarray,
  labels: np.ndarray,
  contents: np.ndarray,
  *,
  count: int,
  metric: Metric = "euclidean",
) -> np.ndarray:
  """The nearest examples of other identities.

  Args:
    embeddings: (n, D).
    labels: (n,) int.
    contents: (n,) int, equal for exact copies, which are never taken.
    count: how many of each.
    metric: of `pairwise_distances`.

  Returns:
    (n, count) int64 indices, nearest first; -1 where there are fewer.

  >>> hardest_negatives(
  ...   np.array([[0.0], [1.0], [3.0]]), np.array([0, 0, 1]), np.arange(3),
  ...   count=2,
  ... ).tolist()
  [[2, -1], [2, -1], [1, 0]]
  """
  size = len(labels)
  count = min(count, size)
  block = min(size, max(1, _BLOCK_FLOATS // size))
  everything = jax.device_put((embeddings, labels, contents))
  found = []
  for start in range(0, size, block):
    # The last block starts earlier: one shape, one compilation.
    start = min(start, size - block)
    part = slice(start, start + block)
    found.append(
      (
        start,
        _nearest_others(
          embeddings[part],
          labels[part],
          contents[part],
          *everything,
          count=count,
          metric=metric,
        ),
      )
    )
  out = np.full((size, count), -1, np.int64)
  for start, indices in found:
    out[start : start + block] = np.asarray(indices)
  return out


@functools.partial(jax.jit, static_argnames=("count", "metric"))
def _nearest_others(
  queries,
  query_labels,
  query_contents,
  vectors,
  labels,
  contents,
  *,
  count: int,
  metric: Metric,
) -> jax.Array:
  distances = pairwise_distances(queries, vectors, metric)
  other = (query_labels[:, None] != labels) & (
    query_contents[:, None] != contents
  )
  negated, index = jax.lax.top_k(jnp.where(other, -distances, -jnp.inf), count)
  return jnp.where(negated > -jnp.inf, index, -1)
