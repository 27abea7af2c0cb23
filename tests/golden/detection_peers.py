"""Writes detection_peers.npz: what torchvision's detectors find and lose.

    python -m tests.golden.detection_peers

Needs requirements.txt beside it. Weights come from `filled.fill`, so that the
file holds outputs alone. In training the samplers take the first candidates
rather than random ones.
"""

import pathlib

import numpy as np
import torch
from torchvision.models import resnet18
from torchvision.models.detection import MaskRCNN, maskrcnn_resnet50_fpn_v2
from torchvision.models.detection.backbone_utils import (
  BackboneWithFPN,
  resnet_fpn_backbone,
)
from torchvision.models.detection.faster_rcnn import (
  FastRCNNPredictor,
  TwoMLPHead,
)
from torchvision.models.detection.mask_rcnn import (
  MaskRCNNHeads,
  MaskRCNNPredictor,
)
from torchvision.ops.misc import FrozenBatchNorm2d

from tests.golden.detection_inputs import (
  DETECTIONS,
  SIZES,
  SMALL_CLASSES,
  fill_detector,
  loss_inputs,
  picture,
)

# Images come normalised, and are not resized.
OPTIONS = {
  "image_mean": [0.0, 0.0, 0.0],
  "image_std": [1.0, 1.0, 1.0],
  "max_size": 10_000,
  "box_detections_per_img": DETECTIONS,
}


def make(name: str) -> torch.nn.Module:
  frozen = {"weights": None, "norm_layer": FrozenBatchNorm2d}
  if name == "v1":
    backbone = resnet_fpn_backbone(
      backbone_name="resnet50", trainable_layers=5, **frozen
    )
    model = MaskRCNN(backbone, 91, **OPTIONS)
  elif name == "v2":
    model = maskrcnn_resnet50_fpn_v2(
      weights=None, weights_backbone=None, **OPTIONS
    )
  else:
    layers = {f"layer{n + 1}": str(n) for n in range(4)}
    backbone = BackboneWithFPN(
      resnet18(**frozen), layers, [64, 128, 256, 512], 32
    )
    model = MaskRCNN(
      backbone,
      box_head=TwoMLPHead(32 * 49, 64),
      box_predictor=FastRCNNPredictor(64, SMALL_CLASSES),
      mask_head=MaskRCNNHeads(32, (32, 32), 1),
      mask_predictor=MaskRCNNPredictor(32, 32, SMALL_CLASSES),
      **OPTIONS,
    )
  state = {
    key: torch.from_numpy(np.asarray(fill_detector(name, key, value.shape)))
    if value.is_floating_point()
    else value
    for key, value in model.state_dict().items()
  }
  model.load_state_dict(state)
  return level_classes(model.eval())


def level_classes(model: torch.nn.Module) -> torch.nn.Module:
  """Sets the biases of the classes so that none of them wins everywhere."""
  logits, predictor = [], model.roi_heads.box_predictor.cls_score
  hook = predictor.register_forward_hook(
    lambda module, inputs, output: logits.append(output)
  )
  model.transform.min_size = (min(SIZES[0]),)
  with torch.no_grad():
    model([tensor(picture(*SIZES[0]))])
    predictor.bias -= logits[0].mean(0).round(decimals=3)
  hook.remove()
  print("deviation of a class's logits", float(logits[0].std(0).mean()))
  return model


def tensor(pixels: np.ndarray) -> torch.Tensor:
  return torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)


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
