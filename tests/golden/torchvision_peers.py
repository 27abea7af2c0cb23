"""Writes torchvision_peers.npz: what torchvision's models make of an image.

    python -m tests.golden.torchvision_peers

Needs requirements.txt beside it. Weights come from `filled.fill`, so that the
file holds outputs alone.
"""

import pathlib

import numpy as np
import torch
import torchvision
from torchvision.models._utils import IntermediateLayerGetter

from cases.filled import fill, image

SIZE = (65, 97)


def filled(model: torch.nn.Module) -> torch.nn.Module:
  state = {
    key: torch.from_numpy(np.asarray(fill(key, tuple(value.shape))))
    if value.is_floating_point()
    else value
    for key, value in model.state_dict().items()
  }
  model.load_state_dict(state)
  return model.eval()


def sampled(tensor: torch.Tensor) -> np.ndarray:
  """NHWC, every seventh channel and third pixel: enough to tell."""
  return tensor.detach().permute(0, 2, 3, 1).numpy()[:, ::3, ::3, ::7]


def main() -> None:
  x = torch.from_numpy(image(*SIZE)).permute(0, 3, 1, 2)
  outputs = {}
  stages = {"relu": "0", **{f"layer{n}": str(n) for n in range(1, 5)}}
  for depth in (18, 34, 50):
    model = filled(getattr(torchvision.models, f"resnet{depth}")(weights=None))
    features = IntermediateLayerGetter(model, stages)(x)
    for name, feature in features.items():
      outputs[f"resnet{depth}/{name}"] = sampled(feature)
  vgg = filled(torchvision.models.vgg16(weights=None)).features
  feature = x
  for index, layer in enumerate(vgg):
    if isinstance(layer, torch.nn.MaxPool2d):
      outputs[f"vgg16/{index}"] = sampled(feature)
    feature = layer(feature)
  outputs["vgg16/last"] = sampled(feature)
  feature = x
  for index, layer in enumerate(
    filled(torchvision.models.convnext_tiny(weights=None)).features
  ):
    feature = layer(feature)
    if index % 2:
      outputs[f"convnext_tiny/{index // 2}"] = sampled(feature)
  fcn = filled(
    torchvision.models.segmentation.fcn_resnet50(
      weights=None, weights_backbone=None, aux_loss=True
    )
  )
  with torch.no_grad():
    scores = fcn(x)
  for name in ("out", "aux"):
    logits = scores[name].permute(0, 2, 3, 1).numpy()
    outputs[f"fcn_resnet50/{name}"] = logits[:, ::2, ::3]
  path = pathlib.Path(__file__).with_suffix(".npz")
  np.savez_compressed(path, **outputs)
  for name, value in outputs.items():
    print(name, value.shape, float(np.abs(value).max()))


if __name__ == "__main__":
  main()
