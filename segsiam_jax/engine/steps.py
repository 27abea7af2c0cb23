"""The compiled steps: the only file that spreads the model over devices.

All backends share one body. Under 'jit' the batch is a global array, so that
sums, means and batch statistics are global without a collective in sight.
Under 'pmap' and 'shard_map' the body sees one device's rows, the task sums over
the axis, and gradients are averaged over it: the loss is the global mean on
every device, and the transpose of psum adds up over devices. Gradients of the
parts of a batch are of sums over a device's rows, and are summed.

Under 'jit' the mesh may also split parameters and images (see `meshes`). The
body gathers the parameters before it uses them: the compiler would otherwise
split the channels of activations as it finds the parameters split.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from segsiam_jax.engine import meshes
from segsiam_jax.engine.state import TrainState, frozen_parameters
from segsiam_jax.metrics.base import Mean, merge_all
from segsiam_jax.models.layers import frozen_norms
from segsiam_jax.ops.convolution import in_loop
from segsiam_jax.tasks.base import (
  Batch,
  LossOutput,
  Metrics,
  Place,
  PyTree,
  Task,
  first_row,
  placing,
  sum_over,
)

TrainStep = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]
EvalStep = Callable[
  [TrainState, Batch, Metrics], tuple[Metrics, dict[str, jax.Array]]
]
PredictStep = Callable[[TrainState, Batch], dict[str, jax.Array]]


def axis_name(backend: str) -> str | None:
  """The name that a task's collectives use: None under jit."""
  return None if backend == "jit" else meshes.AXIS


def _compile(
  body: Callable[..., Any],
  mesh: Mesh,
  backend: str,
  *,
  extra_args: int = 0,
  rows_out: bool | tuple[bool | None, ...],
  donate: tuple[int, ...] = (),
) -> Callable[..., Any]:
  """Compiles `body(state, batch, *extra)`.

  Args:
    body: its state and extra arguments are replicated, its batch is spread.
    mesh: the devices.
    backend: 'jit', 'pmap' or 'shard_map'.
    extra_args: number of replicated arguments after the batch.
    rows_out: whether the outputs have one row a batch row, spread like the
      batch; otherwise they are replicated. A tuple says so of each output;
      None is of a new state, which lies as `body` says.
    donate: positions of arguments whose memory the outputs may take.
  """
  if backend == "pmap":
    return jax.pmap(
      body,
      axis_name=meshes.AXIS,
      in_axes=(None, 0, *[None] * extra_args),
      out_axes=jax.tree.map(lambda rows: 0 if rows else None, rows_out),
      devices=mesh.devices.flatten().tolist(),
      donate_argnums=donate,
    )
  everywhere, by_rows = meshes.replicated(mesh), meshes.rows(mesh)
  plain = meshes.is_plain(mesh)
  outputs = jax.tree.map(
    lambda rows: by_rows if rows else everywhere,
    rows_out,
    is_leaf=lambda rows: plain and rows is None,
  )
  if not plain:
    # States and batches stay as they come.
    return jax.jit(body, out_shardings=outputs, donate_argnums=donate)
  inputs = (everywhere, by_rows, *[everywhere] * extra_args)
  if backend == "shard_map":
    # Replication is not tracked, so that gradients are those of pmap.
    specs = jax.tree.map(lambda sharding: sharding.spec, (inputs, outputs))
    body = jax.shard_map(
      body, mesh=mesh, in_specs=specs[0], out_specs=specs[1], check_vma=False
    )
  return jax.jit(
    body,
    in_shardings=inputs,
    out_shardings=outputs,
    donate_argnums=donate,
  )


def _place_on(mesh: Mesh) -> Place | None:
  if meshes.is_plain(mesh):
    return None
  return lambda name, array: jax.lax.with_sharding_constraint(
    array, meshes.of_batch(mesh, name, array.ndim)
  )


def _gathered(params: PyTree, mesh: Mesh) -> PyTree:
  """Parameters as every device needs them."""
  if meshes.is_plain(mesh):
    return params
  return jax.lax.with_sharding_constraint(params, meshes.replicated(mesh))


def _as_split(state: TrainState, mesh: Mesh) -> TrainState:
  """A new state, split as the one before."""
  if meshes.is_plain(mesh):
    return state
  return jax.lax.with_sharding_constraint(state, meshes.of_state(mesh, state))


def make_train_step(
  task: Task,
  tx: optax.GradientTransformation,
  *,
  mesh: Mesh,
  backend: str = "jit",
  grad_accum: int = 1,
  ema_decay: float = 0.0,
  frozen: str = "",
  reduce_dtype: str = "float32",
) -> TrainStep:
  """One optimizer step: (state, batch) -> (state, metrics); donates state.

  Args:
    task: made for this backend (see `axis_name`).
    tx: the optimizer.
    mesh: the devices.
    backend: 'jit', 'pmap' or 'shard_map'.
    grad_accum: number of equal parts that the batch is split into, used one
      after the other, to save memory. Loss and gradient are those of the whole
      batch. Batch statistics are those of a part, and the running ones take a
      step with each.
    ema_decay: largest decay of the average of the parameters; 0 for none. After
      n updates it is at most (1 + n) / (10 + n), so that the average forgets
      the first parameters.
    frozen: see `state.frozen_parameters`. Their gradients are 0, and are not
      computed; their batch norms keep their statistics, see
      `layers.frozen_norms`.
    reduce_dtype: in which devices add up gradients, under 'pmap' and
      'shard_map'.

  Returns:
    The step. Its metrics are sums over the global batch. They hold the norm of
    the gradient before clipping as 'grad_norm', and as 'finite' whether it and
    the loss are finite.
  """
  axis = axis_name(backend)
  if grad_accum > 1 and task.sums is None:
    raise ValueError("grad_accum > 1: this task needs the whole batch")

  def reduced(reduce, grads):
    """Gradients of all devices together, in float32."""
    if axis is None:
      return grads
    narrow = jax.tree.map(lambda leaf: leaf.astype(reduce_dtype), grads)
    wide = reduce(narrow, axis)
    return jax.tree.map(lambda a, b: a.astype(b.dtype), wide, grads)

  def learning(params):
    params = _gathered(params, mesh)
    return jax.tree.map(
      lambda leaf, stays: jax.lax.stop_gradient(leaf) if stays else leaf,
      params,
      frozen_parameters(params, frozen),
    )

  def loss(params, model_state, batch, rng):
    with frozen_norms(frozen), placing(_place_on(mesh)):
      out = task.loss_fn(learning(params), model_state, batch, rng)
    return out.loss, out

  def sums_of(params, model_state, batch, rng):
    with frozen_norms(frozen), placing(_place_on(mesh)):
      return task.sums.of(learning(params), model_state, batch, rng)

  def accumulate(state: TrainState, batch: Batch, rng: jax.Array):
    """Gradient of this device's rows, and the loss of the global batch."""
    rows = batch["mask"].shape[0]
    numbers = first_row(rows, axis) + jnp.arange(rows)
    # Part m is rows m, m + n, ...: each device keeps to its own rows.
    parts = jax.tree.map(
      lambda x: jnp.moveaxis(x.reshape(-1, grad_accum, *x.shape[1:]), 1, 0),
      {**batch, "row": numbers},
    )

    def total(of_parts):
      of_rows = jax.tree.map(lambda x: x.sum(0, dtype=x.dtype), of_parts)
      return sum_over(axis, of_rows)

    if task.sums.weights is not None:
      sums = sum_over(axis, task.sums.weights(batch))
    else:
      # Forward alone: what the sums are divided by.
      def look(model_state, part):
        sums, model_state = sums_of(state.params, model_state, part, rng)
        return model_state, sums

      sums = total(jax.lax.scan(look, state.model_state, parts)[1])
    slopes = jax.grad(lambda sums: task.sums.loss(sums)[0])(sums)

    def work(carry, part):
      model_state, so_far = carry
      sums, pull_back, model_state = jax.vjp(
        lambda params: sums_of(params, model_state, part, rng),
        state.params,
        has_aux=True,
      )
      [grads] = pull_back(slopes)
      return (model_state, jax.tree.map(jnp.add, so_far, grads)), sums

    zeros = jax.tree.map(jnp.zeros_like, state.params)
    with in_loop():
      (model_state, grads), of_parts = jax.lax.scan(
        work, (state.model_state, zeros), parts
      )
    loss, metrics = task.sums.loss(total(of_parts))
    return grads, LossOutput(loss, model_state, metrics)

  def train_step(state: TrainState, batch: Batch):
    rng = jax.random.fold_in(state.rng, state.step)
    if grad_accum > 1:
      grads, out = accumulate(state, batch, rng)
      grads = reduced(jax.lax.psum, grads)
    else:
      grads, out = jax.grad(loss, has_aux=True)(
        state.params, state.model_state, batch, rng
      )
      grads = reduced(jax.lax.pmean, grads)
    updates, opt_state = tx.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    ema_params = state.ema_params
    if ema_decay:
      decay = jnp.minimum(ema_decay, (1 + state.step) / (10 + state.step))
      ema_params = optax.incremental_update(
        params, state.ema_params, 1.0 - decay
      )
    grad_norm = optax.tree.norm(grads)
    metrics = out.metrics | {
      "grad_norm": Mean.of(grad_norm),
      "finite": Mean.of(jnp.isfinite(out.loss) & jnp.isfinite(grad_norm)),
    }
    new_state = state.replace(
      step=state.step + 1,
      params=params,
      model_state=out.model_state,
      opt_state=opt_state,
      ema_params=ema_params,
    )
    return _as_split(new_state, mesh), metrics

  return _compile(
    train_step, mesh, backend, rows_out=(None, False), donate=(0,)
  )


def make_eval_step(task: Task, *, mesh: Mesh, backend: str = "jit") -> EvalStep:
  """(state, batch, metrics so far) -> (metrics, predictions).

  Predictions are those of `make_predict_step`. The compiler sees that both
  apply the model to the same batch, and does so once. The metrics are donated.
  """
  axis = axis_name(backend)

  def eval_step(state: TrainState, batch: Batch, so_far: Metrics):
    weights = _gathered(state.eval_params, mesh), state.model_state
    metrics = sum_over(axis, task.eval_step(*weights, batch))
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
    params = _gathered(state.eval_params, mesh)
    return task.predict(params, state.model_state, batch)

  return _compile(predict_step, mesh, backend, rows_out=True)
