"""Whether what a run needs fits into memory, before any of it is made.

What is counted is the least that a run can do with. So nothing is refused that
fits; a run that is not may still need too much.
"""

import math
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from segsiam_jax.errors import UserError
from segsiam_jax.tasks.base import PyTree

_MEMORY = pathlib.Path("/proc/meminfo")
# Of a container, version 2 and 1.
_LIMITS = tuple(
  map(
    pathlib.Path,
    (
      "/sys/fs/cgroup/memory.max",
      "/sys/fs/cgroup/memory/memory.limit_in_bytes",
    ),
  )
)


def check_batch(field: str, spec: Mapping[str, jax.ShapeDtypeStruct]) -> None:
  """Raises `UserError` if a batch does not fit.

  Args:
    field: that says how large it is, for the message.
    spec: of a global batch.
  """
  rows = next(iter(spec.values())).shape[0]
  here = nbytes(spec) // jax.process_count()
  _check(
    {f"a batch of {rows:,} rows": here},
    host(),
    "this machine",
    f"lower config.{field} or the size of an image",
  )
  # Images are float32 in a step.
  images = [leaf for leaf in spec.values() if len(leaf.shape) > 3]
  floats = 4 * sum(math.prod(leaf.shape) for leaf in images)
  _check(
    {f"the images of a batch of {rows:,} rows": floats // jax.device_count()},
    device(),
    "a device",
    f"lower config.{field} or the size of an image",
  )


def check_state(state: Any) -> None:
  """Raises `UserError` if a state and its gradient do not fit.

  Args:
    state: a `TrainState` of `jax.ShapeDtypeStruct`s.
  """
  parts = {
    "the parameters": nbytes_on_device(state.params),
    "their gradient": nbytes_on_device(state.params),
    "the optimizer": nbytes_on_device(state.opt_state),
    "their average": nbytes_on_device(state.ema_params),
  }
  _check(
    {name: size for name, size in parts.items() if size},
    device(),
    "this machine" if jax.default_backend() == "cpu" else "a device",
    "lower the widths of the model (config.model)",
  )


def nbytes(tree: PyTree) -> int:
  """Of all arrays or `jax.ShapeDtypeStruct`s in a tree, keys left out."""
  return sum(
    math.prod(leaf.shape) * np.dtype(leaf.dtype).itemsize
    for leaf in jax.tree.leaves(tree)
    if not jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.extended)
  )


def nbytes_on_device(tree: PyTree) -> int:
  """`nbytes` of what a device holds of it; all, where nothing is split."""
  return nbytes(
    jax.tree.map(
      lambda leaf: (
        leaf
        if leaf.sharding is None
        else jax.ShapeDtypeStruct(
          leaf.sharding.shard_shape(leaf.shape), leaf.dtype
        )
      ),
      tree,
    )
  )


def _check(
  parts: Mapping[str, int], limit: float, where: str, advice: str
) -> None:
  total = sum(parts.values())
  if total <= limit:
    return
  listed = ", ".join(f"{name} {_gb(size)}" for name, size in parts.items())
  raise UserError(f"{listed}: {where} has {_gb(limit)} of memory; {advice}")


def _gb(size: float) -> str:
  return f"{size / 1e9:,.1f} GB"


def device() -> float:
  """Bytes of the memory that a device of ours may fill."""
  first, *rest = jax.local_devices()
  if first.platform == "cpu":
    return host() / (1 + len(rest))
  stats = first.memory_stats() or {}
  return stats.get("bytes_limit", math.inf)


def host() -> float:
  """Bytes of this machine's memory, or of its container's; inf if unknown."""
  sizes = [math.inf]
  try:
    for line in _MEMORY.read_text().splitlines():
      name, _, value = line.partition(":")
      if name in ("MemTotal", "SwapTotal"):
        kilobytes = int(value.split()[0])
        sizes[0] = kilobytes * 1024 + (sizes[0] if sizes[0] < math.inf else 0)
  except (OSError, ValueError, IndexError):
    pass
  for file in _LIMITS:
    try:
      sizes.append(int(file.read_text()))
    except (OSError, ValueError):
      continue
  return min(sizes)
