"""Metric-learning losses and metrics against values of other libraries.

`metric_learning_peers.py` wrote them and says how to write them again.
"""

import json
import pathlib

import jax
import numpy as np
import pytest

from segsiam_jax import losses, metrics, ops

FOLDER = pathlib.Path(__file__).parent
ROWS = json.loads((FOLDER / "metric_learning_peers.json").read_text())


@pytest.fixture(scope="module")
def arrays() -> dict[str, np.ndarray]:
  return dict(np.load(FOLDER / "metric_learning_inputs.npz"))


def all_pairs(x, labels, **options):
  """`contrastive_loss` of all ordered pairs of two examples."""
  pairs = ~np.eye(len(x), dtype=bool)
  same = labels[:, None] == labels
  return losses.contrastive_loss(
    ops.pairwise_distances(x), same, where=pairs, **options
  )


def gradient_on_proxies(proxies, labels):
  return jax.grad(lambda x: losses.arcface_loss(x, proxies, labels).mean())(
    proxies[labels]
  )


def mined_anchors(x, labels):
  """Which anchors have a negative that can be drawn."""
  mined = ops.mine_distance_weighted(
    jax.random.key(0),
    ops.pairwise_distances(ops.l2_normalize(x)),
    *ops.pair_masks(labels),
    embedding_size=x.shape[1],
  )
  return mined.valid.any(axis=1)


SPECIAL = {
  "contrastive_loss of all pairs": all_pairs,
  "gradient of arcface_loss on the proxies": gradient_on_proxies,
  "anchors of mine_distance_weighted": mined_anchors,
}


def ours(row: dict, arrays: dict[str, np.ndarray]) -> np.ndarray:
  """What this package computes for a row."""
  name, *field = row["ours"].split("/")
  inputs = [arrays[array] for array in row["arrays"]]
  if row["reduce"] == "mean over queries":
    return metrics.retrieval_metrics(metrics.rank_gallery(*inputs))[name]
  function = SPECIAL.get(name) or getattr(
    losses if hasattr(losses, name) else metrics, name
  )
  result = function(*inputs, **row["options"])
  if field:
    return getattr(result, field[0])
  return {
    "values": lambda: result,
    "mean": lambda: result.mean(),
    "sum": lambda: result.sum(),
    "finite": lambda: [float(np.isfinite(result).all())],
  }[row["reduce"]]()


@pytest.mark.parametrize(
  "row", ROWS, ids=[f"{row['ours']}-{row['peer']}" for row in ROWS]
)
def test_peer(row, arrays):
  value, expected = np.asarray(ours(row, arrays)), np.asarray(row["values"])
  equal = np.allclose(value, expected, rtol=1e-5, atol=1e-5)
  assert equal == row["equal"], (value, expected)
  assert np.isfinite(value).all()
  assert row["equal"] or row["note"]
