"""What a task is: pure functions that the compiled steps are made of."""

import contextlib
import contextvars
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from segsiam_jax.metrics.base import Mean, MetricState

PyTree = Any
# Static shapes; always 'mask': (B,) float32, 0 for a padding row, and 'index':
# (B,) int32, the example's in its source. A part of a batch also has 'row':
# (B,) int32, the rows' numbers in the global batch.
Batch = Mapping[str, jax.Array]
Metrics = dict[str, MetricState]


class LossOutput(NamedTuple):
  """What `Task.loss_fn` returns.

  Attributes:
    loss: () float32, already a mean over the global batch.
    model_state: new batch statistics, or {}.
    metrics: sums over the global batch, alike on all devices.
  """

  loss: jax.Array
  model_state: PyTree
  metrics: Metrics


class LossSums(NamedTuple):
  """A loss made of sums over rows: how a batch is split into parts.

  The sums of the parts are those of the batch, so that its loss and gradient
  are exact whatever each part holds: `loss` divides by the sums of the whole.

  Attributes:
    of: (params, model_state, batch, rng) -> (sums over this device's rows, new
      model state). No gradient passes through the sums of weights.
    loss: sums over the global batch -> (loss, metrics), linear in the sums of
      values.
    weights: batch -> its sums, of which those of weights alone are right; None
      where they are not known before the model is computed.
  """

  of: Callable[[PyTree, PyTree, Batch, jax.Array], tuple[Metrics, PyTree]]
  loss: Callable[[Metrics], tuple[jax.Array, Metrics]]
  weights: Callable[[Batch], Metrics] | None = None

  def loss_fn(self, axis_name: str | None) -> "LossFn":
    """The loss of a batch as a whole."""

    def loss_fn(params, model_state, batch, rng):
      sums, model_state = self.of(params, model_state, batch, rng)
      loss, metrics = self.loss(sum_over(axis_name, sums))
      return LossOutput(loss, model_state, metrics)

    return loss_fn


LossFn = Callable[[PyTree, PyTree, Batch, jax.Array], LossOutput]


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

  def write(self, workdir: str) -> None:
    """Writes what `--mode=eval` leaves, once gathered, on process 0."""

  def names(self) -> dict[str, str]:
    """What `compute` will find, before there is anything to compute.

    Returns:
      By name which values are better: 'max' or 'min', '' for neither.
    """
    return {}


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
    caption: what the parts of such a picture are, and the names of the classes
      whose colours it has.
    host_metrics: (source of the split, params) -> empty `HostMetrics`, which
      only know their names if params are None; or None. A row's `index` is its
      example's in the source.
    watch: training metrics by name -> a warning for people, or ''.
    plots: (host metrics of all processes, source, thorough) -> (h, w, 3) uint8
      pictures of the whole split by name; not `thorough` in training, which
      waits for them. Or None.
    sums: what `loss_fn` is made of. None where rows are compared with each
      other, so that a batch must be used whole.
  """

  init: Callable[[jax.Array], tuple[PyTree, PyTree]]
  loss_fn: LossFn
  eval_step: Callable[[PyTree, PyTree, Batch], Metrics]
  predict: Callable[[PyTree, PyTree, Batch], dict[str, jax.Array]]
  empty_metrics: Callable[[], Metrics]
  draw: Callable[[Batch, Mapping[str, np.ndarray]], list[np.ndarray]]
  host_metrics: Callable[[Any, PyTree], HostMetrics] | None = None
  watch: Callable[[Mapping[str, float]], str] = lambda values: ""
  plots: Callable[[Any, Any, bool], dict[str, np.ndarray]] | None = None
  sums: LossSums | None = None
  caption: tuple[str, tuple[str, ...]] = ("", ())


# (name, array) -> the array, laid out as the batch's array of that name.
Place = Callable[[str, jax.Array], jax.Array]
_place: contextvars.ContextVar[Place | None] = contextvars.ContextVar(
  "place", default=None
)


@contextlib.contextmanager
def placing(place: Place | None) -> Iterator[None]:
  """What `placed` does while a task is traced; None for nothing."""
  token = _place.set(place)
  try:
    yield
  finally:
    _place.reset(token)


def placed(name: str, array: jax.Array) -> jax.Array:
  """What is made of a batch's array by a gather, split over devices as it.

  The compiler would leave such an array whole on each device, and all that is
  computed from it.
  """
  place = _place.get()
  return array if place is None else place(name, array)


def sum_over(axis_name: str | None, sums: PyTree) -> PyTree:
  """Sums over the global batch.

  Args:
    axis_name: the pmap axis that the batch is spread over, or None where the
      arrays are global. The transpose of psum adds up over devices, so a
      gradient through it must be averaged over the axis, which `steps` does.
    sums: over this device's rows.
  """
  return sums if axis_name is None else jax.lax.psum(sums, axis_name)


def mean_of(sums: Mean) -> jax.Array:
  """Mean on the device, () float32; 0 if no row counts."""
  return sums.total / jnp.maximum(sums.count, 1.0)


def row_keys(
  rng: jax.Array,
  rows: int,
  axis_name: str | None,
  numbers: jax.Array | None = None,
) -> jax.Array:
  """One key a row, the same however the global batch is spread.

  Args:
    rng: the step's key.
    rows: number of rows in this function's view of the batch.
    axis_name: see `sum_over`.
    numbers: (rows,) the `row` of a part of a batch.

  Returns:
    (rows,) typed keys.
  """
  if numbers is None:
    numbers = first_row(rows, axis_name) + jnp.arange(rows)
  return jax.vmap(jax.random.fold_in, (None, 0))(rng, numbers)


def first_row(rows: int, axis_name: str | None) -> jax.Array | int:
  """The number of this device's first row in the global batch."""
  return 0 if axis_name is None else jax.lax.axis_index(axis_name) * rows


def dropout_key(
  rng: jax.Array, batch: Batch, axis_name: str | None
) -> jax.Array:
  """A key of this device's rows, and of this part of the batch."""
  if axis_name is not None:
    rng = jax.random.fold_in(rng, jax.lax.axis_index(axis_name))
  if "row" in batch:
    rng = jax.random.fold_in(rng, batch["row"][0])
  return rng
