"""U-Net with a ResNet-34 encoder from ImageNet on Oxford-IIIT Pet.

  tfds build oxford_iiit_pet --file_format=array_record
  python -m segsiam_jax.main --config=configs/unet_resnet34_pets.py \
    --config.init_from=resnet34.safetensors --workdir=runs/unet_resnet34_pets

`init_from` takes torchvision's resnet34 or a whole
segmentation_models_pytorch Unet(resnet34), as .safetensors or .pth. Without it
the encoder starts from random weights and needs several times as many steps. By
its operation count this takes about an hour on one GPU; its mean IoU has not
been measured here.
"""

from segsiam_jax.config import (
  IMAGENET_MEAN,
  IMAGENET_STD,
  default_config,
  on_digit_scenes,
  shorten,
)


def get_config(arg: str = ""):
  config = default_config("semantic", "unet")
  config.data.name = "oxford_iiit_pet"
  config.data.image_size = (256, 256)
  config.data.fit = "resize"
  config.data.mean, config.data.std = IMAGENET_MEAN, IMAGENET_STD
  config.model.encoder = "resnet34"
  # As in segmentation_models_pytorch, so that its weights fit.
  config.model.upsample = "nearest"
  config.model.head_kernel = 3
  config.loss.dice = 1.0
  config.augment.flip_left_right = True
  config.augment.scale = (0.75, 1.5)
  config.augment.rotate = 15.0
  config.augment.brightness = 0.2
  config.augment.contrast = (0.7, 1.3)
  config.optimizer.learning_rate = 5e-4
  config.optimizer.weight_decay = 1e-2
  config.optimizer.warmup_steps = 300
  config.optimizer.clip_norm = 1.0
  # The encoder is pretrained.
  config.optimizer.rate_scales = ("^encoder/=0.1",)
  config.train.batch_size = 32
  config.train.eval_batch_size = 32
  config.train.num_steps = 6000
  config.train.eval_every = 1000
  config.train.checkpoint_every = 500
  config.train.best_metric = "mean_iou"
  if arg == "debug":
    on_digit_scenes(config)
    config.model.encoder = "resnet18"
    shorten(config)
  elif arg:
    raise ValueError(f"{arg!r} is not 'debug'")
  return config
