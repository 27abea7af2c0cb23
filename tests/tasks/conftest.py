"""Data that several tests of tasks share."""

import pytest

from tests.cells import write_cells
from tests.siamese_data import write_splits


@pytest.fixture(scope="session")
def cells(tmp_path_factory):
  root = tmp_path_factory.mktemp("cells")
  write_cells(root / "train", 8, 0)
  write_cells(root / "test", 5, 1)
  return root


@pytest.fixture(scope="session")
def identity_root(tmp_path_factory):
  return write_splits(tmp_path_factory.mktemp("identities"))
