"""A run to predict with."""

import pytest

from segsiam_jax import train
from tests.conftest import make_tiny_config


@pytest.fixture(scope="package")
def trained(tmp_path_factory, blobs):
  """(config, workdir) of a run of two steps, without batch statistics."""
  config = make_tiny_config(blobs)
  config.model.norm = "none"
  config.augment.rotate = 0.0
  config.train.num_steps = config.train.eval_every = 2
  config.train.checkpoint_every = 2
  config.train.num_pictures = 0
  workdir = tmp_path_factory.mktemp("predicting") / "run"
  train.train_and_evaluate(config, str(workdir))
  return config, workdir


@pytest.fixture
def config(trained):
  """The run's config, to be changed."""
  return trained[0].copy_and_resolve_references()
