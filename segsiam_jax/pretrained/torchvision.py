"""torchvision's weights: ResNets, VGG16, FCN on ResNet.

`to_variables(state_dict, template)` and `to_state_dict(variables)` of each
family; see `state_dict` for what they raise.
"""

import functools

import numpy as np

from segsiam_jax.models.vgg import STAGES
from segsiam_jax.pretrained.state_dict import (
  PyTree,
  StateDict,
  to_state_dict,
  to_variables,
)


def resnet_module(modules: tuple[str, ...]) -> str:
  """Our name of a ResNet's module -> torchvision's.

  >>> resnet_module(("layer1_0", "downsample_bn"))
  'layer1.0.downsample.1'
  """
  renamed = {"downsample_conv": "downsample.0", "downsample_bn": "downsample.1"}
  parts = [renamed.get(part, part) for part in modules]
  if parts[0].startswith("layer"):
    parts[0] = parts[0].replace("_", ".")
  return ".".join(parts)


@functools.cache
def _vgg_indices() -> dict[str, int]:
  """Positions of the convolutions in torchvision's `features`."""
  indices, position = {}, 0
  for stage, count in enumerate(STAGES, 1):
    for index in range(1, count + 1):
      indices[f"conv{stage}_{index}"] = position
      position += 2  # and its ReLU
    position += 1  # pooling
  return indices


def vgg_module(modules: tuple[str, ...]) -> str:
  """Our name of a VGG16's module -> torchvision's.

  >>> vgg_module(("conv3_1",))
  'features.10'
  """
  return f"features.{_vgg_indices()[modules[0]]}"


_FCN_PARTS = {"conv": "0", "bn": "1", "score": "4"}
_FCN_HEADS = {"head": "classifier", "aux_head": "aux_classifier"}


def fcn_module(modules: tuple[str, ...]) -> str:
  """Our name of an `FCNResNet`'s module -> torchvision's.

  >>> fcn_module(("aux_head", "score")), fcn_module(("encoder", "conv1"))
  ('aux_classifier.4', 'backbone.conv1')
  """
  part, *rest = modules
  if part == "encoder":
    return f"backbone.{resnet_module(tuple(rest))}"
  return f"{_FCN_HEADS[part]}.{_FCN_PARTS[rest[0]]}"


def resnet(state_dict: StateDict, template: PyTree) -> PyTree:
  """Variables of a `ResNet` from torchvision's; its classifier is left."""
  return to_variables(
    state_dict,
    template,
    resnet_module,
    first_conv="conv1",
    unused=lambda key: key.startswith("fc."),
  )


def vgg16(state_dict: StateDict, template: PyTree) -> PyTree:
  """Variables of a `VGG16` from torchvision's; its classifier is left."""
  return to_variables(
    state_dict,
    template,
    vgg_module,
    first_conv="features.0",
    unused=lambda key: key.startswith("classifier."),
  )


def fcn_resnet(state_dict: StateDict, template: PyTree) -> PyTree:
  """Variables of an `FCNResNet` from torchvision's.

  A model without its auxiliary head leaves that one unread.
  """
  auxiliary = "aux_head" in template["params"]
  return to_variables(
    state_dict,
    template,
    fcn_module,
    first_conv="backbone.conv1",
    unused=lambda key: not auxiliary and key.startswith("aux_classifier."),
  )


def resnet_state_dict(variables: PyTree) -> dict[str, np.ndarray]:
  """torchvision's names and layout; without a classifier."""
  return to_state_dict(variables, resnet_module)


def vgg16_state_dict(variables: PyTree) -> dict[str, np.ndarray]:
  """torchvision's names and layout; without a classifier."""
  return to_state_dict(variables, vgg_module)


def fcn_resnet_state_dict(variables: PyTree) -> dict[str, np.ndarray]:
  """torchvision's names and layout."""
  return to_state_dict(variables, fcn_module)
