"""Every config file is valid, says how it is run, and fits its model."""

import importlib.util
import pathlib

import pytest

from segsiam_jax.config import validate

FILES = sorted(pathlib.Path(__file__).parents[1].glob("configs/*.py"))
# Those that several runs share and no single one is of.
COMPARED = ("small_data",)


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
  with pytest.raises(ValueError, match="nonsense"):
    module.get_config("nonsense")
  if path.stem in COMPARED:
    return
  text = " ".join(module.__doc__.replace("\\\n", " ").split())
  assert f"-m segsiam_jax.main --config=configs/{path.name}" in text
  assert "--workdir=runs/" in text
  debug = module.get_config("debug")
  validate(complete(debug))
  assert debug.train.num_steps <= 20


def test_compared_configs_differ_in_the_model_alone():
  get_config = load(FILES[0].with_name("small_data.py")).get_config
  models = ("unet", "unet_no_skips", "fcn8s", "fcn_resnet")
  for data in ("", "_em"):
    configs = [get_config(model + data).to_dict() for model in models]
    for config in configs:
      config.pop("model")
      config["optimizer"].pop("learning_rate")
    assert all(config == configs[0] for config in configs)
