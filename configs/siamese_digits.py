"""Siamese network on handwritten digits: trained on seven, tested on three.

Trains on all scans of the digits 0 to 6 and tests on those of 7, 8 and 9, of
which it has never seen one. Conv4 (Snell et al. 2017) on 8x8 pixels with
batch-hard triplets (Hermans et al. 2017).

  python -m segsiam_jax.main --config=configs/siamese_digits.py \
    --workdir=runs/siamese_digits
"""

from segsiam_jax.config import default_config

SPLITS = "train+validation+test"


def get_config(arg: str = ""):
  config = default_config("siamese", "conv4")
  config.data.name = "digits"
  config.data.train_split = f"{SPLITS}[classes=:7]"
  config.data.eval_split = f"{SPLITS}[classes=7:]"
  config.data.image_size = (8, 8)
  config.data.channels = 1
  config.data.mean = (77.8,)
  config.data.std = (95.9,)
  config.data.keep = True
  config.model.head = "euclidean"
  config.batch.per_identity = 8
  config.augment.rotate = 15.0
  config.augment.scale = (0.8, 1.2)
  config.augment.translate = 0.1
  config.augment.fill = "zero"
  config.loss.triplet_margin = 0.2
  config.optimizer.learning_rate = 1e-3
  config.optimizer.weight_decay = 1e-4
  config.optimizer.warmup_steps = 20
  config.train.batch_size = 56
  config.train.eval_batch_size = 64
  config.train.num_steps = 400
  config.train.eval_every = 100
  config.train.checkpoint_every = 100
  config.train.best_metric = "auc"
  config.eval.ways = 3
  if arg == "debug":
    config.train.num_steps = 8
    config.train.log_every = 2
    config.train.eval_every = 4
    config.train.checkpoint_every = 4
    config.optimizer.warmup_steps = 2
    config.eval.pairs = 200
    config.eval.episodes = 10
  elif arg:
    raise ValueError(f"{arg!r} is not 'debug'")
  return config
