"""Inputs and rows of the table that `metric_learning_peers.py` writes."""

import numpy as np
import torch

B, C, D = 12, 5, 6


def make_inputs() -> dict[str, np.ndarray]:
  """Small arrays that all rows are computed from."""
  random = np.random.default_rng(0)

  def normal(*shape):
    return random.normal(size=shape).round(3).astype(np.float32)

  inputs = {
    "embeddings": normal(B, D),
    "anchor": normal(B, D),
    "positive": normal(B, D),
    "negative": normal(B, D),
    "logits": 4 * normal(B),
    "same": random.integers(0, 2, B),
    "proxies": normal(C, D),
    "triples": np.repeat(np.arange(4), 3),
    "pairs": np.repeat(np.arange(6), 2),
    "lone": np.array([0, 0, 0, 1, 1, 1, 1, 2, 2, 3, 4, 2]),
    "distinct": np.arange(B),
    "classes": random.integers(0, C, B),
    "pair_same": np.arange(200) % 2,
    "folds": np.repeat(np.arange(10), 20),
    "constant_scores": np.full(200, 0.5),
  }
  unit = inputs["embeddings"]
  inputs["unit"] = unit / np.linalg.norm(unit, axis=1, keepdims=True)
  # Ties between both kinds, as scores of few digits have.
  inputs["scores"] = random.normal(0.8 * inputs["pair_same"], 1.0).round(1)
  inputs["clusters"] = (
    normal(60, D) + 1.5 * normal(7, D)[np.arange(60) % 7]
  ).astype(np.float32)
  inputs["cluster_labels"] = np.append(np.arange(59) % 7, 7)
  # float32 has no 2^24 + 1.
  inputs["large_labels"] = 2**24 + np.arange(60) % 2
  return inputs


class Rows:
  """The table that is written."""

  def __init__(self, inputs: dict[str, np.ndarray]):
    self.inputs = inputs
    self.rows = []

  def tensors(self, arrays: str) -> list[torch.Tensor]:
    return [torch.from_numpy(self.inputs[name]) for name in arrays.split()]

  def add(self, ours, arrays, options, peer, values, *, reduce="mean", note=""):
    """One row; a note says why ours differs."""
    if isinstance(values, torch.Tensor):
      values = values.detach().numpy()
    self.rows.append(
      {
        "ours": ours,
        "arrays": arrays.split(),
        "options": options,
        "reduce": reduce,
        "peer": peer,
        "values": np.asarray(values, np.float64).tolist(),
        "equal": not note,
        "note": note,
      }
    )
