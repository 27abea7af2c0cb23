"""U-Net on cell nuclei, as in the 2018 Data Science Bowl (BBBC038).

The data are a folder of images, train/images/NAME.png, with 16-bit
train/labels/NAME.png, which number the nuclei; 0 is background. U-Net's weight
map makes the network learn the gaps between nuclei. The first 100 images train
and the rest validate.

  python -m segsiam_jax.main --config=configs/unet_nuclei.py \
    --config.data.dir=NUCLEI_FOLDER --workdir=runs/unet_nuclei

About a quarter of an hour on two CPU cores. Evaluation scores whole images,
predicted in windows; its losses cover the centre 512x512 pixels. The scores
have not been measured here.
"""

from segsiam_jax.config import default_config, on_digit_scenes, shorten


def get_config(arg: str = ""):
  config = default_config("semantic", "unet")
  config.data.name = "folder"
  config.data.masks = "instances"
  config.data.train_split = "train[:100]"
  config.data.eval_split = "train[100:]"
  config.data.class_names = ("background", "nucleus")
  config.data.fit = "crop"
  config.data.image_size = (192, 192)
  config.data.eval_image_size = (512, 512)
  config.data.foreground_crops = 0.5
  config.predict.window = (256, 256)
  config.eval.rand_class = "nucleus"
  config.model.depth = 4
  config.model.base_width = 16
  config.loss.dice = 1.0
  config.loss.weight_map = 5.0
  config.augment.flip_left_right = True
  config.augment.flip_up_down = True
  config.augment.rotate = 45.0
  config.augment.scale = (0.6, 1.6)
  config.augment.elastic_sigma = 4.0
  config.augment.brightness = 0.2
  config.augment.contrast = (0.6, 1.4)
  config.augment.noise = 0.03
  config.optimizer.learning_rate = 5e-3
  config.optimizer.weight_decay = 1e-4
  config.optimizer.warmup_steps = 50
  config.optimizer.clip_norm = 1.0
  config.train.batch_size = 8
  config.train.eval_batch_size = 4
  config.train.num_steps = 400
  config.train.eval_every = 200
  config.train.checkpoint_every = 100
  config.train.best_metric = "mean_iou"
  if arg == "debug":
    on_digit_scenes(config)
    config.model.base_width = 4
    shorten(config)
  elif arg:
    raise ValueError(f"{arg!r} is not 'debug'")
  return config
