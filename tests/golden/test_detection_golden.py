"""Same weights, same image: torchvision's detections and losses.

`detection_peers.py` wrote the values and says how to write them again.
"""

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cases.detection_inputs import (
  DETECTIONS,
  LOSS_SIZE,
  SIZES,
  SMALL_CLASSES,
  fill_detector,
  loss_inputs,
  picture,
)
from segsiam_jax.models.mask_rcnn import FORMS, MaskRCNN
from segsiam_jax.pretrained import torchvision_detection

STORED = np.load(pathlib.Path(__file__).with_name("detection_peers.npz"))
SMALL = {
  "num_classes": SMALL_CLASSES,
  "encoder": "resnet18",
  "width": 32,
  "box_widths": (64, 64),
  "mask_convs": 2,
}
MODELS = {
  "small": SMALL,
  "v1": FORMS["v1"] | {"num_classes": 91},
  "v2": FORMS["v2"] | {"num_classes": 91},
}
# The whole models take minutes to compile on a busy machine.
NAMES = [
  "small",
  *(pytest.param(n, marks=pytest.mark.slow) for n in ("v1", "v2")),
]


def make(name):
  return MaskRCNN(**MODELS[name], max_detections=DETECTIONS)


@functools.cache
def variables_of(name):
  """torchvision's weights, brought over."""
  model = make(name)
  template = jax.eval_shape(
    lambda: model.init(
      jax.random.key(0), jnp.zeros((1, 32, 32, 3)), jnp.full((1, 2), 32)
    )
  )
  zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), template)
  state_dict = {
    key: fill_detector(name, key, value.shape)
    for key, value in torchvision_detection.rcnn_state_dict(zeros).items()
  }
  state_dict["roi_heads.box_predictor.cls_score.bias"] = STORED[f"{name}/bias"]
  return torchvision_detection.rcnn(state_dict, template)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_detections_are_torchvisions(name, size):
  pads = [(0, -length % 32) for length in size]
  images = np.pad(picture(*size), (*pads, (0, 0)))[None]
  found, inner = jax.jit(
    functools.partial(
      make(name).apply,
      capture_intermediates=lambda module, _: module.name == "mask_head",
      mutable=["intermediates"],
    )
  )(variables_of(name), images, np.array([size]))
  stored = {
    key: STORED[f"{name}/{size[0]}/{size[1]}/{key}"]
    for key in ("boxes", "classes", "scores", "mask_logits")
  }
  assert found["valid"].all()
  np.testing.assert_array_equal(found["classes"][0], stored["classes"])
  np.testing.assert_allclose(found["scores"][0], stored["scores"], atol=1e-4)
  np.testing.assert_allclose(found["boxes"][0], stored["boxes"], atol=0.05)
  # Not from the probabilities: of a logit of 11 float32 leaves two digits.
  [logits] = inner["intermediates"]["mask_head"]["__call__"]
  logits, masks = (x[0, ::3, ::4, ::4] for x in (logits, found["masks"]))
  np.testing.assert_allclose(logits, stored["mask_logits"], atol=1e-3)
  np.testing.assert_allclose(
    masks, 1 / (1 + np.exp(-stored["mask_logits"])), atol=1e-4
  )


@pytest.fixture
def first_candidates(monkeypatch):
  """Samplers take the first candidates, as torchvision's did for the file."""
  monkeypatch.setattr(
    jax.random,
    "uniform",
    lambda key, shape, dtype: 1.0 - jnp.arange(shape[0]) / shape[0],
  )


@pytest.mark.usefixtures("first_candidates")
@pytest.mark.parametrize("name", NAMES)
def test_losses_are_torchvisions(name):
  model = make(name)
  inputs = loss_inputs(model.num_classes)
  targets = {key: inputs[key] for key in ("boxes", "classes", "valid")}
  targets["masks"] = inputs["crops"].astype(np.float32)
  losses, _ = jax.jit(
    functools.partial(model.apply, train=True, mutable=["batch_stats"])
  )(
    variables_of(name),
    inputs["images"],
    np.array([LOSS_SIZE, LOSS_SIZE]),
    targets,
    jax.random.split(jax.random.key(0), 2),
  )
  for ours, theirs in (
    ("rpn_objectness", "loss_objectness"),
    ("rpn_box", "loss_rpn_box_reg"),
    ("roi_class", "loss_classifier"),
    ("roi_box", "loss_box_reg"),
    ("mask", "loss_mask"),
  ):
    stored = STORED[f"{name}/{theirs}"]
    assert float(losses[ours].mean()) == pytest.approx(float(stored), rel=2e-4)
