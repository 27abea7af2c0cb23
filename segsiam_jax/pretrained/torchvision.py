"""torchvision's weights: ResNets, VGG16, FCN on ResNet.

Of each family a function to our variables and one back; see `state_dict` for
what they raise.
"""

import functools

import numpy as np

from segsiam_jax.models.vgg import STAGES
from segsiam_jax.pretrained.formats import Format, in_encoders
from segsiam_jax.pretrained.state_dict import (
  Family,
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
def _vgg_indices(batch_norm: bool) -> dict[str, int]:
  """Positions of the layers with weights in torchvision's `features`."""
  indices, position = {}, 0
  for stage, count in enumerate(STAGES, 1):
    for index in range(1, count + 1):
      indices[f"conv{stage}_{index}"] = position
      position += 1
      if batch_norm:
        indices[f"bn{stage}_{index}"] = position
        position += 1
      position += 1  # ReLU
    position += 1  # pooling
  return indices


def vgg_module(modules: tuple[str, ...], batch_norm: bool = False) -> str:
  """Our name of a VGG16's module -> torchvision's.

  >>> vgg_module(("conv3_1",)), vgg_module(("bn3_1",), batch_norm=True)
  ('features.10', 'features.15')
  """
  indices = _vgg_indices(batch_norm)
  # What it does not have is named all the same: it is missing.
  return f"features.{indices.get(modules[0], modules[0])}"


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


_NEXT = {
  "depthwise": "block.0",
  "norm": "block.2",
  "expand": "block.3",
  "reduce": "block.5",
  "layer_scale": "layer_scale",
}


def convnext_module(modules: tuple[str, ...]) -> str:
  """Our name of a ConvNeXt's module -> torchvision's.

  >>> convnext_module(("stage1_0", "expand")), convnext_module(("down1",))
  ('features.3.0.block.3', 'features.2.1')
  """
  part, *rest = modules
  if part.startswith("stem"):
    return f"features.0.{int(part == 'stem_norm')}"
  if part.startswith("down"):
    stage = int(part[len("down")])
    return f"features.{2 * stage}.{int(not part.endswith('_norm'))}"
  stage, index = part.removeprefix("stage").split("_")
  return f"features.{2 * int(stage) + 1}.{index}.{_NEXT[rest[0]]}"


def _read_scales(state_dict: StateDict) -> StateDict:
  """Layer scales as layers with a weight (C,)."""
  read = dict(state_dict)
  for key in state_dict:
    if key.endswith("layer_scale"):
      read[f"{key}.weight"] = read.pop(key).ravel()
  return read


def _write_scales(state_dict: StateDict) -> StateDict:
  written = dict(state_dict)
  for key in state_dict:
    if key.endswith("layer_scale.weight"):
      scale = written.pop(key)[:, None, None]
      written[key.removesuffix(".weight")] = scale
  return written


def _classifier(key: str) -> bool:
  return key.startswith(("fc.", "classifier."))


RESNET = Family(resnet_module, "conv1", _classifier)
CONVNEXT = Family(
  convnext_module, "features.0.0", _classifier, _read_scales, _write_scales
)
VGG16 = Family(vgg_module, "features.0", _classifier)
VGG16_BN = Family(
  functools.partial(vgg_module, batch_norm=True), "features.0", _classifier
)


def fcn_family(auxiliary: bool) -> Family:
  """Of `FCNResNet`; without its auxiliary head that one stays unread."""
  return Family(
    fcn_module,
    "backbone.conv1",
    lambda key: not auxiliary and key.startswith("aux_classifier."),
  )


def resnet(state_dict: StateDict, template: PyTree) -> PyTree:
  """Variables of a `ResNet` from torchvision's; its classifier is left."""
  return to_variables(state_dict, template, RESNET)


def vgg16(state_dict: StateDict, template: PyTree) -> PyTree:
  """Variables of a `VGG16` from torchvision's; its classifier is left."""
  return to_variables(state_dict, template, _vgg(template))


def fcn_resnet(state_dict: StateDict, template: PyTree) -> PyTree:
  """Variables of an `FCNResNet` from torchvision's."""
  family = fcn_family("aux_head" in template["params"])
  return to_variables(state_dict, template, family)


def resnet_state_dict(variables: PyTree) -> dict[str, np.ndarray]:
  """torchvision's names and layout; without a classifier."""
  return to_state_dict(variables, RESNET)


def convnext(state_dict: StateDict, template: PyTree) -> PyTree:
  """Variables of a `ConvNeXt` from torchvision's; its classifier is left."""
  return to_variables(state_dict, template, CONVNEXT)


def convnext_state_dict(variables: PyTree) -> dict[str, np.ndarray]:
  """torchvision's names and layout; without a classifier."""
  return to_state_dict(variables, CONVNEXT)


def vgg16_state_dict(variables: PyTree) -> dict[str, np.ndarray]:
  """torchvision's names and layout; without a classifier."""
  return to_state_dict(variables, _vgg(variables))


def fcn_resnet_state_dict(variables: PyTree) -> dict[str, np.ndarray]:
  """torchvision's names and layout."""
  return to_state_dict(variables, fcn_family(True))


def _vgg(variables: PyTree) -> Family:
  return VGG16_BN if "bn1_1" in variables["params"] else VGG16


def _vgg16_family(params: PyTree) -> Family | None:
  """Also FCN's first two layers, which were the classifier's (arXiv:1411.4038,
  section 4.1)."""
  family = in_encoders(VGG16, "conv1_1")(params)
  if family is None or "fc6" not in params:
    return family
  convolutional = {"fc6": "classifier.0", "fc7": "classifier.3"}

  def module(modules: tuple[str, ...]) -> str | None:
    return convolutional.get(modules[0]) or family.module(modules)

  return family._replace(module=module)


# Of encoders.
FORMATS = [
  Format(
    "torchvision's ConvNeXt",
    lambda keys: "features.1.0.layer_scale" in keys,
    in_encoders(CONVNEXT, "stage0_0"),
    "models with the same ConvNeXt as encoder",
  ),
  Format(
    "torchvision's ResNet",
    lambda keys: {"conv1.weight", "layer1.0.conv1.weight"} <= set(keys),
    in_encoders(RESNET, "layer1_0"),
    "models with the same ResNet as encoder",
  ),
  Format(
    "torchvision's VGG16 with batch norm",
    lambda keys: {"features.0.weight", "features.1.weight"} <= set(keys),
    in_encoders(VGG16_BN, "bn1_1"),
    "models with encoder 'vgg16_bn'",
  ),
  Format(
    "torchvision's VGG16",
    lambda keys: {"features.0.weight", "features.2.weight"} <= set(keys),
    _vgg16_family,
    "models with encoder 'vgg16', and 'fcn' with width = 4096",
  ),
]
