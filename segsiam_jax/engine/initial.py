"""The weights that a run starts from."""

import logging

import jax
import ml_collections

from segsiam_jax.config import of_workdir
from segsiam_jax.engine import checkpoint, finite
from segsiam_jax.engine.state import TrainState
from segsiam_jax.pretrained import load

_logger = logging.getLogger(__name__)


def check(config: ml_collections.ConfigDict, workdir: str) -> None:
  """Raises `UserError` if a new run has nothing to take its weights from."""
  if config.init_from and not checkpoint.exists(workdir):
    load.check_source(config.init_from)


def load_weights(
  state: TrainState, config: ml_collections.ConfigDict
) -> TrainState:
  """A fresh state with the weights of `config.init_from`.

  Raises:
    UserError: there are none, or they do not fit.
  """
  if load.is_weights_file(config.init_from):
    params, model_state = load.load_weights(
      config.init_from, state.params, state.model_state, skip=config.init_skip
    )
  else:
    other = of_workdir.read(config.init_from) or config
    folder = checkpoint.find(
      config.init_from, "best", other.train.best_metric, other.train.best_mode
    )
    params, model_state = checkpoint.restore_weights(
      folder, state.params, state.model_state, skip=config.init_skip
    )
    _logger.info("weights from %s", folder)
  ema_params = state.ema_params
  if ema_params is not None:
    ema_params = jax.tree.map(jax.numpy.copy, params)
  state = state.replace(
    params=params, model_state=model_state, ema_params=ema_params
  )
  finite.require_finite(state.weights, config.init_from)
  return state
