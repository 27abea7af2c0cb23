"""The weights of a checkpoint, and nothing else of it."""

import contextlib
import re
from collections.abc import Mapping
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath

from segsiam_jax.errors import UserError
from segsiam_jax.files import paths
from segsiam_jax.files.checkpoint_files import DAMAGE, check_stays, why
from segsiam_jax.pretrained import packaged

PyTree = Any


def restore_weights(
  checkpoint: str, params: PyTree, model_state: PyTree, *, skip: str = ""
) -> tuple[PyTree, PyTree]:
  """Parameters and batch statistics of a checkpoint, and nothing else.

  Averaged parameters are taken where the checkpoint has them.

  Args:
    checkpoint: its folder (see `checkpoint_choice.find`).
    params: the parameters to replace, with their shardings.
    model_state: the batch statistics to replace.
    skip: regular expression, searched in names such as
      'params/logits/kernel'; what matches stays as it is.

  Returns:
    (params, model_state), of the same structure and shardings.

  Raises:
    UserError: a name is missing in the checkpoint, or has another shape, or
      the checkpoint is damaged or gone.
  """
  if packaged.is_packaged(checkpoint):
    return packaged.restore(checkpoint, params, model_state, skip=skip)
  folder = paths.resolve(checkpoint)
  try:
    return _restore_weights(folder, params, model_state, skip)
  except DAMAGE as error:
    check_stays(folder)
    raise UserError(
      f"{checkpoint}: its weights cannot be read ({why(error)}); name another "
      "checkpoint"
    ) from error


def _restore_weights(
  folder: epath.Path, params: PyTree, model_state: PyTree, skip: str
) -> tuple[PyTree, PyTree]:
  """See `restore_weights`."""
  # The handler itself: a Checkpointer would look for the whole checkpoint's
  # metadata in this one item, and warn.
  with contextlib.closing(ocp.PyTreeCheckpointHandler()) as reader:
    saved = reader.metadata(folder / "state").tree
    source = "ema_params" if saved.get("ema_params") else "params"
    have = {"params": saved[source], "model_state": saved["model_state"] or {}}
    want = {"params": params, "model_state": model_state}
    have = {_name(path): leaf for path, leaf in _leaves(have)}
    chosen, problems = {}, []
    for path, leaf in _leaves(want):
      name = _name(path)
      if skip and re.search(skip, name):
        continue
      if name not in have:
        problems.append(f"{name} is missing")
      elif tuple(have[name].shape) != leaf.shape:
        problems.append(
          f"{name} is {tuple(have[name].shape)}, not {leaf.shape}"
        )
      else:
        chosen[name] = leaf
    if problems:
      raise UserError(
        f"{folder}: {len(problems)} of the model's arrays do not fit: "
        f"{'; '.join(problems[:4])}{'; ...' if len(problems) > 4 else ''}; "
        "keep their initial values with config.init_skip"
      )
    item = _nest(chosen, {"params": source})
    restored = reader.restore(
      folder / "state",
      args=ocp.args.PyTreeRestore(
        item=jax.tree.map(ocp.utils.to_shape_dtype_struct, item),
        restore_args=ocp.checkpoint_utils.construct_restore_args(item),
        partial_restore=True,
      ),
    )
  restored = {
    _name(path).replace(source, "params", 1): leaf
    for path, leaf in _leaves(restored)
  }
  loaded = jax.tree_util.tree_map_with_path(
    lambda path, leaf: restored.get(_name(path), leaf), want
  )
  return loaded["params"], loaded["model_state"]


def _leaves(tree: PyTree) -> list[tuple[Any, Any]]:
  return jax.tree_util.tree_flatten_with_path(tree)[0]


def _name(path: Any) -> str:
  return jax.tree_util.keystr(path, simple=True, separator="/")


def _nest(leaves: Mapping[str, Any], renamed: Mapping[str, str]) -> PyTree:
  """{'a/b': x} -> {'a': {'b': x}}, the first part of names renamed."""
  tree: dict[str, Any] = {}
  for name, leaf in leaves.items():
    first, *rest = name.split("/")
    keys = [renamed.get(first, first), *rest]
    node = tree
    for key in keys[:-1]:
      node = node.setdefault(key, {})
    node[keys[-1]] = leaf
  return tree
