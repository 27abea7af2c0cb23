"""StableHLO: the whole function, for any JAX program without this library."""

import json
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from segsiam_jax.engine.state import TrainState
from segsiam_jax.errors import UserError, first_line
from segsiam_jax.export.description import INPUTS
from segsiam_jax.inputs import shapes
from segsiam_jax.tasks.base import Task

FILES = ("model.stablehlo", "model.json")
PLATFORMS = ("cpu", "cuda", "tpu")
# Sides of images of any size are multiples of it, as encoders halve them.
_MULTIPLE = 32
# Of outputs that are compared before anything is written.
_TOLERANCE = 1e-4


def make(
  config: ml_collections.ConfigDict,
  task: Task,
  state: TrainState,
  description: Mapping[str, Any],
) -> dict[str, bytes]:
  """The contents of `FILES`.

  Raises:
    UserError: something is not installed, or the network cannot be exported.
  """
  try:
    import flatbuffers  # noqa: F401
  except ImportError as error:
    raise UserError(
      "--format=stablehlo needs flatbuffers: pip install 'segsiam_jax[export]'"
    ) from error
  names = INPUTS[config.task]
  _, _, spec = shapes.of_config(config)
  fixed = {name: (spec[name].shape[1:], spec[name].dtype) for name in names}

  def predict(*arrays: jax.Array) -> dict[str, jax.Array]:
    batch = dict(zip(names, arrays, strict=True))
    batch["mask"] = jnp.ones(arrays[0].shape[0], jnp.float32)
    return task.predict(state.params, state.model_state, batch)

  exported, sizes, problem = None, "", ""
  for sizes in _sizes(config, fixed["image"][0]):
    scope = jax.export.SymbolicScope()
    arguments = [
      jax.ShapeDtypeStruct(
        jax.export.symbolic_shape(
          sizes if name == "image" else f"{sizes[0]}, 2", scope=scope
        ),
        dtype,
      )
      for name, (_, dtype) in fixed.items()
    ]
    try:
      exported = jax.export.export(jax.jit(predict), platforms=PLATFORMS)(
        *arguments
      )
      break
    except Exception as error:
      # JAX raises many types where a shape must be known.
      problem = first_line(error)
  if exported is None:
    raise UserError(f"this network cannot be exported: {problem}")
  content = bytes(exported.serialize())
  check(content, predict, fixed, _MULTIPLE if "*" in sizes else 1)
  about = dict(description) | {
    "arguments": list(names),
    "image": f"({sizes})",
    "platforms": list(PLATFORMS),
  }
  text = json.dumps(about, indent=2) + "\n"
  return {"model.stablehlo": content, "model.json": text.encode()}


def _sizes(
  config: ml_collections.ConfigDict, shape: tuple[int, ...]
) -> list[str]:
  """Shapes to try, the most general first."""
  *space, channels = shape
  known = ", ".join(map(str, space))
  tries = [f"b, {known}, {channels}", f"1, {known}, {channels}"]
  if config.task == "semantic":
    free = ", ".join(f"{_MULTIPLE}*{axis}" for axis in "dhw"[-len(space) :])
    tries.insert(0, f"b, {free}, {channels}")
  return tries


def check(
  content: bytes, predict: Any, fixed: Mapping[str, Any], multiple: int
) -> None:
  """Raises `UserError` unless an exported function does what ours does.

  Args:
    content: the function.
    predict: ours.
    fixed: shape of a row and dtype of each argument.
    multiple: of which the sides of an image are to be.
  """
  rng = np.random.default_rng(0)
  arrays = []
  for name, (shape, dtype) in fixed.items():
    if name == "image":
      *space, channels = shape
      image_size = [-(-size // multiple) * multiple for size in space]
      image = rng.integers(0, np.iinfo(dtype).max, (1, *image_size, channels))
      arrays.append(image.astype(dtype))
    else:
      arrays.append(np.asarray([image_size], dtype))
  found = jax.export.deserialize(bytearray(content)).call(*arrays)
  expected = jax.jit(predict)(*arrays)
  for name, array in expected.items():
    if not jnp.issubdtype(array.dtype, jnp.floating):
      continue
    scale = max(1.0, float(jnp.abs(array).max()))
    worst = float(jnp.abs(found[name] - array).max())
    if not worst <= _TOLERANCE * scale:
      raise UserError(
        f"the exported function differs from the network's by {worst} in {name}"
      )
