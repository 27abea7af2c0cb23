"""Reading, writing and converting PyTorch state dicts.

A `Family` of models says the PyTorch name of each of our modules. Which array
of a module is which, and how its axes lie, is the same for all of them.
"""

import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from segsiam_jax.errors import UserError, first_line, shown
from segsiam_jax.pretrained import torch_files

PyTree = Any
StateDict = Mapping[str, np.ndarray]


class Family(NamedTuple):
  """Models whose state dicts have the same names.

  Attributes:
    module: path of one of our modules, such as ("encoder", "layer1_0", "bn1"),
      to its PyTorch name, such as "backbone.layer1.0.bn1"; None where it has
      no counterpart and keeps its values.
    first_conv: PyTorch name of the convolution that sees the image: it adapts
      to another number of channels (see `adapt_channels`).
    unused: which keys may stay unread, such as a classifier's.
    read: a state dict with all keys of today, and with arrays that lie as
      PyTorch's layers of our kinds have them.
    write: inverse of `read`.
  """

  module: Callable[[tuple[str, ...]], str | None]
  first_conv: str = ""
  unused: Callable[[str], bool] = lambda key: False
  read: Callable[[StateDict], StateDict] = lambda state_dict: state_dict
  write: Callable[[StateDict], StateDict] = lambda state_dict: state_dict


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
    path: of a local file, `.safetensors` (needs the package safetensors, not
      torch), or one of PyTorch, `.pth` for example (needs torch; only weights
      are unpickled).

  Returns:
    Arrays of real numbers by name.

  Raises:
    UserError: there is no such file, or it holds something else.
  """
  if "://" in os.fspath(path):
    raise UserError(
      f"{path}: weights are read from local files; download it and name the "
      "copy"
    )
  path = pathlib.Path(os.path.expanduser(path))
  if not path.is_file():
    what = "not a regular file" if path.exists() else "no such file"
    raise UserError(f"{path}: {what}")
  try:
    if path.suffix.lower() == ".safetensors":
      from safetensors.numpy import load_file

      state_dict = load_file(path)
    else:
      state_dict = torch_files.read(path)
  except ImportError as error:
    raise UserError(
      f"{path}: reading it needs the package {error.name}; pip install it, or "
      "save the weights as .safetensors"
    ) from error
  except UserError:
    raise
  except Exception as error:
    raise UserError(
      f"{path}: not a readable state dict ({first_line(error)})"
    ) from error
  if not state_dict:
    raise UserError(f"{path}: holds no weights")
  for name, array in state_dict.items():
    if np.iscomplexobj(array):
      raise UserError(
        f"{path}: {shown(name)} is complex; weights are real numbers"
      )
  return state_dict


def write_state_dict(path: str | os.PathLike, state_dict: StateDict) -> None:
  """Writes a `.safetensors` file, which PyTorch loads."""
  from safetensors.numpy import save_file

  save_file({k: np.ascontiguousarray(v) for k, v in state_dict.items()}, path)


def to_variables(
  state_dict: StateDict,
  template: PyTree,
  family: Family,
  keep: Callable[[str], bool] = lambda name: False,
) -> PyTree:
  """Our variables with a state dict's values.

  Args:
    state_dict: PyTorch names to arrays.
    template: variables (`params`, `batch_stats`) or their shapes.
    family: of the model.
    keep: which arrays, by our names such as 'params/logits/kernel', stay those
      of the template whatever the state dict has.

  Returns:
    Variables of the template's structure; float32 NumPy arrays where they were
    read.

  Raises:
    UserError: keys are missing, unknown or of another shape; it lists them.
  """
  problems, read = [], set()
  state_dict = family.read(state_dict)

  def convert(path, leaf):
    names = tuple(str(entry.key) for entry in path)
    key = _key(names, family)
    if key is None or keep("/".join(names)):
      read.add(key)
      return leaf
    if key not in state_dict:
      problems.append(f"{key} is missing")
      return None
    read.add(key)
    value = _from_torch(
      np.asarray(state_dict[key], np.float32), names[-1], leaf.shape
    )
    if key == f"{family.first_conv}.weight" and value.ndim == 4 and value.size:
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
    and not family.unused(key)
  ]
  if problems:
    raise UserError(
      f"{len(problems)} of the weights do not fit: {'; '.join(problems[:20])}"
      + ("; ..." if len(problems) > 20 else "")
    )
  return variables


def to_state_dict(variables: PyTree, family: Family) -> dict[str, np.ndarray]:
  """The state dict that `to_variables` would read back."""
  state_dict = {}
  for path, leaf in jax.tree_util.tree_flatten_with_path(variables)[0]:
    names = tuple(str(entry.key) for entry in path)
    key = _key(names, family)
    if key is not None:
      state_dict[key] = _to_torch(np.asarray(leaf), names[-1])
  return dict(family.write(state_dict))


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


def _key(names: tuple[str, ...], family: Family) -> str | None:
  """The PyTorch name of one of our arrays."""
  # The first is the collection: 'params' or 'batch_stats'.
  _, *modules, array = names
  module = family.module(tuple(modules))
  return None if module is None else f"{module}.{_ARRAYS[array]}"


def _from_torch(
  value: np.ndarray, array: str, shape: tuple[int, ...]
) -> np.ndarray:
  if array != "kernel" or value.ndim < 2:
    return value
  if value.ndim == 2 and len(shape) == 4:
    # A linear layer of a whole feature map is a convolution of its size.
    height, width, channels, _ = shape
    if value.shape[1] == height * width * channels:
      value = value.reshape(-1, channels, height, width)
  if value.ndim == 2:
    return value.T
  return np.moveaxis(value, (0, 1), (-1, -2))


def _to_torch(value: np.ndarray, array: str) -> np.ndarray:
  if array != "kernel":
    return value
  if value.ndim == 2:
    return value.T
  return np.moveaxis(value, (-1, -2), (0, 1))
