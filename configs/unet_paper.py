"""U-Net with the recipe of its paper (arXiv:1505.04597), on cells.

Convolutions without padding, 31 million parameters, one tile per step with
momentum 0.99, cross-entropy with the weight map (w0 = 10, sigma = 5 pixels),
elastic deformation by a 3x3 grid of vectors of 10 pixels, and dropout. A tile's
388 pixels are reflection-padded to the 572 that the network takes. Whole images
are predicted by the overlap-tile strategy.

The data are a folder of images, train/images/NAME.png, with 16-bit
train/labels/NAME.png, which number the cells; 0 is background (see
unet_nuclei.py).

  python -m segsiam_jax.main --config=configs/unet_paper.py \
    --config.data.dir=CELLS_FOLDER --workdir=runs/unet_paper

The paper gives neither a learning rate nor a number of steps; it took 10 hours
on a GPU of its time. Neither its scores nor the time on a current GPU have been
measured here.
"""

from segsiam_jax.config import default_config, on_digit_scenes, shorten


def get_config(arg: str = ""):
  config = default_config("semantic", "unet_paper")
  config.data.name = "folder"
  config.data.masks = "instances"
  config.data.train_split = "train[:80%]"
  config.data.eval_split = "train[80%:]"
  config.data.class_names = ("background", "cell")
  config.data.fit = "crop"
  config.data.image_size = (388, 388)
  config.data.channels = 1
  config.data.mean = (127.5,)
  config.data.std = (63.75,)
  config.loss.weight_map = 10.0
  config.loss.weight_map_sigma = 5.0
  config.augment.flip_left_right = True
  config.augment.flip_up_down = True
  config.augment.rotate = 180.0
  config.augment.translate = 0.1
  config.augment.elastic_sigma = 10.0
  config.augment.elastic_grid = 3
  config.augment.brightness = 0.1
  config.augment.contrast = (0.8, 1.2)
  config.optimizer.name = "momentum"
  config.optimizer.momentum = 0.99
  config.optimizer.learning_rate = 1e-3
  config.optimizer.schedule = "constant"
  config.optimizer.warmup_steps = 200
  config.optimizer.clip_norm = 1.0
  config.train.batch_size = 1
  config.train.eval_batch_size = 1
  config.train.num_steps = 40_000
  config.train.eval_every = 2000
  config.train.checkpoint_every = 1000
  config.train.best_metric = "mean_iou"
  if arg == "debug":
    on_digit_scenes(config)
    config.data.image_size = (68, 68)
    config.model.base_width = 2
    shorten(config)
  elif arg:
    raise ValueError(f"{arg!r} is not 'debug'")
  return config
