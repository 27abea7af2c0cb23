"""Our losses and metrics against stored values of other libraries.

`segmentation_peers.py` wrote them and says how to write them again.
"""

import json
import pathlib

import numpy as np
import pytest

from segsiam_jax import losses, metrics

FOLDER = pathlib.Path(__file__).parent
ROWS = json.loads((FOLDER / "segmentation_peers.json").read_text())


@pytest.fixture(scope="module")
def arrays() -> dict[str, np.ndarray]:
  return dict(np.load(FOLDER / "segmentation_inputs.npz"))


def ours(row: dict, arrays: dict[str, np.ndarray]) -> np.ndarray:
  """What this package computes for a row."""
  name, *key = row["ours"].split("/", 1)
  inputs = [arrays[array] for array in row["arrays"]]
  options = row["options"]
  if hasattr(losses, name):
    return getattr(losses, name)(*inputs, **options)
  if name == "ConfusionMatrix":
    return metrics.ConfusionMatrix.of(*inputs, **options).compute()[key[0]]
  if name == "panoptic_quality":
    inputs = [array[:1] for array in inputs]
    return metrics.panoptic_quality(*inputs, **options)[key[0]]
  return getattr(metrics, name)(*inputs, **options)


@pytest.mark.parametrize(
  "row", ROWS, ids=[f"{row['ours']}-{row['peer']}" for row in ROWS]
)
def test_peer(row, arrays):
  value = np.asarray(ours(row, arrays))
  expected = np.asarray(row["values"])
  equal = np.allclose(value, expected, rtol=1e-5, atol=1e-6, equal_nan=True)
  assert equal == row["equal"], (value, expected)
  assert row["equal"] or row["note"]
