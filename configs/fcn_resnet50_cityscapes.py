"""FCN on a dilated ResNet-50 on Cityscapes: 19 classes, crops of 512x1024.

Download leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip by hand, then

  tfds build cityscapes --file_format=array_record
  python -m segsiam_jax.main --config=configs/fcn_resnet50_cityscapes.py \
    --config.init_from=resnet50.safetensors --workdir=runs/fcn_cityscapes

80,000 steps of 16 crops, evaluated on whole images of 1024x2048: by its
operation count about a day on eight GPUs or a TPU v4-8. Others report a mean
IoU of 0.72 for this network and number of steps; it has not been measured here.
"""

from segsiam_jax.config import (
  IMAGENET_MEAN,
  IMAGENET_STD,
  default_config,
  on_digit_scenes,
  shorten,
)


def get_config(arg: str = ""):
  config = default_config("semantic", "fcn_resnet")
  config.dtype = "bfloat16"
  config.data.name = "cityscapes"
  config.data.eval_split = "validation"
  config.data.image_size = (512, 1024)
  config.data.eval_image_size = (1024, 2048)
  config.data.fit = "crop"
  config.data.mean, config.data.std = IMAGENET_MEAN, IMAGENET_STD
  config.data.workers = 8
  # Half of the crops are around a random class: poles and riders are rare.
  config.data.foreground_crops = 0.5
  config.loss.hardest_fraction = 0.5
  config.loss.auxiliary = 0.4
  config.augment.flip_left_right = True
  config.augment.scale = (0.5, 2.0)
  config.augment.brightness = 0.1
  config.augment.contrast = (0.75, 1.25)
  config.optimizer.name = "momentum"
  config.optimizer.learning_rate = 0.01
  config.optimizer.weight_decay = 5e-4
  config.optimizer.schedule = "polynomial"
  config.train.batch_size = 16
  config.train.eval_batch_size = 8
  config.train.num_steps = 80_000
  config.train.log_every = 100
  config.train.eval_every = 8000
  config.train.checkpoint_every = 1000
  config.train.best_metric = "mean_iou"
  if arg == "debug":
    on_digit_scenes(config)
    config.data.workers = 0
    config.model.encoder = "resnet18"
    shorten(config)
  elif arg:
    raise ValueError(f"{arg!r} is not 'debug'")
  return config
