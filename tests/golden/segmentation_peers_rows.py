"""The inputs that peers and this package get, and rows of values."""

import numpy as np
import scipy.ndimage
import torch

VOID = 255


def make_inputs() -> dict[str, np.ndarray]:
  """Arrays by name, in our layout: `(B, H, W, K)` and `(B, H, W)`."""
  rng = np.random.default_rng(0)
  labels = rng.integers(0, 4, (2, 6, 7))
  ignored = np.where(rng.uniform(size=labels.shape) < 0.2, VOID, labels)
  multilabels = rng.integers(0, 2, (2, 6, 7, 3))
  smooth = scipy.ndimage.gaussian_filter(
    rng.normal(size=(2, 24, 28, 4)), (0, 3, 3, 0)
  )
  regions = smooth.argmax(-1)
  regions[1][regions[1] == 3] = 0
  predicted = (smooth + rng.normal(0, 0.04, smooth.shape)).argmax(-1)
  predicted[1][predicted[1] == 3] = 1
  things, _ = scipy.ndimage.label(regions[0] == 1)
  predicted_things, _ = scipy.ndimage.label(predicted[0] == 1)
  integers = {
    "labels": labels,
    "absent": np.where(labels == 3, 0, labels),
    "ignored": ignored,
    "binary": (labels > 1).astype(int),
    "binary_ignored": np.where(ignored == VOID, VOID, labels > 1),
    "multilabel": multilabels,
    "multilabel_ignored": np.where(
      rng.uniform(size=multilabels.shape) < 0.2, VOID, multilabels
    ),
    "regions": regions,
    "regions_square": regions[:, :, :24],
    "regions_ignored": np.where(
      rng.uniform(size=regions.shape) < 0.2, VOID, regions
    ),
    "predicted": predicted,
    "predicted_square": predicted[:, :, :24],
    "nothing": np.zeros_like(regions),
    "regions_one": regions[:1],
    "predicted_one": predicted[:1],
    "things": things[None],
    "predicted_things": predicted_things[None],
  }
  floats = {
    "logits": rng.normal(0, 2, (2, 6, 7, 4)).astype(np.float32),
    "binary_logits": rng.normal(0, 2, (2, 6, 7, 1)).astype(np.float32),
    "multilabel_logits": rng.normal(0, 2, (2, 6, 7, 3)).astype(np.float32),
  }
  return floats | {
    name: array.astype(np.uint8) for name, array in integers.items()
  }


class Rows:
  """Collects rows; `inputs` are the arrays that `make_inputs` made."""

  def __init__(self, inputs: dict[str, np.ndarray]):
    self.inputs = inputs
    self.rows = []

  def add(self, ours, arrays, options, peer, values, note="", equal=True):
    """One comparison; `values` broadcast against what `ours` returns."""
    self.rows.append(
      {
        "ours": ours,
        "arrays": arrays,
        "options": options,
        "peer": peer,
        "values": np.asarray(values, np.float64).tolist(),
        "equal": equal,
        "note": note,
      }
    )

  def loss(
    self, ours, arrays, options, peer, loss, by_image=True, **row
  ) -> None:
    """A loss `(logits (B, K, H, W), labels) -> ()` of torch tensors.

    Args:
      ours: name of our function.
      arrays: names of logits and labels.
      options: of our function.
      peer: its name and options.
      loss: the peer.
      by_image: call it once per image instead of for the batch.
      **row: `note` and `equal`.
    """
    logits = torch.tensor(self.inputs[arrays[0]]).movedim(-1, 1)
    labels = torch.tensor(self.inputs[arrays[1]]).long()
    if labels.ndim == 4:
      labels = labels.movedim(-1, 1)
    parts = [slice(0, 1), slice(1, 2)] if by_image else [slice(None)]
    values = [float(loss(logits[part], labels[part])) for part in parts]
    self.add(ours, arrays, options, peer, values, **row)
