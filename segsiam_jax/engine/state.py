"""The training state, and the optimizers that change it."""

import collections
import functools
import re
from collections.abc import Callable, Sequence
from typing import Any

import flax
import jax
import jax.numpy as jnp
import ml_collections
import optax

from segsiam_jax.engine import room
from segsiam_jax.errors import UserError
from segsiam_jax.tasks.base import PyTree, Task

Placement = jax.sharding.Sharding | Callable[["TrainState"], "TrainState"]


@flax.struct.dataclass
class TrainState:
  """Everything that training changes: a plain pytree.

  Attributes:
    step: () int32, optimizer steps taken.
    params: float32 parameters.
    model_state: batch statistics, or {}.
    opt_state: optax state.
    rng: typed key; a step uses `fold_in(rng, step)`.
    ema_params: moving average of params, or None.
  """

  step: jax.Array
  params: PyTree
  model_state: PyTree
  opt_state: Any
  rng: jax.Array
  ema_params: PyTree | None = None

  @property
  def eval_params(self) -> PyTree:
    """The parameters to evaluate with: the average where there is one."""
    return self.params if self.ema_params is None else self.ema_params

  @property
  def weights(self) -> dict[str, PyTree]:
    """All that evaluation may read, by name."""
    names = ("params", "model_state", "ema_params")
    return {name: getattr(self, name) for name in names}


def create_state(
  task: Task,
  tx: optax.GradientTransformation,
  seed: int,
  *,
  ema: bool = False,
  sharding: Placement | None = None,
) -> TrainState:
  """Initial state, made on the devices by one compiled function.

  Args:
    task: provides `init`.
    tx: provides the optimizer's state.
    seed: of the parameters and of everything random later.
    ema: whether to keep an average of the parameters.
    sharding: where the state lives; or a function that says so of each of its
      arrays.

  Raises:
    UserError: no device has room for it.
  """

  create = functools.partial(new_state, task, tx, seed, ema=ema)
  shapes = jax.eval_shape(create)
  if callable(sharding):
    sharding = sharding(shapes)
  room.check_state(shapes if sharding is None else placed(shapes, sharding))
  return jax.jit(create, out_shardings=sharding)()


def placed(tree: PyTree, sharding: PyTree) -> PyTree:
  """Shapes and dtypes of a tree, each with where it lies.

  Args:
    tree: arrays or `jax.ShapeDtypeStruct`s.
    sharding: of all of them, or a tree with one of each.
  """
  if isinstance(sharding, jax.sharding.Sharding):
    sharding = jax.tree.map(lambda leaf: sharding, tree)
  return jax.tree.map(
    lambda leaf, where: jax.ShapeDtypeStruct(
      leaf.shape, leaf.dtype, sharding=where
    ),
    tree,
    sharding,
  )


def new_state(
  task: Task, tx: optax.GradientTransformation, seed: int, *, ema: bool
) -> TrainState:
  """What `create_state` compiles."""
  init_rng, rng = jax.random.split(jax.random.key(seed))
  params, model_state = task.init(init_rng)
  return TrainState(
    step=jnp.zeros((), jnp.int32),
    params=params,
    model_state=model_state,
    opt_state=tx.init(params),
    rng=rng,
    # A copy: both are donated, and a buffer can be donated once.
    ema_params=jax.tree.map(jnp.copy, params) if ema else None,
  )


def make_schedule(
  config: ml_collections.ConfigDict, total_steps: int
) -> optax.Schedule:
  """Learning rate by step: linear warm-up, then `config.schedule`.

  Args:
    config: `config.optimizer`.
    total_steps: the rate reaches its end here.
  """
  peak, warmup = config.learning_rate, config.warmup_steps
  rest = max(1, total_steps - warmup)
  if config.schedule == "constant":
    decay = optax.constant_schedule(peak)
  elif config.schedule == "cosine":
    decay = optax.cosine_decay_schedule(peak, rest, alpha=config.end_factor)
  elif config.schedule == "polynomial":
    decay = optax.polynomial_schedule(
      peak, peak * config.end_factor, config.power, rest
    )
  elif config.schedule == "step":
    # Two fractions of all steps may be one step: there it drops twice.
    drops = collections.Counter(
      round(fraction * total_steps) - warmup
      for fraction in config.step_boundaries
    )
    factors = {step: config.step_factor**n for step, n in drops.items()}
    decay = optax.piecewise_constant_schedule(peak, factors)
  else:
    raise ValueError(f"unknown schedule {config.schedule!r}")
  if not warmup:
    return decay
  # The first step already learns: (step + 1) / warmup.
  ramp = optax.linear_schedule(peak / warmup, peak, max(1, warmup - 1))
  return optax.join_schedules([ramp, decay], [warmup])


def decayed(params: PyTree) -> PyTree:
  """Which parameters weight decay applies to: kernels, not biases or scales."""
  return jax.tree.map(lambda leaf: leaf.ndim > 1, params)


def frozen_parameters(params: PyTree, pattern: str) -> PyTree:
  """Which parameters do not learn.

  Args:
    params: of the model.
    pattern: `optimizer.frozen`: regular expression, searched in names such as
      'encoder/layer1_0/conv1/kernel'; '' for none.

  Returns:
    A bool a leaf.

  Raises:
    UserError: the pattern matches no name, or all of them.
  """
  if not pattern:
    return jax.tree.map(lambda leaf: False, params)
  matches = _matches(params, pattern, "frozen")
  if all(jax.tree.leaves(matches)):
    raise UserError(
      f"config.optimizer.frozen = {pattern!r}: matches every parameter, so "
      "nothing would be trained"
    )
  return matches


def _matches(params: PyTree, pattern: str, field: str) -> PyTree:
  """Whether a name holds the pattern, a leaf; an error if none does."""
  names = jax.tree_util.tree_map_with_path(
    lambda path, leaf: jax.tree_util.keystr(path, simple=True, separator="/"),
    params,
  )
  matches = jax.tree.map(lambda name: bool(re.search(pattern, name)), names)
  if not any(jax.tree.leaves(matches)):
    some = ", ".join(jax.tree.leaves(names)[:3])
    raise UserError(
      f"config.optimizer.{field}: {pattern!r} matches no parameter; their "
      f"names are such as {some}"
    )
  return matches


def _scale_rates(rate_scales: Sequence[str]) -> optax.GradientTransformation:
  """Multiplies updates by the factor of the first pattern that matches."""
  rules = [
    (pattern, float(factor))
    for pattern, _, factor in (rule.rpartition("=") for rule in rate_scales)
  ]

  def scale(updates: PyTree, params: PyTree) -> PyTree:
    factors = jax.tree.map(lambda leaf: 1.0, params)
    for pattern, factor in reversed(rules):
      matches = _matches(params, pattern, "rate_scales")
      factors = jax.tree.map(
        lambda hit, old, factor=factor: factor if hit else old,
        matches,
        factors,
      )
    return jax.tree.map(lambda update, by: by * update, updates, factors)

  return optax.stateless(scale)


def make_optimizer(
  config: ml_collections.ConfigDict, total_steps: int
) -> tuple[optax.GradientTransformation, optax.Schedule]:
  """The optimizer that `config.optimizer` describes.

  Parameters that `frozen` names get no update and no optimizer state.

  Args:
    config: `config.optimizer`.
    total_steps: see `make_schedule`.

  Returns:
    The transformation and its schedule. For 'sgd' and 'momentum' weight decay
    is added to the gradient (as in torch.optim.SGD); for 'adamw' and 'lamb' it
    is decoupled (scaled by the learning rate, not by the gradient's moments).
  """
  schedule = make_schedule(config, total_steps)
  decay = {"weight_decay": config.weight_decay, "mask": decayed}
  moments = {"b1": config.b1, "b2": config.b2, "eps": config.eps}
  if config.name == "sgd":
    parts = [optax.add_decayed_weights(**decay), optax.sgd(schedule)]
  elif config.name == "momentum":
    parts = [
      optax.add_decayed_weights(**decay),
      optax.sgd(schedule, config.momentum, nesterov=config.nesterov),
    ]
  elif config.name == "adamw":
    parts = [optax.adamw(schedule, **moments, **decay)]
  elif config.name == "lamb":
    parts = [optax.lamb(schedule, **moments, **decay)]
  else:
    raise ValueError(f"unknown optimizer {config.name!r}")
  if config.clip_norm:
    parts.insert(0, optax.clip_by_global_norm(config.clip_norm))
  if config.rate_scales:
    parts.append(_scale_rates(config.rate_scales))
  tx = optax.chain(*parts)
  if config.frozen:
    tx = optax.partition(
      {False: tx, True: optax.set_to_zero()},
      lambda params: frozen_parameters(params, config.frozen),
    )
  return tx, schedule
