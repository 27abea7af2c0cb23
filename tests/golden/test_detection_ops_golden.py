"""Box ops and detection losses against stored values of torchvision.

`detection_ops_peers.py` wrote them and says how to write them again.
"""

import pathlib

import jax
import numpy as np
import pytest

from cases.detection_inputs import op_inputs
from segsiam_jax import losses
from segsiam_jax.ops.masks import paste_masks
from segsiam_jax.ops.nms import nms
from segsiam_jax.ops.roi_align import METHODS, roi_align

STORED = np.load(pathlib.Path(__file__).with_name("detection_ops_peers.npz"))
INPUTS = op_inputs()


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 0.6, 1.0])
def test_nms(threshold):
  kept = nms(
    INPUTS["boxes"], INPUTS["scores"], threshold, groups=INPUTS["groups"]
  )
  index = np.asarray(kept.index)[np.asarray(kept.valid)]
  np.testing.assert_array_equal(index, STORED[f"nms/{threshold}"])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("ratio", [1, 2])
def test_roi_align(method, aligned, ratio):
  boxes = INPUTS["rois"]

  @jax.jit
  def both(features):
    pooled, back = jax.vjp(
      lambda f: roi_align(
        [f],
        boxes,
        np.zeros(boxes.shape[:2], int),
        output_size=3,
        strides=(4,),
        sampling_ratio=ratio,
        aligned=aligned,
        method=method,
      ),
      features,
    )
    return pooled, back(INPUTS["roi_weights"])[0]

  pooled, gradient = both(INPUTS["features"])
  name = f"roi_align/{aligned}/{ratio}"
  np.testing.assert_allclose(
    pooled.reshape(-1, 3, 3, 3), STORED[name], atol=1e-5
  )
  np.testing.assert_allclose(gradient, STORED[f"{name}/gradient"], atol=1e-5)


def test_pasted_masks():
  arguments = INPUTS["masks"], INPUTS["mask_boxes"], (40, 50)
  pasted = paste_masks(*arguments, threshold=None)
  for ours, theirs in zip(pasted, STORED["paste"], strict=True):
    # They are stored in half precision.
    np.testing.assert_allclose(ours, theirs.astype(np.float32), atol=2.5e-4)
  inside = np.stack(list(paste_masks(*arguments)))
  assert inside.any((1, 2)).sum() >= 3
  np.testing.assert_array_equal(np.packbits(inside), STORED["paste/inside"])


def test_giou_loss():
  loss = losses.giou_loss(INPUTS["pairs"], INPUTS["other_pairs"])
  np.testing.assert_allclose(loss, STORED["giou"], rtol=1e-5)


@pytest.mark.parametrize("beta", [0.0, 1 / 9, 1.0])
def test_smooth_l1_loss(beta):
  loss = losses.smooth_l1_loss(
    INPUTS["pairs"], INPUTS["other_pairs"], beta=beta
  )
  np.testing.assert_allclose(loss, STORED[f"smooth_l1/{beta:.3f}"], rtol=1e-5)


@pytest.mark.parametrize("alpha", [0.25, None])
def test_sigmoid_focal_loss(alpha):
  loss = losses.focal_loss(
    INPUTS["logits"],
    INPUTS["labels"],
    activation="sigmoid",
    alpha=alpha,
    normalize="none",
  )
  stored = STORED[f"focal/{-1.0 if alpha is None else alpha}"]
  np.testing.assert_allclose(loss, stored.sum((1, 2)), rtol=1e-5)
