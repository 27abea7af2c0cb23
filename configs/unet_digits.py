"""U-Net on scenes of overlapping handwritten digits: the default job.

  python -m segsiam_jax.main --config=configs/unet_digits.py \
    --workdir=runs/unet_digits
"""

from segsiam_jax.config import default_config


def get_config(arg: str = ""):
  config = default_config("semantic", "unet")
  config.data.name = "digit_scenes/trimap"
  config.model.depth = 3
  config.model.base_width = 16
  config.loss.dice = 1.0
  config.augment.flip_left_right = False
  config.augment.brightness = 0.1
  config.augment.contrast = (0.8, 1.2)
  config.optimizer.learning_rate = 3e-3
  config.optimizer.weight_decay = 1e-4
  config.optimizer.warmup_steps = 50
  config.optimizer.clip_norm = 1.0
  config.train.batch_size = 8
  config.train.eval_batch_size = 16
  config.train.num_steps = 1000
  config.train.eval_every = 500
  config.train.checkpoint_every = 250
  config.train.best_metric = "mean_iou"
  if arg == "debug":
    config.data.train_split = "train[:32]"
    config.data.eval_split = "test[:16]"
    config.model.depth = 2
    config.model.base_width = 4
    config.train.num_steps = 8
    config.train.log_every = 2
    config.train.eval_every = 4
    config.train.checkpoint_every = 4
    config.optimizer.warmup_steps = 2
  return config
