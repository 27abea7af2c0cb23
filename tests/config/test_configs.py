"""Every config file is valid, says how it is run, and fits its model."""

import importlib.util
import json
import pathlib

import pytest

from segsiam_jax import train
from segsiam_jax.config import validate
from segsiam_jax.errors import UserError

FILES = sorted(pathlib.Path(__file__).parents[2].glob("configs/*.py"))
# Those that several runs share and no single one is of.
COMPARED = ("siamese_losses", "small_data")


def load(path):
  spec = importlib.util.spec_from_file_location(path.stem, path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def complete(config):
  """The config with what its docstring asks the user for."""
  if not config.data.dir:
    config.data.dir = "folder"
  return config


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_config_is_valid_and_says_how_to_run_it(path):
  module = load(path)
  validate(complete(module.get_config()))
  with pytest.raises((ValueError, UserError), match="nonsense"):
    module.get_config("nonsense")
  if path.stem in COMPARED:
    return
  text = " ".join(module.__doc__.replace("\\\n", " ").split())
  assert f"-m segsiam_jax.main --config=configs/{path.name}" in text
  assert "--workdir=runs/" in text
  debug = module.get_config("debug")
  validate(complete(debug))
  assert debug.train.num_steps <= 20


@pytest.mark.slow
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_debug_runs_where_no_data_are_needed(path, tmp_path):
  if path.stem in COMPARED:
    pytest.skip("it has no :debug")
  config = load(path).get_config("debug")
  try:
    validate(config)
  except UserError as error:
    pytest.skip(f"it needs the user's data: {error}")
  # One row a device of the tests at least.
  for size in ("batch_size", "eval_batch_size"):
    config.train[size] = max(4, config.train[size])
  train.train_and_evaluate(config, str(tmp_path))
  lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
  steps = {json.loads(line)["step"] for line in lines}
  assert max(steps) == config.train.num_steps


def test_compared_configs_differ_in_the_model_alone():
  get_config = load(FILES[0].with_name("small_data.py")).get_config
  models = ("unet", "unet_no_skips", "fcn8s", "fcn_resnet")
  for data in ("", "_em"):
    configs = [get_config(model + data).to_dict() for model in models]
    for config in configs:
      config.pop("model")
      config["optimizer"].pop("learning_rate")
    assert all(config == configs[0] for config in configs)
