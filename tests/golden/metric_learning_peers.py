"""Writes what other libraries compute, for tests that do not need them.

    python tests/golden/metric_learning_peers.py

It needs requirements.txt beside it, but not this package. It writes
`metric_learning_inputs.npz` and `metric_learning_peers.json` next to itself.
Each row of the latter names the peer with its options, our function with the
options that make it equal and how our values are reduced, and the peer's
values; or, with `"equal": false`, the options that come closest, and the reason
in the note. Of tensorflow-addons (0.23) and facenet, which do not install
beside current versions of TensorFlow, the formulas are written out here.
"""

import json
import pathlib
import warnings

import metric_learning_peers_losses
import metric_learning_peers_metrics
import numpy as np
import torch
from metric_learning_peers_rows import Rows, make_inputs

FOLDER = pathlib.Path(__file__).parent


def main() -> None:
  warnings.simplefilter("ignore")
  torch.manual_seed(0)
  rows = Rows(make_inputs())
  metric_learning_peers_losses.add_rows(rows)
  metric_learning_peers_metrics.add_rows(rows)
  np.savez_compressed(FOLDER / "metric_learning_inputs.npz", **rows.inputs)
  text = ",\n".join(json.dumps(row) for row in rows.rows)
  (FOLDER / "metric_learning_peers.json").write_text(f"[\n{text}\n]\n")
  print(f"{len(rows.rows)} rows")


if __name__ == "__main__":
  main()
