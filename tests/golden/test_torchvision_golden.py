"""Same weights, same image: torchvision's features and logits."""

import pathlib

import jax
import numpy as np
import pytest

from cases.filled import SIZE, image, shapes, state_dict_of
from segsiam_jax.models.convnext import ConvNeXt
from segsiam_jax.models.fcn import FCNResNet
from segsiam_jax.models.resnet import ResNet
from segsiam_jax.models.vgg import VGG16
from segsiam_jax.pretrained import torchvision

STORED = np.load(pathlib.Path(__file__).parent / "torchvision_peers.npz")


def outputs(model, variables):
  return jax.jit(model.apply)(variables, image(*SIZE))


def sampled(feature):
  return feature[:, ::3, ::3, ::7]


@pytest.mark.parametrize(
  "depth",
  [18, pytest.param(34, marks=pytest.mark.slow), 50],
)
def test_resnet_features(depth):
  model = ResNet(depth)
  template = shapes(model)
  state_dict = state_dict_of(template, torchvision.resnet_state_dict)
  features = outputs(model, torchvision.resnet(state_dict, template))
  for stage, feature in enumerate(features):
    stored = STORED[f"resnet{depth}/{stage}"]
    np.testing.assert_allclose(sampled(feature), stored, atol=1e-4)
    assert feature.shape[-1] == model.channels[stage]
    assert feature.shape[1] == -(-SIZE[0] // model.strides[stage])


def test_convnext_features():
  model = ConvNeXt("tiny")
  template = shapes(model)
  # torchvision's 28,589,128 without its classifier.
  assert sum(leaf.size for leaf in jax.tree.leaves(template)) == 27_818_592
  state_dict = state_dict_of(template, torchvision.convnext_state_dict)
  features = outputs(model, torchvision.convnext(state_dict, template))
  for stage, feature in enumerate(features):
    stored = STORED[f"convnext_tiny/{stage}"]
    np.testing.assert_allclose(sampled(feature), stored, atol=1e-4)
    assert feature.shape[-1] == model.channels[stage]
    assert feature.shape[1] == SIZE[0] // model.strides[stage]


def test_vgg16_features():
  model = VGG16()
  template = shapes(model)
  state_dict = state_dict_of(template, torchvision.vgg16_state_dict)
  features = outputs(model, torchvision.vgg16(state_dict, template))
  for feature, name in zip(
    features, ("4", "9", "16", "23", "30", "last"), strict=True
  ):
    stored = STORED[f"vgg16/{name}"]
    np.testing.assert_allclose(sampled(feature), stored, atol=1e-4)


def test_fcn_resnet50_logits():
  model = FCNResNet(21)
  template = shapes(model)
  count = sum(leaf.size for leaf in jax.tree.leaves(template["params"]))
  assert count == 35_322_218
  state_dict = state_dict_of(template, torchvision.fcn_resnet_state_dict)
  logits = outputs(model, torchvision.fcn_resnet(state_dict, template))
  for ours, name in ((logits.main, "out"), (logits.auxiliary[0], "aux")):
    stored = STORED[f"fcn_resnet50/{name}"]
    np.testing.assert_allclose(ours[:, ::2, ::3], stored, atol=1e-4)


def test_parameter_counts():
  for model, count in (
    (FCNResNet(21, "resnet101"), 54_314_346),
    (ResNet(18), 11_689_512 - 513_000),
    (ResNet(34), 21_797_672 - 513_000),
    (ResNet(50), 25_557_032 - 2_049_000),
    (ResNet(101), 44_549_160 - 2_049_000),
    (VGG16(), 14_714_688),
  ):
    params = shapes(model)["params"]
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == count
