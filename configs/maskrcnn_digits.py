"""Mask R-CNN on crowded scenes of handwritten digits.

Scenes of 4 to 9 overlapping digits on 96x96 pixels. With one class, the test
mask AP50 is 0.62 and the box AP50 0.82 (AP 0.26 and 0.45) after 5 minutes of
CPU time, evaluation and compilation included, with 1.7 GB of memory. 1,500
steps give 0.64 and 0.83. With one device, XLA uses little more than one core;
with XLA_FLAGS=--xla_force_host_platform_device_count=2, two cores take nine
minutes. `:classes` trains on the ten digits as classes: mask AP50 0.55 and box
AP50 0.65 (AP 0.26 and 0.40) after 24 minutes of CPU time.

  python -m segsiam_jax.main --config=configs/maskrcnn_digits.py \
    --workdir=runs/maskrcnn_digits
"""

from segsiam_jax.config import default_config, shorten
from segsiam_jax.models.mask_rcnn import FORMS


def get_config(arg: str = ""):
  config = default_config("instance", "mask_rcnn")
  config.data.name = "digit_scenes/crowds"
  config.data.one_class = "digit"
  # Enlarged: features are at a quarter of the size, strokes three pixels wide.
  config.data.min_side = 128
  config.data.buckets = ("128x128",)
  config.data.max_objects = 10
  config.augment.flip_left_right = True
  config.augment.brightness = 0.1
  config.augment.contrast = (0.8, 1.2)
  config.model.update(FORMS["tiny"])
  config.model.head_norm = "batch"
  config.model.anchor_sizes = (21, 30, 42, 53, 64)
  config.model.aspect_ratios = (1.0, 1.5, 2.0)
  config.model.roi_samples = 40
  config.model.roi_positives = 0.3
  # Overlapping digits have overlapping boxes.
  config.model.nms = "linear"
  config.optimizer.learning_rate = 2e-3
  config.optimizer.weight_decay = 1e-4
  config.optimizer.warmup_steps = 50
  config.optimizer.clip_norm = 1.0
  config.train.batch_size = 8
  config.train.eval_batch_size = 16
  config.train.num_steps = 1050
  config.train.eval_every = 1050
  config.train.checkpoint_every = 200
  config.train.best_metric = "mask/AP50"
  if arg == "classes":
    config.data.one_class = ""
    # A mirrored digit is a different shape.
    config.augment.flip_left_right = False
    config.train.num_steps = config.train.eval_every = 1500
  elif arg == "debug":
    config.data.train_split = "train[:16]"
    config.data.eval_split = "test[:8]"
    config.data.min_side = 64
    config.data.buckets = ("64x64",)
    config.model.encoder_width = 4
    config.model.width = 8
    config.model.box_widths = (16,)
    shorten(config)
  elif arg:
    raise ValueError(f"{arg!r} is not one of 'debug', 'classes'")
  return config
