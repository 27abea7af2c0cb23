"""`--mode=plan`: both steps compiled for devices that are not here."""

import importlib.util
import os
import pathlib
import re
import subprocess
import sys

import pytest

from segsiam_jax import capacity
from segsiam_jax.config import default_config
from segsiam_jax.errors import UserError
from segsiam_jax.inputs import shapes

ROOT = pathlib.Path(__file__).parent.parent


def tiny():
  """A config whose data are nowhere."""
  config = default_config("semantic", "unet")
  config.data.update(name="folder", dir="nowhere", image_size=(32, 32))
  config.data.class_names = ()
  config.model.update(depth=1, base_width=16)
  config.train.update(batch_size=8, eval_batch_size=4)
  return config


def number(lines, pattern):
  [found] = re.findall(pattern, "\n".join(lines))
  return float(found.replace(",", ""))


def test_parameters_are_split_and_collectives_counted():
  config = tiny()
  lines = capacity.plan_steps(config, "cpu:4", "")
  assert "4 devices (data 4)" in lines[0]
  assert any("all-reduce" in line for line in lines)
  whole = number(lines, r"optimizer: .*; ([\d.,]+) kB a device")
  config.mesh.fsdp = 4
  lines = capacity.plan_steps(config, "cpu:4", "")
  assert number(lines, r"optimizer: .*; ([\d.,]+) kB a device") < 0.3 * whole


def test_classes_come_from_the_data_set_or_are_assumed(caplog):
  caplog.set_level("INFO")
  config, train, _ = shapes.of_config(tiny())
  assert len(config.data.class_names) == 21 and "21 classes assumed" in (
    caplog.text
  )
  assert train["image"].shape == (8, 32, 32, 3)
  config = tiny()
  config.data.name = "voc"
  assert len(shapes.of_config(config)[0].data.class_names) == 21
  config = default_config("siamese", "conv4")
  config.batch.kind = "triplets"
  _, train, test = shapes.of_config(config)
  assert "negative" in train and "negative" not in test


@pytest.mark.parametrize(
  ("topology", "words"),
  [
    ("v5e", "a grid of chips"),
    ("v9:2x2", "expected v4, v5e"),
    ("cpu:0", "or cpu:8"),
    ("cpu:3x3", "or cpu:8"),
  ],
)
def test_topologies_that_cannot_be(topology, words):
  with pytest.raises(UserError, match=words):
    capacity.plan_steps(tiny(), topology, "")


def test_configs_that_cannot_be_planned():
  config = tiny()
  config.train.batch_size = 6
  with pytest.raises(UserError, match="4 devices do not divide it"):
    capacity.plan_steps(config, "cpu:4", "")
  config.data.update(auto=True, dir="")
  with pytest.raises(UserError, match="give config.data.dir"):
    capacity.plan_steps(config, "cpu:4", "")


def test_what_does_not_fit_has_advice():
  config = tiny()
  needs = capacity.Needs(peak=33e9)
  [line] = capacity._advice(config, needs, capacity.chips.TPUS["v6e"])
  assert "dtype=bfloat16" in line and "mesh.space" in line
  assert not capacity._advice(config, needs, capacity.chips.TPUS["v5p"])


def run(*flags):
  return subprocess.run(
    [sys.executable, "-m", "segsiam_jax.main", "--mode=plan", *flags],
    cwd=ROOT,
    env=os.environ | {"XLA_FLAGS": ""},
    capture_output=True,
    text=True,
  )


@pytest.mark.slow
@pytest.mark.parametrize(
  "config", ["unet_digits", "siamese_digits", "maskrcnn_digits"]
)
def test_every_task_on_the_command_line(config):
  done = run(f"--config={config}:debug", "--topology=cpu:2")
  assert done.returncode == 0, done.stderr
  assert "train step of" in done.stdout and "eval step of" in done.stdout


@pytest.mark.slow
def test_a_tpu():
  if importlib.util.find_spec("libtpu") is None:
    pytest.skip("needs the extra 'tpu', which has the compiler of TPUs")
  done = run(
    "--config=siamese_digits:debug",
    "--topology=v5e:2x2",
    "--config.train.batch_size=16",
    "--config.train.eval_batch_size=16",
  )
  assert done.returncode == 0, done.stderr
  assert "images/s on 4 devices" in done.stdout
  done = run("--config=unet_digits:debug", "--topology=v5e:3x5")
  assert done.returncode == 2 and len(done.stderr.splitlines()) < 5
