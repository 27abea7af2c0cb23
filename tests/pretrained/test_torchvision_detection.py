"""torchvision's detectors there and back, with keys of old and new files."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segsiam_jax.errors import UserError
from segsiam_jax.pretrained import load
from segsiam_jax.pretrained import torchvision_detection as detection
from segsiam_jax.pretrained.state_dict import write_state_dict
from tests.pretrained.detectors import template_of

SECOND = {
  "norm": "batch",
  "head_norm": "batch",
  "rpn_convs": 2,
  "box_convs": 4,
  "box_widths": (16,),
}


def random_like(template):
  rng = np.random.default_rng(0)
  return jax.tree.map(
    lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), template
  )


@pytest.mark.parametrize(
  ("version", "first"),
  [
    ({}, "box_head.fc6"),
    (SECOND, "box_head.5"),
    (SECOND | {"box_convs": 2}, "box_head.3"),
  ],
  ids=["v1", "v2", "two convolutions"],
)
def test_there_and_back(version, first):
  template = template_of(**version)
  variables = random_like(template)
  state_dict = detection.rcnn_state_dict(variables)
  again = detection.rcnn(state_dict, template)
  jax.tree.map(np.testing.assert_array_equal, variables, again)
  deconvolution = "roi_heads.mask_predictor.conv5_mask"
  assert state_dict[f"{deconvolution}.weight"].shape == (8, 8, 2, 2)
  assert state_dict[f"{deconvolution}.bias"].shape == (8,)
  assert state_dict["rpn.head.bbox_pred.weight"].shape == (12, 8, 1, 1)
  dense = variables["params"]["box_head"]["dense0"]["kernel"]
  # Rows, columns, channels here; channels, rows, columns there.
  np.testing.assert_array_equal(
    state_dict[f"roi_heads.{first}.weight"].reshape(16, 8, 7, 7)[5, 2, 3, 4],
    dense.reshape(7, 7, 8, 16)[3, 4, 2, 5],
  )


def test_old_keys_are_read():
  template = template_of()
  state_dict = detection.rcnn_state_dict(random_like(template))
  old = {}
  for key, value in state_dict.items():
    for level in range(4):
      for block in ("inner_blocks", "layer_blocks"):
        key = key.replace(f"{block}.{level}.0.", f"{block}.{level}.")
      key = key.replace(
        f"mask_head.{level}.0.", f"mask_head.mask_fcn{level + 1}."
      )
    key = key.replace("rpn.head.conv.0.0.", "rpn.head.conv.")
    old[key] = value
  assert "roi_heads.mask_head.mask_fcn4.bias" in old
  assert "backbone.fpn.layer_blocks.3.weight" in old
  jax.tree.map(
    np.testing.assert_array_equal,
    detection.rcnn(old, template),
    detection.rcnn(state_dict, template),
  )


def test_faster_rcnn_takes_mask_rcnns():
  state_dict = detection.rcnn_state_dict(random_like(template_of()))
  variables = detection.rcnn(state_dict, template_of(with_masks=False))
  assert "mask_head" not in variables["params"]
  with pytest.raises(UserError, match=r"mask_head\.0\.0\.weight is missing"):
    boxes_alone = detection.rcnn_state_dict(variables)
    detection.rcnn(boxes_alone, template_of())


def test_cocos_91_outputs_go_to_81_classes():
  """By category id; what COCO does not use is left out."""
  state_dict = detection.rcnn_state_dict(
    random_like(template_of(num_classes=91))
  )
  template = template_of(num_classes=81)
  read = detection.rcnn(state_dict, template)["params"]
  # Toothbrush is category 90 and class 80, motorcycle 4 and 4; 12 is unused,
  # stop sign is 13 and class 12.
  predictor = "roi_heads.box_predictor"
  masks = "roi_heads.mask_predictor.mask_fcn_logits"
  for of_class, of_id in ((0, 0), (4, 4), (12, 13), (80, 90)):
    np.testing.assert_array_equal(
      read["box_head"]["logits"]["kernel"][:, of_class],
      state_dict[f"{predictor}.cls_score.weight"][of_id],
    )
    np.testing.assert_array_equal(
      read["box_head"]["deltas"]["kernel"][:, 4 * of_class + 2],
      state_dict[f"{predictor}.bbox_pred.weight"][4 * of_id + 2],
    )
    np.testing.assert_array_equal(
      read["box_head"]["deltas"]["bias"][4 * of_class + 3],
      state_dict[f"{predictor}.bbox_pred.bias"][4 * of_id + 3],
    )
    np.testing.assert_array_equal(
      read["mask_head"]["logits"]["kernel"][..., of_class].ravel(),
      state_dict[f"{masks}.weight"][of_id].ravel(),
    )
    assert (
      read["mask_head"]["logits"]["bias"][of_class]
      == state_dict[f"{masks}.bias"][of_id]
    )
  # No other number of classes is taken for COCO's.
  with pytest.raises(UserError, match="cls_score"):
    detection.rcnn(state_dict, template_of(num_classes=80))


def test_a_run_starts_from_a_file(tmp_path):
  """Of other classes: what predicts them stays fresh."""
  state_dict = detection.rcnn_state_dict(random_like(template_of()))
  write_state_dict(tmp_path / "coco.safetensors", state_dict)
  fresh = jax.tree.map(
    lambda leaf: jnp.zeros(leaf.shape), template_of(num_classes=5)
  )
  params, state = fresh["params"], {"batch_stats": fresh["batch_stats"]}
  with pytest.raises(UserError, match="torchvision's Mask R-CNN.*init_skip"):
    load.load_weights(tmp_path / "coco.safetensors", params, state)
  params, state = load.load_weights(
    tmp_path / "coco.safetensors",
    params,
    state,
    skip="box_head/(logits|deltas)|mask_head/logits",
  )
  assert params["box_head"]["dense1"]["kernel"].all()
  assert not params["box_head"]["deltas"]["kernel"].any()
  assert not params["mask_head"]["logits"]["bias"].any()
  # Frozen norms are state, not parameters.
  assert state["batch_stats"]["encoder"]["bn1"]["scale"].all()
