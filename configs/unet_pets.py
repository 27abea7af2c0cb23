"""U-Net from scratch on Oxford-IIIT Pet: pet, background, border.

  tfds build oxford_iiit_pet --file_format=array_record
  python -m segsiam_jax.main --config=configs/unet_pets.py \
    --workdir=runs/unet_pets

3,680 images train and 3,669 test, stretched to 256x256. By its operation count
this takes about two hours on one GPU; its mean IoU has not been measured here.
To start from ImageNet weights, see unet_resnet34_pets.py.
"""

from segsiam_jax.config import default_config, on_digit_scenes, shorten


def get_config(arg: str = ""):
  config = default_config("semantic", "unet")
  config.data.name = "oxford_iiit_pet"
  config.data.image_size = (256, 256)
  config.data.fit = "resize"
  config.model.depth = 5
  config.model.base_width = 32
  config.loss.dice = 1.0
  config.augment.flip_left_right = True
  config.augment.scale = (0.75, 1.5)
  config.augment.rotate = 15.0
  config.augment.translate = 0.1
  config.augment.brightness = 0.2
  config.augment.contrast = (0.7, 1.3)
  config.optimizer.learning_rate = 2e-3
  config.optimizer.weight_decay = 1e-2
  config.optimizer.warmup_steps = 500
  config.optimizer.clip_norm = 1.0
  config.train.batch_size = 32
  config.train.eval_batch_size = 32
  config.train.num_steps = 20_000
  config.train.eval_every = 2000
  config.train.checkpoint_every = 1000
  config.train.ema_decay = 0.999
  config.train.best_metric = "mean_iou"
  if arg == "debug":
    on_digit_scenes(config)
    config.model.base_width = 4
    shorten(config)
  elif arg:
    raise ValueError(f"{arg!r} is not 'debug'")
  return config
