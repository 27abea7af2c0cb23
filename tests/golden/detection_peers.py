"""Writes detection_peers.npz: what torchvision's detectors find and lose.

    python -m tests.golden.detection_peers

Needs requirements.txt beside it. Weights come from `filled.fill`, so that the
file holds outputs alone. In training the samplers take the first candidates
rather than random ones.
"""

import pathlib

import numpy as np
import torch

from cases.detection_inputs import (
  SIZES,
  SMALL_CLASSES,
  loss_inputs,
  picture,
)
from cases.torchvision_detectors import make, tensor


def detections(model: torch.nn.Module) -> dict[str, np.ndarray]:
  """Of each size: boxes, classes, scores, and logits of some of the masks."""
  outputs, logits = {}, []
  model.roi_heads.mask_predictor.register_forward_hook(
    lambda module, inputs, output: logits.append(output)
  )
  for size in SIZES:
    model.transform.min_size = (min(size),)
    with torch.no_grad():
      [found] = model([tensor(picture(*size))])
    at = "/".join(map(str, size))
    for ours, theirs in (
      ("boxes", "boxes"),
      ("classes", "labels"),
      ("scores", "scores"),
    ):
      outputs[f"{at}/{ours}"] = found[theirs].numpy()
    own = logits.pop()[torch.arange(len(found["labels"])), found["labels"]]
    outputs[f"{at}/mask_logits"] = own[::3, ::4, ::4].numpy()
  return outputs


def losses(model: torch.nn.Module, num_classes: int) -> dict[str, np.ndarray]:
  inputs = loss_inputs(num_classes)
  images, targets = [], []
  for row, pixels in enumerate(inputs["images"]):
    valid = inputs["valid"][row]
    boxes = inputs["boxes"][row][valid]
    masks = np.zeros((len(boxes), *pixels.shape[:2]), np.uint8)
    for mask, box, crop in zip(
      masks, boxes, inputs["crops"][row], strict=False
    ):
      x1, y1, x2, y2 = box.astype(int)
      mask[y1:y2, x1:x2] = crop
    images.append(tensor(pixels))
    targets.append(
      {
        "boxes": torch.from_numpy(boxes),
        "labels": torch.from_numpy(inputs["classes"][row][valid]).long(),
        "masks": torch.from_numpy(masks),
      }
    )
  model.train()
  model.transform.min_size = (min(pixels.shape[:2]),)
  random = torch.randperm
  torch.randperm = lambda n, device=None: torch.arange(n, device=device)
  with torch.no_grad():
    found = model(images, targets)
  torch.randperm = random
  model.eval()
  return {name: value.numpy() for name, value in found.items()}


def main() -> None:
  outputs = {}
  for name, num_classes in (("v1", 91), ("v2", 91), ("small", SMALL_CLASSES)):
    model = make(name)
    bias = model.roi_heads.box_predictor.cls_score.bias
    outputs[f"{name}/bias"] = bias.detach().numpy()
    for key, value in losses(model, num_classes).items():
      outputs[f"{name}/{key}"] = value
      print(name, key, float(value))
    # Training has moved the statistics of batch norm.
    found = detections(make(name))
    outputs |= {f"{name}/{key}": value for key, value in found.items()}
    for key, value in found.items():
      if key.endswith("scores"):
        print(name, key, value.round(4))
      if key.endswith("classes"):
        print(name, key, value)
        scores = outputs[f"{name}/{key}".replace("classes", "scores")]
        print("least gap", -np.diff(scores).max())
      if key.endswith("logits"):
        print(name, key, value.shape, np.abs(value).mean(), value.std(0).mean())
  path = pathlib.Path(__file__).with_suffix(".npz")
  np.savez_compressed(path, **outputs)
  print(path.stat().st_size)


if __name__ == "__main__":
  main()
