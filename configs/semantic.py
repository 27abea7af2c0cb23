"""Semantic segmentation of your own images: give the folder, and no more.

  python -m segsiam_jax.main --config=configs/semantic.py \
    --config.data.dir=DATA --workdir=runs/mine

DATA holds images with masks in one of the usual layouts (docs/own_data.md).
Classes, image size, channels, bits, mean and standard deviation come from the
training images; a field that you set is kept. After the colon, in any order:

- a model: unet (default), unet_plus_plus, unet_paper, fcn, fcn_resnet;
- its fields, such as encoder=resnet50, or others in full, such as
  loss.focal=1;
- a preset: photos (default), microscopy, volumes, binary (0 is the background,
  anything else the object), multilabel (classes may overlap, a folder of masks
  for each), debug.

  --config=configs/semantic.py:fcn_resnet,encoder=resnet50
  --config=configs/semantic.py:microscopy,train.epochs=100
"""

from segsiam_jax.config import on_digit_scenes, shorten
from segsiam_jax.config.arguments import make_config

MODELS = {
  "unet": {"encoder": "resnet34", "upsample": "nearest"},
  "unet_plus_plus": {"encoder": "resnet34", "upsample": "nearest"},
  "fcn_resnet": {"encoder": "resnet50"},
}


def any_images(config):
  config.data.update(name="folder", auto=True, fit="crop")
  # Images of any size are predicted by one program.
  config.predict.window = (512, 512)
  config.loss.dice = 1.0
  config.optimizer.update(
    learning_rate=1e-3,
    weight_decay=1e-4,
    warmup_fraction=0.05,
    clip_norm=1.0,
  )
  config.train.update(
    batch_size=8,
    eval_batch_size=4,
    epochs=50.0,
    eval_every=0,
    checkpoint_every=0,
    best_metric="mean_iou",
    patience=15,
  )
  config.augment.update(
    flip_left_right=True,
    scale=(0.75, 1.33),
    brightness=0.15,
    contrast=(0.75, 1.33),
  )


def microscopy(config):
  if config.model.name in ("unet", "unet_plus_plus"):
    # Few images, and no published weights of what they show: a plain net learns
    # faster than a deep encoder.
    config.model.update(encoder="plain", depth=4, base_width=16)
  config.optimizer.learning_rate = 3e-3
  config.augment.update(
    flip_up_down=True,
    rotate=180.0,
    elastic_sigma=4.0,
    noise=0.03,
    contrast=(0.6, 1.4),
  )
  config.data.foreground_crops = 0.5


def volumes(config):
  microscopy(config)
  config.data.image_size = (16, 96, 96)
  config.predict.window = (16, 128, 128)
  config.augment.elastic_sigma = 0.0
  config.model.update(encoder="plain", depth=3, base_width=16)
  config.train.update(batch_size=2, eval_batch_size=1)


def binary(config):
  config.data.legend = "binary"


def multilabel(config):
  config.data.multilabel = True


def debug(config):
  on_digit_scenes(config)
  config.data.auto = False
  config.predict.window = (0, 0)
  config.train.update(epochs=0.0, patience=0)
  config.optimizer.warmup_fraction = 0.0
  shorten(config)


PRESETS = {
  "": any_images,
  "photos": lambda config: None,
  "microscopy": microscopy,
  "volumes": volumes,
  "binary": binary,
  "multilabel": multilabel,
  "debug": debug,
}


def get_config(arg: str = ""):
  return make_config("semantic", arg, MODELS, PRESETS)
