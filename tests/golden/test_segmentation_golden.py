"""Our losses and metrics against stored values of other libraries.

`segmentation_peers.py` wrote them and says how to write them again.
"""

import functools
import json
import pathlib

import jax
import numpy as np
import pytest

from segsiam_jax import losses, metrics

FOLDER = pathlib.Path(__file__).parent
ROWS = json.loads((FOLDER / "segmentation_peers.json").read_text())


@functools.cache
def computed(name: str, arrays: tuple[str, ...], options: str):
  """A loss or metric of stored arrays; states are computed on the host."""
  stored = np.load(FOLDER / "segmentation_inputs.npz")
  inputs = [stored[array] for array in arrays]
  if hasattr(losses, name):
    return getattr(losses, name)(*inputs, **json.loads(options))
  metric = getattr(metrics, name)
  if not isinstance(metric, type):
    return metric(*inputs, **json.loads(options))
  of = functools.partial(metric.of, **json.loads(options))
  return jax.jit(of)(*inputs).compute()


@pytest.mark.parametrize(
  "row", ROWS, ids=[f"{row['ours']}-{row['peer']}" for row in ROWS]
)
def test_peer(row):
  name, *key = row["ours"].split("/", 1)
  value = computed(name, tuple(row["arrays"]), json.dumps(row["options"]))
  value = np.asarray(value[key[0]] if key else value)
  expected = np.asarray(row["values"])
  equal = np.allclose(value, expected, rtol=1e-5, atol=1e-6, equal_nan=True)
  assert equal == row["equal"], (value, expected)
  assert row["equal"] or row["note"]
