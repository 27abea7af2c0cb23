"""U-Net against FCN on few data: configs for `segsiam_jax.compare`.

The argument names the model, and the data if they are not digit scenes:
`unet`, `unet_no_skips`, `fcn8s`, `fcn_resnet`, and the same with `_em` for
membranes (config.data.dir is the folder, see unet_em.py). All use the same
batches, steps, schedule and augmentation, and widths that suit two CPU cores. A
config's learning rate is the better of 3e-3 and 1e-2 for its model on a tenth
of the digit scenes, scored on held-out training scenes.
docs/unet_against_fcn.md has the command and the table.
"""

from segsiam_jax.config import default_config

_MODELS = {
  "unet": ("unet", {"depth": 3, "base_width": 16}, 1e-2),
  "unet_no_skips": (
    "unet",
    {"depth": 3, "base_width": 16, "skips": False},
    3e-3,
  ),
  "fcn8s": (
    "fcn",
    {
      "borders": "same",
      "base_width": 16,
      "width": 256,
      "norm": "batch",
      "learned_upsampling": True,
      "dropout": 0.2,
    },
    1e-2,
  ),
  "fcn_resnet": (
    "fcn_resnet",
    {"depth": 18, "base_width": 16, "auxiliary": False},
    3e-3,
  ),
}


def get_config(arg: str = "unet"):
  model, em, _ = arg.partition("_em")
  if model not in _MODELS:
    raise ValueError(f"{arg!r}: expected one of {', '.join(_MODELS)}, or _em")
  name, fields, learning_rate = _MODELS[model]
  config = default_config("semantic", name)
  config.model.update(fields)
  config.data.fit = "crop"
  config.loss.dice = 1.0
  config.augment.flip_left_right = True
  config.augment.brightness = 0.1
  config.augment.contrast = (0.8, 1.2)
  config.optimizer.learning_rate = learning_rate
  config.optimizer.weight_decay = 1e-4
  config.optimizer.warmup_steps = 30
  config.optimizer.clip_norm = 1.0
  config.train.batch_size = 8
  config.train.eval_batch_size = 16
  config.train.num_steps = 250
  config.train.num_pictures = 4
  if em:
    config.data.name = "folder"
    config.data.train_split = "train[:16]"
    config.data.eval_split = "train[16:]"
    config.data.class_names = ("membrane", "cell")
    config.data.channels = 1
    config.data.mean = (127.5,)
    config.data.std = (63.75,)
    config.data.image_size = (128, 128)
    config.data.eval_image_size = (512, 512)
    config.eval.rand_class = "cell"
    config.augment.flip_up_down = True
    config.train.batch_size = 4
    config.train.eval_batch_size = 4
    config.train.num_steps = 150
  # Trained once and scored at the end.
  config.train.log_every = 50
  config.train.eval_every = config.train.num_steps
  config.train.checkpoint_every = config.train.num_steps
  config.train.keep = 1
  return config
