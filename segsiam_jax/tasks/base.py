"""What a task is: pure functions that the compiled steps are made of."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from segsiam_jax.metrics.base import MetricState

PyTree = Any
# Static shapes; always 'mask': (B,) float32, 0 for a padding row, and 'index':
# (B,) int32, the example's in its source.
Batch = Mapping[str, jax.Array]
Metrics = dict[str, MetricState]


class LossOutput(NamedTuple):
  """What `Task.loss_fn` returns.

  Attributes:
    loss: () float32, already a mean over the global batch.
    model_state: new batch statistics, or {}.
    metrics: sums over this device's rows.
  """

  loss: jax.Array
  model_state: PyTree
  metrics: Metrics


class HostMetrics(Protocol):
  """Metrics that need whole results rather than sums, such as COCO's AP.

  They are kept on the host, and made for the examples of one split.
  """

  def wants(self, batch: Batch) -> bool:
    """Whether `add` needs the predictions of this process's rows."""
    return True

  def add(self, batch: Batch, predictions: Mapping[str, np.ndarray]) -> None:
    """Takes this process's rows of a batch; padding rows have mask 0."""

  def gather(self) -> "HostMetrics":
    """Those of all processes together, on every process."""

  def sums(self) -> Metrics:
    """What `Task.eval_step` left out, of all processes once gathered."""
    return {}

  def compute(self) -> dict[str, float]:
    """The metrics by name, without those of `sums`."""


class Task(NamedTuple):
  """Pure functions of parameters and batches.

  Attributes:
    init: rng -> (params, model_state).
    loss_fn: (params, model_state, batch, rng) -> LossOutput, for training.
    eval_step: (params, model_state, batch) -> metrics of the batch.
    predict: (params, model_state, batch) -> arrays, one row a batch row.
    empty_metrics: () -> metrics of no examples, as `eval_step` returns them.
    draw: (batch, predictions), both on the host -> one (h, w, 3) uint8 picture
      a valid row, for people to look at.
    host_metrics: source of the split -> empty `HostMetrics`, or None. A row's
      `index` is its example's in the source.
    watch: training metrics by name -> a warning for people, or ''.
    plots: (host metrics of all processes, source, thorough) -> (h, w, 3) uint8
      pictures of the whole split by name; not `thorough` in training, which
      waits for them. Or None.
    results: host metrics of all processes -> all detections of the split, one
      by one, in COCO's format. Or None.
  """

  init: Callable[[jax.Array], tuple[PyTree, PyTree]]
  loss_fn: Callable[[PyTree, PyTree, Batch, jax.Array], LossOutput]
  eval_step: Callable[[PyTree, PyTree, Batch], Metrics]
  predict: Callable[[PyTree, PyTree, Batch], dict[str, jax.Array]]
  empty_metrics: Callable[[], Metrics]
  draw: Callable[[Batch, Mapping[str, np.ndarray]], list[np.ndarray]]
  host_metrics: Callable[[Any], HostMetrics] | None = None
  watch: Callable[[Mapping[str, float]], str] = lambda values: ""
  plots: Callable[[Any, Any, bool], dict[str, np.ndarray]] | None = None
  results: Callable[[Any], Iterator[dict[str, Any]]] | None = None


def global_mean(
  values: jax.Array, weights: jax.Array, axis_name: str | None
) -> jax.Array:
  """Weighted mean over the rows of the global batch.

  Args:
    values: (B,) float32; where the weight is 0, anything.
    weights: (B,) float32: the mask, or how many terms a value stands for.
    axis_name: the pmap axis that the batch is spread over, or None where the
      arrays are global. Under pmap every device returns the same mean; the
      transpose of psum adds up over devices, so a gradient of it must be
      averaged over the axis, which `steps` does.

  Returns:
    () float32; 0 if no row counts.
  """
  counted = jnp.where(weights > 0, weights * values, 0.0)
  total, count = counted.sum(), weights.sum()
  if axis_name is not None:
    total, count = jax.lax.psum((total, count), axis_name)
  return total / jnp.maximum(count, 1.0)


def row_keys(rng: jax.Array, rows: int, axis_name: str | None) -> jax.Array:
  """One key a row, the same however the global batch is spread.

  Args:
    rng: the step's key.
    rows: number of rows in this function's view of the batch.
    axis_name: see `global_mean`.

  Returns:
    (rows,) typed keys.
  """
  start = 0
  if axis_name is not None:
    start = jax.lax.axis_index(axis_name) * rows
  return jax.vmap(jax.random.fold_in, (None, 0))(rng, start + jnp.arange(rows))
