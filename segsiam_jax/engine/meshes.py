"""How devices share the work: the mesh, and what lies where on it.

A mesh has three axes. `data` splits the rows of a batch. `fsdp` splits them,
too, and besides the parameters and the optimizer's state, which the compiler
gathers where they are used. `space` splits the height of every image; the
compiler exchanges the borders that a convolution needs. All that says what is
split is in this file.
"""

import logging
from collections.abc import Mapping
from typing import Any

import jax
import ml_collections
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from segsiam_jax.engine import runtime
from segsiam_jax.engine.state import TrainState
from segsiam_jax.errors import UserError

_logger = logging.getLogger(__name__)

# Of collectives.
AXIS = "data"
AXES = (AXIS, "fsdp", "space")
# Those that split the rows of a batch.
_ROWS = AXES[:2]
# Arrays of a row that have an image's height.
_IMAGES, _MAPS = ("image",), ("label", "weights")
# Smaller arrays are not worth a collective.
_FEWEST_ELEMENTS = 2**10


def make_mesh(
  devices: list[jax.Device] | None = None, fsdp: int = 1, space: int = 1
) -> Mesh:
  """A mesh of all devices (or of `devices`).

  Slices of a TPU pod that are joined by a network split the rows of a batch.

  Args:
    devices: in the order of their processes.
    fsdp: length of that axis.
    space: length of that axis; `data` gets the rest.

  Raises:
    UserError: the axes do not divide the devices.
  """
  devices = runtime.all_devices() if devices is None else devices
  rest, over = divmod(len(devices), fsdp * space)
  if over:
    raise UserError(
      f"config.mesh.fsdp x config.mesh.space = {fsdp} x {space}: do not divide "
      f"{len(devices)} devices"
    )
  # Auto: the compiler places what is not said; Explicit is JAX's default.
  types = (AxisType.Auto,) * len(AXES)
  slices = len({getattr(each, "slice_index", 0) for each in devices})
  if slices > 1 and not rest % slices:
    grid = mesh_utils.create_hybrid_device_mesh(
      (rest // slices, fsdp, space), (slices, 1, 1), devices
    )
    return Mesh(grid, AXES, axis_types=types)
  if space > 1:
    # Next to each other in a process, which reads whole images.
    order = sorted(devices, key=lambda each: (each.process_index, each.id))
    grid = np.array(order).reshape(rest, fsdp, space)
    return Mesh(grid, AXES, axis_types=types)
  return jax.make_mesh(
    (rest, fsdp, space), AXES, axis_types=types, devices=devices
  )


def of_config(
  config: ml_collections.ConfigDict, devices: list[jax.Device] | None = None
) -> Mesh:
  """The mesh of `config.mesh`, over all devices or over `devices`.

  Raises:
    UserError: it does not suit the devices, or the size of an image.
  """
  fsdp, space = config.mesh.fsdp, config.mesh.space
  mesh = make_mesh(devices, fsdp, space)
  for sharing in mesh.devices.reshape(-1, space):
    if len({device.process_index for device in sharing}) > 1:
      raise UserError(
        f"config.mesh.space = {space}: the devices that share an image belong "
        "to one process; give at most as many as a process has"
      )
  return mesh


def axes_of(mesh: Mesh) -> list[str]:
  """The axes that split something, such as 'data 4', for people."""
  return [f"{name} {size}" for name, size in mesh.shape.items() if size > 1]


def log_devices(mesh: Mesh) -> None:
  """One line on what the run will use."""
  device = mesh.devices.flat[0]
  axes = axes_of(mesh)
  if len(axes) > 1:
    _logger.info("mesh: %s", " x ".join(axes))
  _logger.info(
    "%d x %s (%s), process %d of %d, jax %s",
    mesh.size,
    device.device_kind,
    device.platform,
    jax.process_index(),
    jax.process_count(),
    jax.__version__,
  )


def replicated(mesh: Mesh) -> NamedSharding:
  """The sharding of what every device holds all of."""
  return NamedSharding(mesh, P())


def is_plain(mesh: Mesh) -> bool:
  """Whether rows alone are split."""
  return mesh.shape["fsdp"] == mesh.shape["space"] == 1


def of_state(mesh: Mesh, state: TrainState) -> TrainState:
  """The sharding of every array of a state.

  Args:
    mesh: the devices.
    state: arrays, tracers or `jax.ShapeDtypeStruct`s.
  """
  everywhere = replicated(mesh)
  shards = mesh.shape["fsdp"]

  def split(leaf: Any) -> NamedSharding:
    sizes = [size if size % shards == 0 else 0 for size in leaf.shape]
    if shards == 1 or leaf.size < _FEWEST_ELEMENTS or not any(sizes):
      return everywhere
    axis = int(np.argmax(sizes))
    return NamedSharding(mesh, P(*[None] * axis, "fsdp"))

  parts = {
    name: jax.tree.map(split, getattr(state, name))
    for name in ("params", "opt_state", "ema_params")
  }
  return jax.tree.map(lambda leaf: everywhere, state).replace(**parts)


def is_whole(state: TrainState) -> bool:
  """Whether this process holds all that evaluation reads of a state."""
  return all(
    leaf.is_fully_replicated or leaf.is_fully_addressable
    for leaf in jax.tree.leaves((state.eval_params, state.model_state))
  )


def of_batch(mesh: Mesh, name: str, ndim: int) -> NamedSharding:
  """The sharding of an array of a batch.

  Args:
    mesh: the devices.
    name: of the array.
    ndim: number of its axes.
  """
  # (B, H, W, C) or (B, D, H, W, C), and the same without channels.
  height = ndim - 3 if name in _IMAGES else ndim - 2 if name in _MAPS else 0
  if mesh.shape["space"] == 1 or not height:
    return rows(mesh)
  return NamedSharding(mesh, P(_ROWS, *[None] * (height - 1), "space"))


def rows(mesh: Mesh) -> NamedSharding:
  """The sharding of outputs with one row a batch row."""
  return NamedSharding(mesh, P(_ROWS))


def check_batch_size(
  field: str, batch_size: int, mesh: Mesh, grad_accum: int = 1
) -> None:
  """Raises `UserError` unless the devices share a batch evenly."""
  devices = mesh.size // mesh.shape["space"]
  shares = devices * grad_accum
  if batch_size % shares:
    nearest = max(1, round(batch_size / shares)) * shares
    among = f"{devices} devices"
    if grad_accum > 1:
      among += f" x train.grad_accum {grad_accum}"
    raise UserError(
      f"config.{field} = {batch_size}: {among} do not divide it; "
      f"--config.{field}={nearest} would do"
    )


def check_batches(config: ml_collections.ConfigDict, mesh: Mesh) -> None:
  """`check_batch_size` of training and of evaluation."""
  train = config.train
  check_batch_size("train.batch_size", train.batch_size, mesh, train.grad_accum)
  check_batch_size("train.eval_batch_size", train.eval_batch_size, mesh)


def to_global(
  batch: Mapping[str, np.ndarray], mesh: Mesh, backend: str
) -> dict[str, Any]:
  """This process's rows -> the batch that a compiled step takes.

  Args:
    batch: (b, ...) arrays, this process's share of the global batch.
    mesh: all devices.
    backend: 'pmap' for (local devices, b / local devices, ...) arrays; others
      for global arrays, sharded over the mesh.
  """
  if backend == "pmap":
    local = len(mesh.local_devices)
    return {
      name: np.reshape(array, (local, -1, *array.shape[1:]))
      for name, array in batch.items()
    }
  return {
    name: jax.make_array_from_process_local_data(
      of_batch(mesh, name, np.ndim(array)), np.asarray(array)
    )
    for name, array in batch.items()
  }


def to_local(outputs: Any, backend: str) -> Any:
  """What `to_global` did, undone for outputs with one row a batch row.

  Returns:
    (b, ...) NumPy arrays: the rows of this process, in their order.
  """

  def fetch(array: jax.Array) -> np.ndarray:
    # Devices that share an image hold the same rows.
    shards = {
      shard.index[0].start or 0: shard for shard in array.addressable_shards
    }
    return np.concatenate(
      [np.asarray(shards[first].data) for first in sorted(shards)]
    )

  local = jax.tree.map(fetch, outputs)
  if backend == "pmap":
    local = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), local)
  return local


def as_global(state: Any, mesh: Mesh) -> Any:
  """A state as arrays of the whole mesh.

  With several processes, pmap returns replicated arrays that know this
  process's devices alone; checkpoints need to know that all processes hold the
  same.
  """
  if jax.process_count() == 1:
    return state

  def convert(leaf: jax.Array) -> jax.Array:
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
      data = convert(jax.random.key_data(leaf))
      return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
    if len(leaf.sharding.device_set) == mesh.size:
      return leaf
    return jax.make_array_from_single_device_arrays(
      leaf.shape,
      replicated(mesh),
      [shard.data for shard in leaf.addressable_shards],
    )

  return jax.tree.map(convert, state)
