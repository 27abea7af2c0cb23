"""Writes smp_peers.npz: what segmentation-models-pytorch's Unet makes of an
image.

    python -m tests.golden.smp_peers

Needs requirements.txt beside it. Weights come from `filled.fill`, so that the
file holds outputs alone.
"""

import pathlib

import numpy as np
import segmentation_models_pytorch as smp
import torch

from cases.filled import image
from tests.golden.torchvision_peers import filled

SIZE = (64, 96)


def main() -> None:
  x = torch.from_numpy(image(*SIZE)).permute(0, 3, 1, 2)
  outputs = {}
  for depth in (18, 34, 50, 101):
    model = smp.Unet(f"resnet{depth}", encoder_weights=None, classes=3)
    count = sum(parameter.numel() for parameter in model.parameters())
    outputs[f"resnet{depth}/parameters"] = np.asarray(count)
    if depth < 101:
      with torch.no_grad():
        logits = filled(model)(x)
      outputs[f"resnet{depth}/logits"] = logits.permute(0, 2, 3, 1).numpy()[
        :, ::2, ::3
      ]
  path = pathlib.Path(__file__).with_suffix(".npz")
  np.savez_compressed(path, **outputs)
  for name, value in outputs.items():
    print(name, value.shape, float(np.abs(value).max()))


if __name__ == "__main__":
  main()
