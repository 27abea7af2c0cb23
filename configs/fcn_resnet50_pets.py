"""FCN on a dilated ResNet-50 on Oxford-IIIT Pet, as torchvision builds it.

  tfds build oxford_iiit_pet --file_format=array_record
  python -m segsiam_jax.main --config=configs/fcn_resnet50_pets.py \
    --config.init_from=resnet50.safetensors --workdir=runs/fcn_resnet50_pets

`init_from` takes torchvision's resnet50, or its fcn_resnet50 with
`--config.init_skip='.*score.*'`, because the classes differ. By its operation
count this takes about two hours on one GPU; its mean IoU has not been measured
here.
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
  config.data.name = "oxford_iiit_pet"
  config.data.image_size = (320, 320)
  config.data.fit = "resize"
  config.data.mean, config.data.std = IMAGENET_MEAN, IMAGENET_STD
  config.augment.flip_left_right = True
  config.augment.scale = (0.5, 2.0)
  config.optimizer.name = "momentum"
  config.optimizer.learning_rate = 0.01
  config.optimizer.weight_decay = 1e-4
  config.optimizer.schedule = "polynomial"
  config.train.batch_size = 16
  config.train.eval_batch_size = 16
  config.train.num_steps = 10_000
  config.train.eval_every = 1000
  config.train.checkpoint_every = 1000
  config.train.best_metric = "mean_iou"
  if arg == "debug":
    on_digit_scenes(config)
    config.model.encoder = "resnet18"
    shorten(config)
  elif arg:
    raise ValueError(f"{arg!r} is not 'debug'")
  return config
