"""segmentation-models-pytorch's Unet on ResNets.

It is our `UNet` with encoder 'resnet18', 'resnet34', 'resnet50' or 'resnet101',
upsample 'nearest' and head_kernel 3.
"""

import numpy as np

from segsiam_jax.pretrained.state_dict import (
  Family,
  PyTree,
  StateDict,
  to_state_dict,
  to_variables,
)
from segsiam_jax.pretrained.torchvision import resnet_module

_LAYERS = {
  "conv1": "conv1.0",
  "norm1": "conv1.1",
  "conv2": "conv2.0",
  "norm2": "conv2.1",
}


def unet_module(modules: tuple[str, ...]) -> str:
  """Our name of a `UNet`'s module -> segmentation-models-pytorch's.

  >>> unet_module(("decoder3", "convs", "norm2")), unet_module(("logits",))
  ('decoder.blocks.3.conv2.1', 'segmentation_head.0')
  """
  part, *rest = modules
  if part == "encoder":
    return f"encoder.{resnet_module(tuple(rest))}"
  if part == "logits":
    return "segmentation_head.0"
  # What it does not have, such as gates, is named all the same: it is missing.
  layers = [_LAYERS.get(name, name) for name in rest if name != "convs"]
  return ".".join([part.replace("decoder", "decoder.blocks."), *layers])


UNET = Family(unet_module, "encoder.conv1")


def unet(state_dict: StateDict, template: PyTree) -> PyTree:
  """Variables of a `UNet` from those of segmentation-models-pytorch."""
  return to_variables(state_dict, template, UNET)


def unet_state_dict(variables: PyTree) -> dict[str, np.ndarray]:
  """segmentation-models-pytorch's names and layout."""
  return to_state_dict(variables, UNET)
