"""Reading, writing and converting PyTorch state dicts.

A model family says one thing: the PyTorch name of each of our modules. Which
array of a module is which, and how its axes lie, is the same for all of them.
"""

import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from segsiam_jax.errors import UserError

PyTree = Any
StateDict = Mapping[str, np.ndarray]
# Path of one of our modules, such as ("encoder", "layer1_0", "bn1"), to its
# PyTorch name, such as "backbone.layer1.0.bn1".
ModuleName = Callable[[tuple[str, ...]], str]

# Our array -> PyTorch's, within a module.
_ARRAYS = {
  "kernel": "weight",
  "bias": "bias",
  "scale": "weight",
  "mean": "running_mean",
  "var": "running_var",
}


def read_state_dict(path: str | os.PathLike) -> dict[str, np.ndarray]:
  """Reads a state dict from a file.

  Args:
    path: `.safetensors` (needs the package safetensors, not torch), or `.pth`,
      `.pt`, `.bin` (need torch; only weights are unpickled).
  """
  path = pathlib.Path(path)
  if not path.is_file():
    raise UserError(f"{path}: no such file")
  try:
    if path.suffix == ".safetensors":
      from safetensors.numpy import load_file

      return load_file(path)
    import torch

    saved = torch.load(path, map_location="cpu", weights_only=True)
  except ImportError as error:
    raise UserError(
      f"{path}: reading it needs the package {error.name}; pip install it, or "
      "save the weights as .safetensors"
    ) from error
  except Exception as error:
    raise UserError(f"{path}: not a readable state dict ({error})") from error
  # Training scripts save the model beside the optimizer.
  saved = saved.get("model", saved)
  return {name: tensor.numpy() for name, tensor in saved.items()}


def write_state_dict(path: str | os.PathLike, state_dict: StateDict) -> None:
  """Writes a `.safetensors` file, which PyTorch loads."""
  from safetensors.numpy import save_file

  save_file({k: np.ascontiguousarray(v) for k, v in state_dict.items()}, path)


def to_variables(
  state_dict: StateDict,
  template: PyTree,
  name: ModuleName,
  *,
  first_conv: str = "",
  unused: Callable[[str], bool] = lambda key: False,
) -> PyTree:
  """Our variables with a state dict's values.

  Args:
    state_dict: PyTorch names to arrays.
    template: variables (`params`, `batch_stats`) or their shapes.
    name: see `ModuleName`.
    first_conv: PyTorch name of the convolution that sees the image: it adapts
      to another number of channels (see `adapt_channels`).
    unused: which keys may stay unread, such as a classifier's.

  Returns:
    Variables of the template's structure, float32 NumPy arrays.

  Raises:
    UserError: keys are missing, unknown or of another shape; it lists them.
  """
  problems, read = [], set()

  def convert(path, leaf):
    key = _key(path, name)
    if key not in state_dict:
      problems.append(f"{key} is missing")
      return None
    read.add(key)
    value = _from_torch(np.asarray(state_dict[key], np.float32), _last(path))
    if key == f"{first_conv}.weight" and value.ndim == 4:
      value = adapt_channels(value, leaf.shape[2])
    if value.shape != leaf.shape:
      problems.append(f"{key} gives {value.shape}, the model has {leaf.shape}")
    return value

  variables = jax.tree_util.tree_map_with_path(convert, template)
  problems += [
    f"{key} is unknown"
    for key in state_dict
    if key not in read
    and not key.endswith("num_batches_tracked")
    and not unused(key)
  ]
  if problems:
    raise UserError(
      f"{len(problems)} of the weights do not fit: {'; '.join(problems[:6])}"
      + ("; ..." if len(problems) > 6 else "")
    )
  return variables


def to_state_dict(variables: PyTree, name: ModuleName) -> dict[str, np.ndarray]:
  """The state dict that `to_variables` would read back."""
  state_dict = {}
  for path, leaf in jax.tree_util.tree_flatten_with_path(variables)[0]:
    value = np.asarray(leaf)
    state_dict[_key(path, name)] = _to_torch(value, _last(path))
  return state_dict


def adapt_channels(kernel: np.ndarray, channels: int) -> np.ndarray:
  """A first convolution for images of another number of channels.

  One channel takes the sum over RGB, so that a grey image gives what it gave
  as RGB; more are RGB repeated, scaled to keep the sum (as
  segmentation-models-pytorch does).

  Args:
    kernel: (h, w, in, out).
    channels: that are wanted.

  Returns:
    (h, w, channels, out).
  """
  have = kernel.shape[2]
  if channels == have:
    return kernel
  if channels == 1:
    return kernel.sum(axis=2, keepdims=True)
  repeated = kernel[:, :, np.arange(channels) % have]
  return repeated * (have / channels)


def _names(path: tuple[Any, ...]) -> tuple[str, ...]:
  return tuple(str(entry.key) for entry in path)


def _last(path: tuple[Any, ...]) -> str:
  return _names(path)[-1]


def _key(path: tuple[Any, ...], name: ModuleName) -> str:
  # The first is the collection: 'params' or 'batch_stats'.
  _, *modules, array = _names(path)
  return f"{name(tuple(modules))}.{_ARRAYS[array]}"


def _from_torch(value: np.ndarray, array: str) -> np.ndarray:
  if array != "kernel":
    return value
  if value.ndim == 2:
    return value.T
  return np.moveaxis(value, (0, 1), (-1, -2))


def _to_torch(value: np.ndarray, array: str) -> np.ndarray:
  if array != "kernel":
    return value
  if value.ndim == 2:
    return value.T
  return np.moveaxis(value, (-1, -2), (0, 1))
