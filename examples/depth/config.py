"""Depth of digit scenes: how to add a task without touching the library.

  python -m segsiam_jax.main --config=examples/depth/config.py \
    --workdir=runs/depth

On two CPU cores it takes half a minute; the mean absolute error of the
evaluation is then 0.1 metres.
"""

from segsiam_jax.config import default_config, shorten


def get_config(arg: str = ""):
  config = default_config("examples.depth.task:DEPTH", "unet")
  config.model.depth = 3
  config.model.base_width = 16
  config.optimizer.learning_rate = 3e-3
  config.optimizer.warmup_steps = 20
  config.train.num_steps = 400
  config.train.eval_every = 200
  config.train.best_metric = "loss"
  config.train.best_mode = "min"
  if arg == "debug":
    config.data.update(train_scenes=16, eval_scenes=8)
    config.model.update(depth=2, base_width=4)
    shorten(config)
  return config
