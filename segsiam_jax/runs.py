"""What training, evaluation and prediction do alike with a run's config."""

import json
import logging
from collections.abc import Mapping
from typing import Any

import jax
import ml_collections
import numpy as np

from segsiam_jax import (
  checkpoint,
  finite,
  inputs,
  paths,
  steps,
  tasks,
  workdir_config,
)
from segsiam_jax.errors import UserError, shown
from segsiam_jax.state import TrainState
from segsiam_jax.tasks.base import PyTree, Task

_logger = logging.getLogger(__name__)

# What a run is: a workdir does not change these. The data position in a
# checkpoint would mean other examples, or the arrays would not fit.
_IDENTITY = (
  "task",
  "seed",
  "model",
  "data.name",
  "data.train_split",
  "data.train_fraction",
  "data.channels",
  "data.class_names",
  "data.buckets",
  "data.min_side",
  "data.max_side",
  "data.workers",
  "train.batch_size",
  "optimizer.name",
)


def with_data(
  config: ml_collections.ConfigDict, class_names: tuple[str, ...]
) -> ml_collections.ConfigDict:
  """A copy that knows its classes and their weights.

  So prediction needs no data set, and evaluation the same loss.
  """
  config = config.copy_and_resolve_references()
  config.data.class_names = tuple(class_names)
  loss = config.get("loss", {})
  if loss.get("balance", "none") != "none" and not loss.class_weights:
    counts = np.maximum(inputs.class_pixels(config), 1)
    rarity = counts.sum() / counts
    if loss.balance == "inverse_sqrt":
      rarity = np.sqrt(rarity)
    weights = rarity / rarity.mean()
    loss.class_weights = tuple(round(float(x), 4) for x in weights)
    _logger.info(
      "class weights: %s",
      ", ".join(
        f"{name} {weight}"
        for name, weight in zip(class_names, loss.class_weights, strict=True)
      ),
    )
  return config


def make_task(
  config: ml_collections.ConfigDict,
  element_spec: Mapping[str, jax.ShapeDtypeStruct],
) -> Task:
  """The task of a config, for its backend."""
  axis_name = steps.axis_name(config.backend)
  return tasks.TASKS[config.task](config, element_spec, axis_name)


def weights_only(
  task: Task, checkpoint_folder: str, sharding: jax.sharding.Sharding
) -> TrainState:
  """A state to evaluate or predict with: no optimizer, no average.

  Raises:
    UserError: the weights do not fit the task, or are not finite.
  """
  params, model_state = jax.eval_shape(task.init, jax.random.key(0))

  def place(leaf):
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

  params, model_state = checkpoint.restore_weights(
    checkpoint_folder, *jax.tree.map(place, (params, model_state))
  )
  state = _bare_state(params, model_state, sharding)
  finite.require_finite(state.weights, checkpoint_folder)
  return state


def local_weights(
  state: TrainState, sharding: jax.sharding.Sharding
) -> TrainState:
  """The weights that a state is evaluated with, on devices of this process.

  Args:
    state: replicated on all devices of all processes, or on those of this one.
    sharding: of devices of this process.
  """

  def place(leaf: jax.Array) -> jax.Array:
    return jax.device_put(leaf.addressable_shards[0].data, sharding)

  weights = jax.tree.map(place, (state.eval_params, state.model_state))
  return _bare_state(*weights, sharding)


def _bare_state(
  params: PyTree, model_state: PyTree, sharding: jax.sharding.Sharding
) -> TrainState:
  return TrainState(
    step=jax.device_put(0, sharding),
    params=params,
    model_state=model_state,
    opt_state=(),
    rng=jax.device_put(jax.random.key(0), sharding),
  )


def save_config(config: ml_collections.ConfigDict, workdir: str) -> None:
  """Writes workdir/config.json on process 0."""
  if jax.process_index() == 0:
    text = json.dumps(_plain(config), indent=2, sort_keys=True)
    paths.write_text(
      paths.resolve(workdir) / workdir_config.CONFIG_FILE, text + "\n"
    )


def check_same_run(config: ml_collections.ConfigDict, workdir: str) -> None:
  """Raises `UserError` if the workdir holds another run; logs small changes."""
  saved = workdir_config.read(workdir)
  if saved is None:
    return
  before, now = _flat(_plain(saved)), _flat(_plain(config))
  changed = [
    name
    for name in sorted({*before, *now})
    if before.get(name) != now.get(name)
  ]
  for name in changed:
    if any(name == part or name.startswith(part + ".") for part in _IDENTITY):
      raise UserError(
        f"--workdir={workdir}: holds a run with config.{name} = "
        f"{shown(before.get(name))}, and this one has {shown(now.get(name))}; "
        "use another --workdir (config.init_from loads weights from this one)"
      )
    _logger.info(
      "config.%s: %r before, %r now", name, before.get(name), now.get(name)
    )


def _plain(config: ml_collections.ConfigDict) -> dict[str, Any]:
  """Nested dictionaries as JSON would give them back."""
  return json.loads(config.to_json_best_effort())


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
  flat = {}
  for name, value in tree.items():
    if isinstance(value, Mapping):
      flat |= _flat(value, f"{prefix}{name}.")
    else:
      flat[prefix + name] = value
  return flat
