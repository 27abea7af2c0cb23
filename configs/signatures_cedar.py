"""Is this signature genuine? CEDAR, with unseen writers.

SigNet (Dey et al. 2017) with contrastive loss, on 155x220 pixels of ink with
the paper removed. Writers 1 to 45 train, 46 to 50 choose the checkpoint and its
threshold, and 51 to 55 are the test:

  python -m segsiam_jax.main --config=configs/signatures_cedar.py \
    --workdir=runs/signatures --config.data.dir=CEDAR
  python -m segsiam_jax.main --mode=eval --workdir=runs/signatures \
    --config.data.eval_split='all[writers=50:]'

CEDAR holds full_org/original_1_1.png and full_forg/forgeries_1_1.png and so on
(ask the Center of Excellence for Document Analysis and Recognition, Buffalo).
`auc/random` and `eer/random` count other people's signatures, `auc/skilled` and
`eer/skilled` forgeries; `threshold_far/...` are the rates at which the
threshold accepts them.

Training sees skilled forgeries of the 45 writers: each genuine signature comes
with another one by its writer, or with a forgery of it. `:random` trains
without forgeries, for when there are none.

Not measured here. For SigNet on CEDAR the paper reports 100 % for five writers
at the best threshold for them. Do not expect that of a threshold chosen on
other writers, and do not take five writers as evidence.

`:debug` runs a few steps of SigNet on handwritten digits, without CEDAR.
"""

from segsiam_jax.config import default_config, on_digits, shorten


def get_config(arg: str = ""):
  config = default_config("siamese", "signet")
  config.data.name = "cedar"
  config.data.train_split = "all[writers=:45]"
  config.data.eval_split = "all[writers=45:50]"
  config.data.singles = "keep"
  config.data.image_size = (155, 220)
  config.data.channels = 1
  config.data.mean = (0.0,)
  config.data.std = (60.0,)
  config.data.keep = True
  config.loss.triplet = 0.0
  config.loss.contrastive = 1.0
  config.loss.contrastive_margin = 1.0
  config.batch.kind = "pairs"
  config.batch.within_group = True
  config.augment.rotate = 5.0
  config.augment.shear = 0.1
  config.augment.scale = (0.9, 1.1)
  config.augment.fill = "zero"
  config.optimizer.learning_rate = 1e-4
  config.optimizer.weight_decay = 5e-4
  config.train.batch_size = 128
  config.train.eval_batch_size = 64
  config.train.num_steps = 4000
  config.train.eval_every = 500
  config.train.checkpoint_every = 500
  config.train.best_metric = "eer"
  config.train.best_mode = "min"
  if arg == "random":
    config.data.train_split = "genuine[writers=:45]"
    config.data.singles = "error"
    config.batch.within_group = False
  elif arg == "debug":
    on_digits(config)
    config.data.image_size = (91, 91)
    shorten(config, num_steps=2)
  elif arg:
    raise ValueError(f"{arg!r} is not one of 'debug', 'random'")
  return config
