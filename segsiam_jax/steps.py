"""The compiled steps: the only file that calls jit or pmap on the model.

Both backends share one body. Under 'jit' the batch is a global array, so that
sums, means and batch statistics are global without a collective in sight.
Under 'pmap' the body sees one device's rows, the task sums over the axis, and
gradients are averaged over it: the loss is the global mean on every device,
and the transpose of psum adds up over devices.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from segsiam_jax import runtime
from segsiam_jax.metrics.base import Mean, merge_all
from segsiam_jax.state import TrainState, frozen_parameters
from segsiam_jax.tasks.base import Batch, LossOutput, Metrics, Task

TrainStep = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]
EvalStep = Callable[
  [TrainState, Batch, Metrics], tuple[Metrics, dict[str, jax.Array]]
]
PredictStep = Callable[[TrainState, Batch], dict[str, jax.Array]]


def axis_name(backend: str) -> str | None:
  """The name that a task's collectives use: None under jit."""
  return runtime.AXIS if backend == "pmap" else None


def _compile(
  body: Callable[..., Any],
  mesh: Mesh,
  backend: str,
  *,
  extra_args: int = 0,
  rows_out: bool | tuple[bool, ...] = False,
  donate: tuple[int, ...] = (),
) -> Callable[..., Any]:
  """Compiles `body(state, batch, *extra)`.

  Args:
    body: its state and extra arguments are replicated, its batch is spread.
    mesh: the devices.
    backend: 'jit' or 'pmap'.
    extra_args: number of replicated arguments after the batch.
    rows_out: whether the outputs have one row a batch row, spread like the
      batch; otherwise they are replicated. A tuple says so of each output.
    donate: positions of arguments whose memory the outputs may take.
  """
  if backend == "pmap":
    return jax.pmap(
      body,
      axis_name=runtime.AXIS,
      in_axes=(None, 0, *[None] * extra_args),
      out_axes=jax.tree.map(lambda rows: 0 if rows else None, rows_out),
      devices=mesh.devices.flatten().tolist(),
      donate_argnums=donate,
    )
  everywhere = NamedSharding(mesh, P())
  spread = NamedSharding(mesh, P(runtime.AXIS))
  return jax.jit(
    body,
    in_shardings=(everywhere, spread, *[everywhere] * extra_args),
    out_shardings=jax.tree.map(
      lambda rows: spread if rows else everywhere, rows_out
    ),
    donate_argnums=donate,
  )


def _sum_over(axis: str | None, metrics: Metrics) -> Metrics:
  return metrics if axis is None else jax.lax.psum(metrics, axis)


def make_train_step(
  task: Task,
  tx: optax.GradientTransformation,
  *,
  mesh: Mesh,
  backend: str = "jit",
  grad_accum: int = 1,
  ema_decay: float = 0.0,
  frozen: str = "",
) -> TrainStep:
  """One optimizer step: (state, batch) -> (state, metrics); donates state.

  Args:
    task: made for this backend (see `axis_name`).
    tx: the optimizer.
    mesh: the devices.
    backend: 'jit' or 'pmap'.
    grad_accum: number of equal parts that the batch is worked through in, one
      after the other, to save memory. Batch statistics are those of a part.
    ema_decay: of the average of the parameters; 0 for none.
    frozen: see `state.frozen_parameters`. Their gradients are 0, and are not
      computed.

  Returns:
    The step. Its metrics are summed over the global batch, and hold the norm
    of the gradient before clipping as 'grad_norm'.
  """
  axis = axis_name(backend)

  def loss(params, model_state, batch, rng):
    params = jax.tree.map(
      lambda leaf, stays: jax.lax.stop_gradient(leaf) if stays else leaf,
      params,
      frozen_parameters(params, frozen),
    )
    out = task.loss_fn(params, model_state, batch, rng)
    return out.loss, out

  def accumulate(state: TrainState, batch: Batch, rng: jax.Array):
    """Mean gradient of the parts, last model state, summed metrics."""
    # Part m is rows m, m + n, ...: each device keeps to its own rows.
    parts = jax.tree.map(
      lambda x: jnp.moveaxis(x.reshape(-1, grad_accum, *x.shape[1:]), 1, 0),
      dict(batch),
    )

    def work(carry, indexed):
      model_state, total = carry
      index, part = indexed
      part_rng = jax.random.fold_in(rng, index)
      grads, out = jax.grad(loss, has_aux=True)(
        state.params, model_state, part, part_rng
      )
      total = jax.tree.map(lambda a, b: a + b / grad_accum, total, grads)
      return (out.model_state, total), out.metrics

    zeros = jax.tree.map(jnp.zeros_like, state.params)
    (model_state, grads), metrics = jax.lax.scan(
      work,
      (state.model_state, zeros),
      (jnp.arange(grad_accum), parts),
    )
    metrics = jax.tree.map(lambda x: x.sum(0, dtype=x.dtype), metrics)
    return grads, LossOutput(jnp.zeros(()), model_state, metrics)

  def train_step(state: TrainState, batch: Batch):
    rng = jax.random.fold_in(state.rng, state.step)
    if grad_accum > 1:
      grads, out = accumulate(state, batch, rng)
    else:
      grads, out = jax.grad(loss, has_aux=True)(
        state.params, state.model_state, batch, rng
      )
    if axis is not None:
      grads = jax.lax.pmean(grads, axis)
    updates, opt_state = tx.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    ema_params = state.ema_params
    if ema_decay:
      ema_params = optax.incremental_update(
        params, state.ema_params, 1.0 - ema_decay
      )
    metrics = _sum_over(axis, out.metrics)
    metrics["grad_norm"] = Mean.of(optax.tree.norm(grads))
    new_state = state.replace(
      step=state.step + 1,
      params=params,
      model_state=out.model_state,
      opt_state=opt_state,
      ema_params=ema_params,
    )
    return new_state, metrics

  return _compile(train_step, mesh, backend, donate=(0,))


def make_eval_step(task: Task, *, mesh: Mesh, backend: str = "jit") -> EvalStep:
  """(state, batch, metrics so far) -> (metrics, predictions).

  Predictions are those of `make_predict_step`. The compiler sees that both
  apply the model to the same batch, and does so once. The metrics are donated.
  """
  axis = axis_name(backend)

  def eval_step(state: TrainState, batch: Batch, so_far: Metrics):
    weights = state.eval_params, state.model_state
    metrics = _sum_over(axis, task.eval_step(*weights, batch))
    return merge_all(so_far, metrics), task.predict(*weights, batch)

  return _compile(
    eval_step,
    mesh,
    backend,
    extra_args=1,
    rows_out=(False, True),
    donate=(2,),
  )


def make_predict_step(
  task: Task, *, mesh: Mesh, backend: str = "jit"
) -> PredictStep:
  """(state, batch) -> predictions, one row a batch row, spread like it."""

  def predict_step(state: TrainState, batch: Batch) -> dict[str, jax.Array]:
    return task.predict(state.eval_params, state.model_state, batch)

  return _compile(predict_step, mesh, backend, rows_out=True)
