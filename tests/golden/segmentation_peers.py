"""Writes what other libraries compute, for tests that do not need them.

    python tests/golden/segmentation_peers.py

It needs requirements.txt beside it, but not this package. It writes
`segmentation_inputs.npz` and `segmentation_peers.json` next to itself.
Each row of the latter names the peer with its options, our function with the
options that make it equal, and the peer's values; or, with `"equal": false`,
options that come closest, and the reason in the note.
"""

import importlib.util
import json
import pathlib
import sys
import types
import warnings

import numpy as np

# SMP's top package imports timm and torchvision for its models; its losses
# and metrics do not.
_spec = importlib.util.find_spec("segmentation_models_pytorch")
_package = types.ModuleType("segmentation_models_pytorch")
_package.__path__ = list(_spec.submodule_search_locations)
sys.modules["segmentation_models_pytorch"] = _package

import segmentation_peers_losses  # noqa: E402
import segmentation_peers_metrics  # noqa: E402
from segmentation_peers_rows import Rows, make_inputs  # noqa: E402

FOLDER = pathlib.Path(__file__).parent


def main() -> None:
  warnings.simplefilter("ignore")
  inputs = make_inputs()
  rows = Rows(inputs)
  segmentation_peers_losses.add_rows(rows)
  segmentation_peers_metrics.add_rows(rows)
  np.savez_compressed(FOLDER / "segmentation_inputs.npz", **inputs)
  text = ",\n".join(json.dumps(row) for row in rows.rows)
  (FOLDER / "segmentation_peers.json").write_text(f"[\n{text}\n]\n")
  print(f"{len(rows.rows)} rows")


if __name__ == "__main__":
  main()
