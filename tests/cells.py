"""Images of cells for a tiny detector, and its config."""

import numpy as np
from PIL import Image

from segsiam_jax.config import default_config
from segsiam_jax.models.mask_rcnn import FORMS

SIZES = ((64, 64), (64, 96))


def write_cells(folder, count, seed):
  """Bright discs on dark, in images of two sizes; the last one has none."""
  random = np.random.default_rng(seed)
  for name in ("images", "labels"):
    (folder / name).mkdir(parents=True)
  for index in range(count):
    height, width = SIZES[index % 2]
    ys, xs = np.mgrid[:height, :width]
    image = random.normal(60, 8, (height, width, 3))
    labels = np.zeros((height, width), np.uint16)
    for number in range(0 if index == count - 1 else 3):
      y, x = random.uniform(10, height - 10), random.uniform(10, width - 10)
      inside = (ys - y) ** 2 + (xs - x) ** 2 < random.uniform(6, 12) ** 2
      labels[inside] = number + 1
      image[inside] = random.uniform(120, 250, 3)
    image = np.clip(image, 0, 255).astype(np.uint8)
    Image.fromarray(image).save(folder / f"images/{index:03d}.png")
    Image.fromarray(labels).save(folder / f"labels/{index:03d}.png")


def make_config(root, model="mask_rcnn"):
  config = default_config("instance", model)
  config.data.name = "folder"
  config.data.dir = str(root)
  config.data.class_names = ("cell",)
  config.data.buckets = ("64x64", "64x96")
  config.data.max_objects = 4
  config.data.threads = 1
  tiny = dict(FORMS["tiny"], encoder_width=4, width=8, box_widths=(16,))
  if model == "faster_rcnn":
    del tiny["mask_convs"]
  config.model.update(tiny)
  config.model.rpn_pre_nms = config.model.rpn_post_nms = (32, 32)
  config.model.max_candidates = config.model.max_detections = 16
  config.train.batch_size = 4
  config.train.eval_batch_size = 4
  config.train.num_steps = 4
  config.train.log_every = 2
  config.train.eval_every = 4
  config.train.checkpoint_every = 4
  config.train.num_pictures = 2
  return config


SMALL = FORMS["tiny"] | {
  "num_classes": 4,
  "encoder_width": 8,
  "width": 16,
  "box_widths": (32,),
  "mask_convs": 1,
  "max_detections": 6,
}
