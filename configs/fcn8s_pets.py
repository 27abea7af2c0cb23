"""FCN-8s on VGG16 on Oxford-IIIT Pet, in one run or in the paper's stages.

In one run, from torchvision's vgg16 (whose classifier becomes fc6 and fc7):

  tfds build oxford_iiit_pet --file_format=array_record
  python -m segsiam_jax.main --config=configs/fcn8s_pets.py \
    --config.init_from=vgg16.safetensors --workdir=runs/fcn8s_pets

In stages, 32s -> 16s -> 8s; the score layers that a stage adds start at zero:

  python -m segsiam_jax.main --config=configs/fcn8s_pets.py:32s \
    --config.init_from=vgg16.safetensors --workdir=runs/fcn32s_pets
  python -m segsiam_jax.main --config=configs/fcn8s_pets.py:16s \
    --config.init_from=runs/fcn32s_pets \
    --config.init_skip='score_pool4.*' --workdir=runs/fcn16s_pets
  python -m segsiam_jax.main --config=configs/fcn8s_pets.py:8s \
    --config.init_from=runs/fcn16s_pets \
    --config.init_skip='score_pool3.*' --workdir=runs/fcn8s_staged_pets

134 million parameters; by its operation count about four hours on one GPU in
one run. Its mean IoU has not been measured here.
"""

from segsiam_jax.config import (
  IMAGENET_MEAN,
  IMAGENET_STD,
  default_config,
  on_digit_scenes,
  shorten,
)


def get_config(arg: str = ""):
  config = default_config("semantic", "fcn")
  config.data.name = "oxford_iiit_pet"
  config.data.image_size = (320, 320)
  config.data.fit = "resize"
  config.data.mean, config.data.std = IMAGENET_MEAN, IMAGENET_STD
  config.model.learned_upsampling = True
  config.model.at_once = True
  config.augment.flip_left_right = True
  config.augment.scale = (0.75, 1.5)
  # The normalised recipe of the paper: batch 20, momentum 0.9, rate 1e-4 for a
  # loss summed over an image's pixels' mean.
  config.optimizer.name = "momentum"
  config.optimizer.learning_rate = 1e-3
  config.optimizer.weight_decay = 5e-4
  config.optimizer.clip_norm = 10.0
  config.optimizer.warmup_steps = 500
  config.optimizer.schedule = "polynomial"
  config.train.batch_size = 20
  config.train.eval_batch_size = 20
  config.train.num_steps = 20_000
  config.train.eval_every = 2000
  config.train.checkpoint_every = 1000
  config.train.best_metric = "mean_iou"
  if arg in ("32s", "16s", "8s"):
    config.model.stride = int(arg[:-1])
    config.model.at_once = False
    # A stage after the first only refines.
    config.optimizer.learning_rate *= {"32s": 1.0, "16s": 0.1, "8s": 0.01}[arg]
  elif arg == "debug":
    on_digit_scenes(config)
    config.data.image_size = (48, 48)
    config.model.base_width = 4
    config.model.width = 16
    shorten(config)
  elif arg:
    raise ValueError(f"{arg!r} is not one of '32s', '16s', '8s', 'debug'")
  return config
