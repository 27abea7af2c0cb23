"""Writes detection_ops_peers.npz: torchvision's box ops and detection losses.

    python -m tests.golden.detection_ops_peers

Needs requirements.txt beside it.
"""

import pathlib

import numpy as np
import torch
import torchvision
from torch.nn import functional as F
from torchvision import ops
from torchvision.models.detection import roi_heads

from cases.detection_inputs import op_inputs


def roi_align(inputs: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
  """Values and gradients of the compiled kernel."""
  outputs = {}
  for aligned in (False, True):
    for ratio in (1, 2):
      features = inputs["features"].movedim(-1, 1).requires_grad_()
      pooled = ops.roi_align(
        features,
        list(inputs["rois"]),
        3,
        spatial_scale=0.25,
        sampling_ratio=ratio,
        aligned=aligned,
      )
      weights = inputs["roi_weights"].flatten(0, 1).movedim(-1, 1)
      (gradient,) = torch.autograd.grad((pooled * weights).sum(), features)
      name = f"roi_align/{aligned}/{ratio}"
      outputs[name] = pooled.movedim(1, -1).detach().numpy()
      outputs[f"{name}/gradient"] = gradient.movedim(1, -1).numpy()
  return outputs


def main() -> None:
  arrays = op_inputs()
  inputs = {name: torch.from_numpy(value) for name, value in arrays.items()}
  outputs = roi_align(inputs)
  boxes, scores, groups = (inputs[x] for x in ("boxes", "scores", "groups"))
  for threshold in (0.0, 0.3, 0.5, 0.6, 1.0):
    kept = ops.batched_nms(boxes, scores, groups, threshold)
    outputs[f"nms/{threshold}"] = kept.numpy()
  pasted = roi_heads.paste_masks_in_image(
    inputs["masks"][:, None], inputs["mask_boxes"], (40, 50)
  )
  outputs["paste"] = pasted[:, 0].numpy().astype(np.float16)
  outputs["paste/inside"] = np.packbits(pasted[:, 0].numpy() >= 0.5)
  pairs = inputs["pairs"], inputs["other_pairs"]
  outputs["giou"] = ops.generalized_box_iou_loss(*pairs, eps=0.0).numpy()
  for beta in (0.0, 1 / 9, 1.0):
    loss = F.smooth_l1_loss(*pairs, beta=beta, reduction="none")
    outputs[f"smooth_l1/{beta:.3f}"] = loss.sum(-1).numpy()
  for alpha in (0.25, -1.0):
    loss = ops.sigmoid_focal_loss(
      inputs["logits"], inputs["labels"].float(), alpha, 2.0
    )
    outputs[f"focal/{alpha}"] = loss.numpy()
  path = pathlib.Path(__file__).with_suffix(".npz")
  np.savez_compressed(path, **outputs)
  print(torch.__version__, torchvision.__version__, path.stat().st_size)


if __name__ == "__main__":
  main()
