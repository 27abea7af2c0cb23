"""Tiny detectors, as trees of shapes."""

import jax
import jax.numpy as jnp

from segsiam_jax.models.mask_rcnn import MaskRCNN

SMALL = {
  "num_classes": 3,
  "encoder": "resnet18",
  "encoder_width": 4,
  "width": 8,
  "mask_convs": 4,
}


def template_of(**more):
  model = MaskRCNN(**SMALL | {"box_widths": (16, 12)} | more)
  return jax.eval_shape(
    lambda: model.init(
      jax.random.key(0), jnp.zeros((1, 32, 32, 3)), jnp.full((1, 2), 32)
    )
  )
