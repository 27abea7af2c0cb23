"""torchvision's detectors with weights by a formula of their names."""

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

from cases.detection_inputs import (
  DETECTIONS,
  SIZES,
  SMALL_CLASSES,
  fill_detector,
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
