"""A trained network as a file of weights with all that is known of it.

`--mode=export --format=safetensors` writes `model.safetensors` beside
`config.json`; the file's metadata hold a description as JSON. Such a folder
takes the place of a workdir with a checkpoint: for `segsiam_jax.load`,
prediction, evaluation and `init_from`.
"""

import json
import os
import re
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from segsiam_jax.errors import UserError, first_line
from segsiam_jax.files import checkpoint_choice

PyTree = Any

FILE = checkpoint_choice.PACKAGED
# Of the file's metadata.
KEY = "segsiam_jax"
_INSTALL = "pip install 'segsiam_jax[weights]'"


def is_packaged(path: str | os.PathLike) -> bool:
  """Whether a path names such a file, as checkpoints are named."""
  return os.path.basename(os.fspath(path)) == FILE


def flatten(params: PyTree, model_state: PyTree) -> dict[str, np.ndarray]:
  """Arrays by name, such as 'params/logits/kernel'."""
  tree = {"params": params, "model_state": model_state}
  return {
    _name(path): np.asarray(leaf)
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]
  }


def restore(
  path: str, params: PyTree, model_state: PyTree, *, skip: str = ""
) -> tuple[PyTree, PyTree]:
  """See `checkpoint.restore_weights`."""
  arrays = _open(path)[0]
  want = {"params": params, "model_state": model_state}
  problems: list[str] = []

  def find(where: Any, leaf: Any) -> Any:
    name = _name(where)
    if skip and re.search(skip, name):
      return leaf
    if name not in arrays:
      problems.append(f"{name} is missing")
    elif arrays[name].shape != leaf.shape:
      problems.append(f"{name} is {arrays[name].shape}, not {leaf.shape}")
    else:
      return jax.device_put(arrays[name].astype(leaf.dtype), leaf.sharding)
    return leaf

  found = jax.tree_util.tree_map_with_path(find, want)
  if problems:
    raise UserError(
      f"{path}: {len(problems)} of the model's arrays do not fit: "
      f"{'; '.join(problems[:4])}; keep their initial values with "
      "config.init_skip"
    )
  return found["params"], found["model_state"]


def describe(path: str) -> Mapping[str, Any]:
  """The description in a file.

  Raises:
    UserError: it has none.
  """
  return _open(path, weights=False)[1]


def _open(
  path: str, weights: bool = True
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
  try:
    import safetensors
  except ImportError as error:
    raise UserError(
      f"{path}: safetensors is not installed; {_INSTALL}"
    ) from error
  try:
    with safetensors.safe_open(path, framework="numpy") as file:
      metadata = file.metadata() or {}
      names = file.keys() if weights else ()
      arrays = {name: file.get_tensor(name) for name in names}
    description = json.loads(metadata[KEY])
  except (OSError, ValueError, KeyError, safetensors.SafetensorError) as error:
    raise UserError(
      f"{path}: not a network that --mode=export has written "
      f"({first_line(error)})"
    ) from error
  return arrays, description


def _name(path: Any) -> str:
  return jax.tree_util.keystr(path, simple=True, separator="/")
