"""3-D U-Net on stacks of slices, for example from an electron microscope.

The data are a folder of volumes, train/images/NAME.tif with
train/masks/NAME.tif (one page per slice) or .npy, and test/ likewise; masks are
0 on membranes and 1 in cells. Slices lie further apart than pixels, so the
first level does not halve the depth.

  python -m segsiam_jax.main --config=configs/unet_volume.py \
    --config.data.dir=STACKS --workdir=runs/unet_volume

Stacks larger than memory are predicted in windows:

  python -m segsiam_jax.main --mode=predict --workdir=runs/unet_volume \
    --input=STACK.tif --config.predict.window='(8, 256, 256)'

16-bit stacks: --config.data.image_dtype=uint16, with data.mean and data.std in
0..65535.

Sixteen slices of 512x512 of the ISBI 2012 challenge, tested on four others:
mean IoU 0.659 (cells 0.811) after 150 steps, which are six minutes of CPU time.
On slices this thick, the 2-D unet_em.py does better.
"""

from segsiam_jax.config import default_config, shorten


def get_config(arg: str = ""):
  config = default_config("semantic", "unet")
  config.data.name = "folder"
  config.data.class_names = ("membrane", "cell")
  config.data.fit = "crop"
  config.data.channels = 1
  config.data.mean = (127.5,)
  config.data.std = (63.75,)
  config.data.image_size = (8, 96, 96)
  config.data.eval_image_size = (4, 512, 512)
  config.model.depth = 3
  config.model.base_width = 8
  config.model.pool_depth = 1
  config.loss.dice = 0.5
  config.augment.flip_left_right = True
  config.augment.flip_up_down = True
  config.augment.rotate = 180.0
  config.augment.scale = (0.85, 1.2)
  config.augment.brightness = 0.15
  config.augment.contrast = (0.7, 1.3)
  config.augment.noise = 0.05
  config.optimizer.learning_rate = 1e-2
  config.optimizer.weight_decay = 1e-4
  config.optimizer.warmup_steps = 20
  config.optimizer.clip_norm = 1.0
  config.train.batch_size = 2
  config.train.eval_batch_size = 1
  config.train.num_steps = 300
  config.train.log_every = 20
  config.train.eval_every = 150
  config.train.checkpoint_every = 150
  config.train.num_pictures = 4
  config.train.best_metric = "mean_iou"
  if arg == "debug":
    config.data.image_size = (4, 32, 32)
    config.data.eval_image_size = (4, 64, 64)
    config.model.depth = 2
    config.model.base_width = 4
    shorten(config)
  elif arg:
    raise ValueError(f"{arg!r} is not 'debug'")
  return config
