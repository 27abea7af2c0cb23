"""What several tests of image files share."""

import pytest

from segsiam_jax.data import decode


@pytest.fixture(params=[True, False], ids=["tifffile", "pillow"])
def has_tifffile(request, monkeypatch):
  """Both with and without the optional reader."""
  if not request.param:
    monkeypatch.setattr(decode.importlib.util, "find_spec", lambda name: None)
  return request.param
