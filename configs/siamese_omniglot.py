"""One-shot classification of characters on little background: the best we can.

Lake et al. (2019, "The Omniglot challenge") train on five alphabets alone, the
sets small1 and small2, and ask 20-way one-shot trials within alphabets that
have never been seen. Characters are centred and scaled by their moments; a map
of edge directions and learned features is bent to fit another one
(`model.head = 'deformable'`); training asks the trials' own question, of
quarter turns and mirror images of the alphabets, too.

  python -m segsiam_jax.main --config=configs/siamese_omniglot.py \
    --workdir=runs/siamese_omniglot --config.data.dir=OMNIGLOT

OMNIGLOT holds images_background_small1.zip, images_background_small2.zip and,
for the published trials, one_shot_runs/ or all_runs.zip:

  python -m segsiam_jax.main --mode=eval --workdir=runs/siamese_omniglot \
    --config.data.eval_split=one_shot_runs
"""

from segsiam_jax.config import default_config, on_digits, shorten


def get_config(arg: str = ""):
  config = default_config("siamese", "strokes")
  config.data.name = "omniglot"
  config.data.train_split = "small1"
  config.data.eval_split = "small2[alphabets=1:2]"
  config.data.image_size = (64, 64)
  config.data.channels = 1
  config.data.mean = (0.0,)
  config.data.std = (255.0,)
  config.data.fit = "moments"
  config.data.keep = True
  config.model.head = "deformable"
  config.model.equalize = "both"
  config.batch.kind = "episodes"
  config.batch.ways = 17
  config.batch.shots = 1
  config.batch.queries = 1
  config.batch.within_group = True
  config.batch.by_drawer = True
  config.augment.turn = "group"
  config.augment.rotate = 10.0
  config.augment.shear = 0.2
  config.augment.scale = (0.86, 1.16)
  config.augment.translate = 0.03
  config.augment.elastic_sigma = 2.0
  config.augment.thickness = 1.0
  config.augment.fill = "zero"
  config.loss.triplet = 0.0
  config.loss.prototypical = 1.0
  config.loss.prototypical_temperature = 0.05
  config.optimizer.learning_rate = 2e-3
  config.optimizer.weight_decay = 1e-4
  config.optimizer.warmup_steps = 50
  config.train.batch_size = 34
  config.train.eval_batch_size = 40
  config.train.num_steps = 800
  config.train.log_every = 50
  config.train.eval_every = 400
  config.train.checkpoint_every = 400
  config.train.best_metric = "20_way_1_shot"
  config.eval.views = 9
  config.eval.ways = 20
  config.eval.shots = (1,)
  config.eval.episodes = 20
  config.eval.within_group = True
  config.eval.pairs = 1000
  if arg == "debug":
    on_digits(config)
    config.batch.update(ways=2, by_drawer=False)
    config.eval.views = 2
    shorten(config, num_steps=2)
  elif arg:
    raise ValueError(f"{arg!r} is not 'debug'")
  return config
