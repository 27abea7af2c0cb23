"""safetensors: the weights, to be loaded by this library."""

import json
from collections.abc import Mapping
from typing import Any

import ml_collections

from segsiam_jax.config import of_workdir
from segsiam_jax.engine.state import TrainState
from segsiam_jax.errors import UserError
from segsiam_jax.pretrained import packaged
from segsiam_jax.tasks.base import Task

FILES = (packaged.FILE, of_workdir.CONFIG_FILE)


def make(
  config: ml_collections.ConfigDict,
  task: Task,
  state: TrainState,
  description: Mapping[str, Any],
) -> dict[str, bytes]:
  """The contents of `FILES`."""
  del task
  try:
    from safetensors.numpy import save
  except ImportError as error:
    raise UserError(
      "--format=safetensors needs safetensors: pip install "
      "'segsiam_jax[weights]'"
    ) from error
  config = config.copy_and_resolve_references()
  # The folders of this machine mean nothing elsewhere.
  config.data.dir = "DATA" if config.data.dir else ""
  config.init_from = ""
  config.data.auto = False
  arrays = packaged.flatten(state.params, state.model_state)
  text = json.dumps(dict(description))
  return {
    packaged.FILE: save(arrays, metadata={packaged.KEY: text}),
    of_workdir.CONFIG_FILE: config.to_json_best_effort(
      indent=2, sort_keys=True
    ).encode(),
  }
