"""No device of the platform that is asked for, and nobody to tell."""

import errno
import io
import sys

import jax
import pytest

from segsiam_jax import command_line, compare, train
from segsiam_jax.engine import runtime
from segsiam_jax.errors import UserError
from tests import bad_inputs


@pytest.mark.parametrize(
  ("error", "words"),
  [
    # The plugin is there and finds no device.
    (AssertionError(), "this machine has no such device"),
    (RuntimeError("Unable to initialize backend\nmore"), "Unable to init"),
  ],
)
def test_a_platform_without_devices(
  tiny_config, tmp_path, capsys, monkeypatch, error, words
):
  def fail():
    raise error

  monkeypatch.setenv("JAX_PLATFORMS", "cuda")
  monkeypatch.setattr(jax, "devices", fail)
  monkeypatch.setattr(jax, "local_devices", fail)
  workdir = tmp_path / "run"
  line = bad_inputs.refused(
    lambda: train.train_and_evaluate(tiny_config, str(workdir)), capsys
  )
  assert "JAX_PLATFORMS=cuda: no device" in line and words in line
  assert not workdir.exists()
  with pytest.raises(UserError, match="JAX_PLATFORMS=cuda: no device"):
    compare.compare([], str(workdir))
  assert not workdir.exists()
  # As prediction asks.
  with pytest.raises(UserError, match="JAX_PLATFORMS=cuda: no device"):
    runtime.all_devices(local=True)


def test_the_exit_code_does_not_need_a_reader(monkeypatch):
  def fail():
    raise UserError("bad")

  class Full(io.StringIO):
    def flush(self):
      raise OSError(errno.ENOSPC, "No space left on device")

  monkeypatch.setattr(sys, "stderr", Full())
  with pytest.raises(SystemExit) as end:
    command_line.run(fail, ["main"])
  assert end.value.code == command_line.EXIT_BAD_INPUT
