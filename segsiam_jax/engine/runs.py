"""What training, evaluation and prediction do alike with a run's config."""

import contextlib
import json
import logging
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import ml_collections
import optax
from flax import traverse_util
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from segsiam_jax import parts
from segsiam_jax.config import of_workdir
from segsiam_jax.engine import checkpoint, finite, meshes, steps
from segsiam_jax.engine.state import TrainState, placed
from segsiam_jax.errors import UserError, shown
from segsiam_jax.fields import tasks
from segsiam_jax.files import lock, paths
from segsiam_jax.metrics.gather import gather
from segsiam_jax.tasks.base import PyTree, Task

_logger = logging.getLogger(__name__)

# Steps between evaluations and checkpoints of small sets' epochs.
_FEWEST_BETWEEN = 50

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
  "train.batch_size",
  "optimizer.name",
)


def in_steps(
  config: ml_collections.ConfigDict, examples: int
) -> ml_collections.ConfigDict:
  """A copy whose epochs and fractions are steps.

  Args:
    config: of the run.
    examples: of the training split.
  """
  config = config.copy_and_resolve_references()
  train, optimizer = config.train, config.optimizer
  epoch = max(_FEWEST_BETWEEN, round(examples / train.batch_size))
  if train.epochs:
    steps_of_all = train.epochs * examples / train.batch_size
    train.num_steps = max(1, round(steps_of_all))
  for name in ("eval_every", "checkpoint_every"):
    train[name] = train[name] or epoch
  if optimizer.warmup_fraction:
    share = optimizer.warmup_fraction * train.num_steps
    optimizer.warmup_steps = min(round(share), train.num_steps - 1)
  if optimizer.warmup_steps >= train.num_steps:
    raise UserError(
      f"config.optimizer.warmup_steps = {optimizer.warmup_steps}: not below "
      f"the {train.num_steps} steps of config.train.epochs = {train.epochs}"
    )
  return config


def make_task(
  config: ml_collections.ConfigDict,
  element_spec: Mapping[str, jax.ShapeDtypeStruct],
) -> Task:
  """The task of a config, for its backend."""
  make = parts.load(tasks.find(config.task).make_task)
  return make(config, element_spec, steps.axis_name(config.backend))


def make_train_step(
  config: ml_collections.ConfigDict,
  task: Task,
  tx: optax.GradientTransformation,
  mesh: Mesh,
) -> steps.TrainStep:
  """The train step of a config; see `steps.make_train_step`."""
  return steps.make_train_step(
    task,
    tx,
    mesh=mesh,
    backend=config.backend,
    grad_accum=config.train.grad_accum,
    ema_decay=config.train.ema_decay,
    frozen=config.optimizer.frozen,
    reduce_dtype=config.train.reduce_dtype,
  )


def weights_only(task: Task, checkpoint_folder: str, mesh: Mesh) -> TrainState:
  """A state to evaluate or predict with: no optimizer, no average.

  Raises:
    UserError: the weights do not fit the task, or are not finite.
  """
  shapes = jax.eval_shape(lambda: _bare_state(*task.init(jax.random.key(0))))

  wanted = placed(shapes, meshes.of_state(mesh, shapes))
  params, model_state = checkpoint.restore_weights(
    checkpoint_folder, wanted.params, wanted.model_state
  )
  state = _bare_state(params, model_state, meshes.replicated(mesh))
  finite.require_finite(state.weights, checkpoint_folder)
  return state


def local_weights(
  state: TrainState, sharding: jax.sharding.Sharding
) -> TrainState:
  """The weights that a state is evaluated with, on devices of this process.

  Args:
    state: of a run, however it is split.
    sharding: of devices of this process.
  """

  def place(leaf: jax.Array) -> jax.Array:
    if leaf.is_fully_replicated:
      leaf = leaf.addressable_shards[0].data
    elif not leaf.is_fully_addressable:
      leaf = multihost_utils.process_allgather(leaf, tiled=True)
    return jax.device_put(leaf, sharding)

  weights = jax.tree.map(place, (state.eval_params, state.model_state))
  return _bare_state(*weights, sharding)


def _bare_state(
  params: PyTree,
  model_state: PyTree,
  sharding: jax.sharding.Sharding | None = None,
) -> TrainState:
  step, rng = 0, jax.random.key(0)
  if sharding is not None:
    step, rng = jax.device_put((step, rng), sharding)
  return TrainState(step, params, model_state, opt_state=(), rng=rng)


def save_config(config: ml_collections.ConfigDict, workdir: str) -> None:
  """Writes workdir/config.json on process 0."""
  if jax.process_index() == 0:
    text = json.dumps(_plain(config), indent=2, sort_keys=True)
    paths.write_text(
      paths.resolve(workdir) / of_workdir.CONFIG_FILE, text + "\n"
    )


@contextlib.contextmanager
def only_writer(workdir: str) -> Iterator[None]:
  """Holds the workdir's lock in process 0; all raise if another run has it."""
  with contextlib.ExitStack() as stack:
    refusal = ""
    if jax.process_index() == 0:
      try:
        stack.enter_context(lock.hold(workdir))
      except UserError as error:
        refusal = str(error)
    if refusal := "".join(gather([refusal])):
      raise UserError(refusal)
    yield


def check_same_run(
  config: ml_collections.ConfigDict, workdir: str
) -> ml_collections.ConfigDict | None:
  """Raises `UserError` if the workdir holds another run; logs small changes.

  Returns:
    The config that the workdir has so far, or None.
  """
  saved = of_workdir.read(workdir)
  if saved is None:
    return None
  before, now = (
    traverse_util.flatten_dict(_plain(each), sep=".")
    for each in (saved, config)
  )
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
  return saved


def _plain(config: ml_collections.ConfigDict) -> dict[str, Any]:
  """Nested dictionaries as JSON would give them back."""
  return json.loads(config.to_json_best_effort())
