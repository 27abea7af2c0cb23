"""Faster R-CNN on crowded scenes of handwritten digits: boxes, no masks.

The detector of maskrcnn_digits without its mask head, for one class: test box
AP50 0.79 (AP 0.42) after 8 minutes of CPU time.

  python -m segsiam_jax.main --config=configs/fasterrcnn_digits.py \
    --workdir=runs/fasterrcnn_digits
"""

from segsiam_jax.config import default_config, shorten
from segsiam_jax.models.mask_rcnn import FORMS


def get_config(arg: str = ""):
  config = default_config("instance", "faster_rcnn")
  config.data.name = "digit_scenes/crowds"
  config.data.one_class = "digit"
  config.data.min_side = 128
  config.data.buckets = ("128x128",)
  config.data.max_objects = 10
  config.augment.flip_left_right = True
  config.augment.brightness = 0.1
  config.augment.contrast = (0.8, 1.2)
  form = dict(FORMS["tiny"])
  del form["mask_convs"]
  config.model.update(form)
  config.model.head_norm = "batch"
  config.model.anchor_sizes = (21, 30, 42, 53, 64)
  config.model.aspect_ratios = (1.0, 1.5, 2.0)
  config.model.roi_samples = 40
  config.model.nms = "linear"
  config.optimizer.learning_rate = 2e-3
  config.optimizer.weight_decay = 1e-4
  config.optimizer.warmup_steps = 50
  config.optimizer.clip_norm = 1.0
  config.train.batch_size = 8
  config.train.eval_batch_size = 16
  config.train.num_steps = 800
  config.train.eval_every = 400
  config.train.checkpoint_every = 200
  config.train.best_metric = "box/AP50"
  if arg == "debug":
    config.data.train_split = "train[:16]"
    config.data.eval_split = "test[:8]"
    config.data.min_side = 64
    config.data.buckets = ("64x64",)
    config.model.encoder_width = 4
    config.model.width = 8
    config.model.box_widths = (16,)
    shorten(config)
  elif arg:
    raise ValueError(f"{arg!r} is not 'debug'")
  return config
