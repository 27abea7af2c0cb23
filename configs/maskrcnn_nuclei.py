"""Mask R-CNN on nuclei, as in the 2018 Data Science Bowl (BBBC038).

The data are a folder of images of any size, fluorescence and histology, and of
labels that number the nuclei: train/images/NAME.png with train/labels/NAME.png.
By name, the first 100 images train and the rest validate. On 30 validation
images: mask AP 0.48 and AP50 0.86, box AP 0.49 and AP50 0.84, with 400
detections per image (AP 0.47 and 0.48 with COCO's 100), after 53 minutes of CPU
time on busy cores. After 1,000 of the 2,000 steps: 0.44 and 0.83, 0.45 and
0.82. It is weak on large pale cells on white, of which four images are not
enough.

  python -m segsiam_jax.main --config=configs/maskrcnn_nuclei.py \
    --config.data.dir=NUCLEI_FOLDER --workdir=runs/maskrcnn_nuclei
"""

from segsiam_jax.config import default_config, shorten
from segsiam_jax.models.mask_rcnn import FORMS


def get_config(arg: str = ""):
  config = default_config("instance", "mask_rcnn")
  config.data.name = "folder"
  config.data.train_split = "train[:100]"
  config.data.eval_split = "train[100:]"
  config.data.class_names = ("nucleus",)
  # Half of the images have 256 rows, and nuclei of ten pixels.
  config.data.min_side = 512
  config.data.enlarge_only = True
  # Training sees crops, prediction whole images.
  config.data.buckets = ("256x256",)
  config.data.eval_buckets = (
    *("512x512", "512x640", "544x704", "1024x1024", "1056x1408"),
    *("640x1280", "640x512", "704x544", "1408x1056", "1280x640"),
  )
  config.data.max_objects = 96
  config.data.mask_size = 56
  # Some fluorescence images use a tenth of the range.
  config.data.stretch = True
  config.augment.scale = (0.7, 1.5)
  config.augment.flip_left_right = True
  config.augment.flip_up_down = True
  config.augment.transpose = True
  config.augment.invert = 0.2
  config.augment.brightness = 0.1
  config.augment.contrast = (0.7, 1.3)
  config.augment.noise = 0.03
  config.model.update(FORMS["tiny"])
  # Batches are small, and their images differ.
  config.model.norm = config.model.head_norm = "group"
  config.model.anchor_sizes = (12, 20, 32, 52, 88)
  config.model.aspect_ratios = (0.67, 1.0, 1.5)
  config.model.rpn_samples = 128
  config.model.roi_samples = 64
  # There are many objects.
  config.model.roi_positives = 0.5
  # Some images hold hundreds of nuclei.
  config.model.rpn_pre_nms = (512, 1024)
  config.model.rpn_post_nms = (256, 800)
  config.model.max_candidates = 800
  config.model.max_detections = 400
  config.eval.max_detections = 400
  config.optimizer.learning_rate = 2e-3
  config.optimizer.weight_decay = 1e-4
  config.optimizer.warmup_steps = 100
  config.optimizer.clip_norm = 1.0
  config.train.batch_size = 4
  config.train.eval_batch_size = 2
  config.train.num_steps = 2000
  config.train.eval_every = 1000
  config.train.checkpoint_every = 100
  config.train.best_metric = "mask/AP"
  if arg == "debug":
    config.data.train_split = "train[:4]"
    config.data.eval_split = "train[100:102]"
    config.data.buckets = ("64x64",)
    config.data.eval_buckets = ("256x256",)
    config.data.min_side = 0
    config.model.encoder_width = 4
    config.model.width = 8
    config.model.box_widths = (16,)
    shorten(config)
  elif arg:
    raise ValueError(f"{arg!r} is not 'debug'")
  return config
