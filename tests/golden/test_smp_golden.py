"""Same weights, same image: segmentation-models-pytorch's logits."""

import pathlib

import jax
import numpy as np
import pytest

from cases.filled import image, shapes, state_dict_of
from segsiam_jax.models.unet import UNet
from segsiam_jax.pretrained import smp

STORED = np.load(pathlib.Path(__file__).parent / "smp_peers.npz")
SIZE = (64, 96)
SLOW = pytest.mark.slow


def unet(depth):
  return UNet(3, f"resnet{depth}", upsample="nearest", head_kernel=3)


@pytest.mark.parametrize(
  "depth", [pytest.param(18, marks=SLOW), 34, pytest.param(50, marks=SLOW)]
)
def test_unet_logits(depth):
  model = unet(depth)
  template = shapes(model)
  state_dict = state_dict_of(template, smp.unet_state_dict)
  variables = smp.unet(state_dict, template)
  logits = jax.jit(model.apply)(variables, image(*SIZE))
  stored = STORED[f"resnet{depth}/logits"]
  np.testing.assert_allclose(logits[:, ::2, ::3], stored, atol=1e-4)


@pytest.mark.parametrize("depth", [18, 34, 50, 101])
def test_parameter_counts(depth):
  params = shapes(unet(depth))["params"]
  count = sum(leaf.size for leaf in jax.tree.leaves(params))
  assert count == STORED[f"resnet{depth}/parameters"]
