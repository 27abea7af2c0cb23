"""`import segsiam_jax` is light, and finds what it promises."""

import subprocess
import sys

import pytest

import segsiam_jax


@pytest.mark.parametrize("package", ["losses", "metrics", "models", "ops"])
def test_public_names_are_there(package):
  module = getattr(segsiam_jax, package)
  names = getattr(module, "__all__", None) or [
    name for name in dir(module) if not name.startswith("_")
  ]
  assert names
  for name in names:
    assert getattr(module, name) is not None
  with pytest.raises(AttributeError, match="nothing"):
    module.nothing  # noqa: B018


def test_importing_the_package_imports_nothing_heavy():
  code = "import segsiam_jax, sys; print('jax' in sys.modules)"
  done = subprocess.run(
    [sys.executable, "-c", code], capture_output=True, text=True, check=True
  )
  assert done.stdout.strip() == "False"
