"""Scans and photographs of documents, matched to their pages.

Pages are generated: text, headings, tables and forms, on letterheads that four
pages share. Each page has two scans and two photographs
(`docs/siamese_data.md`). There is no download; generating the pages takes about
half a minute. The test has 200 pages that are not in training, and looks up
each of their 800 copies among all of them (`200_way_1_shot`): 0.989 are right
(95 % interval 0.979 to 0.994). Pairs on one letterhead give an AUC of 0.995 and
an EER of 0.032. Training takes three minutes on two CPU cores.

  python -m segsiam_jax.main --config=configs/documents.py \
    --workdir=runs/documents

Your own pages, or RVL-CDIP's, are degraded in the same way on the fly:

  ... --config=configs/documents.py:pages --config.data.dir=DIR \
    --config.data.train_split='train[:2000]' --config.data.eval_split=test

Is this photograph of that page? Which page does it show?

  python -m segsiam_jax.main --mode=predict --workdir=runs/documents \
    --input=page.png,photo.jpg
"""

from segsiam_jax.config import default_config, shorten


def get_config(arg: str = ""):
  config = default_config("siamese", "conv4")
  config.data.name = "documents"
  config.data.image_size = (112, 80)
  config.data.channels = 1
  config.data.mean = (200.0,)
  config.data.std = (60.0,)
  config.data.keep = True
  config.model.width = 32
  config.model.embedding_size = 128
  config.loss.triplet = 0.0
  config.loss.supervised_contrastive = 1.0
  # Twelve pages of three families, each with all of its copies.
  config.batch.per_identity = 5
  config.batch.within_group = True
  config.augment.rotate = 5.0
  config.augment.shear = 0.05
  config.augment.scale = (0.9, 1.1)
  config.augment.translate = 0.05
  config.augment.brightness = 0.1
  config.augment.contrast = (0.8, 1.2)
  config.augment.noise = 0.03
  config.optimizer.learning_rate = 2e-3
  config.optimizer.weight_decay = 1e-4
  config.optimizer.warmup_steps = 20
  config.optimizer.clip_norm = 1.0
  config.train.batch_size = 60
  config.train.eval_batch_size = 100
  config.train.num_steps = 500
  config.train.eval_every = 100
  config.train.checkpoint_every = 100
  config.train.best_metric = "200_way_1_shot"
  config.eval.within_group = True
  if arg == "pages":
    config.data.name = "pages"
    config.data.keep = False
    config.batch.within_group = False
    config.eval.within_group = False
    config.train.best_metric = "map_at_r"
  elif arg == "debug":
    config.data.train_split = "validation"
    config.data.eval_split = "validation"
    config.data.shared_identities = True
    config.data.allow_overlap = True
    config.data.image_size = (48, 32)
    config.model.width = 8
    config.batch.per_identity = 2
    config.eval.pairs = 200
    config.train.best_metric = "auc"
    shorten(config)
  elif arg:
    raise ValueError(f"{arg!r} is not one of 'debug', 'pages'")
  return config
