"""Objects of your own images: boxes, classes and masks.

  python -m segsiam_jax.main --config=configs/instance.py \
    --config.data.dir=DATA --workdir=runs/mine

DATA holds images and label images that number the objects (docs/own_data.md),
or, with the preset coco, files in COCO's format. Classes, sizes, channels, mean
and standard deviation come from the training images; a field that you set is
kept. After the colon, in any order:

- a model: mask_rcnn (default), or faster_rcnn for boxes alone;
- its fields, such as encoder=resnet50, or others in full;
- a preset: coco; microscopy (small and many objects, any direction); large (the
  published form on ResNet-50, for GPUs and TPUs); debug.
"""

from segsiam_jax.config import shorten
from segsiam_jax.config.arguments import make_config
from segsiam_jax.models.mask_rcnn import FORMS


def any_images(config):
  config.data.update(name="folder", auto=True)
  config.model.update(
    {k: v for k, v in FORMS["tiny"].items() if k in config.model}
  )
  config.model.update(norm="group", head_norm="group")
  config.augment.update(
    scale=(0.75, 1.33),
    flip_left_right=True,
    brightness=0.1,
    contrast=(0.8, 1.25),
  )
  config.optimizer.update(
    learning_rate=2e-3,
    weight_decay=1e-4,
    warmup_fraction=0.05,
    clip_norm=1.0,
  )
  masks = config.model.name == "mask_rcnn"
  config.train.update(
    batch_size=4,
    eval_batch_size=2,
    epochs=60.0,
    eval_every=0,
    checkpoint_every=0,
    best_metric="mask/AP" if masks else "box/AP",
    patience=15,
  )


def coco(config):
  config.data.update(name="coco", eval_split="val")


def microscopy(config):
  config.augment.update(
    flip_up_down=True,
    transpose=True,
    invert=0.2,
    noise=0.03,
    contrast=(0.7, 1.3),
  )
  config.data.update(stretch=True, min_side=512, enlarge_only=True)
  config.model.update(
    anchor_sizes=(12, 20, 32, 52, 88),
    roi_positives=0.5,
    rpn_pre_nms=(512, 1024),
    rpn_post_nms=(256, 800),
    max_candidates=800,
    max_detections=400,
  )
  config.eval.max_detections = 400


def large(config):
  config.model.update(
    {k: v for k, v in FORMS["v1"].items() if k in config.model}
  )


def debug(config):
  config.data.update(name="digit_scenes/crowds", dir="", auto=False)
  config.data.update(
    train_split="train[:8]",
    eval_split="test[:4]",
    buckets=("96x96",),
    eval_buckets=(),
    min_side=0,
  )
  config.train.update(epochs=0.0, patience=0)
  config.optimizer.warmup_fraction = 0.0
  shorten(config)


PRESETS = {
  "": any_images,
  "coco": coco,
  "microscopy": microscopy,
  "large": large,
  "debug": debug,
}


def get_config(arg: str = ""):
  return make_config("instance", arg, {"mask_rcnn": {}}, PRESETS)
