"""Losses of Siamese networks, compared on Omniglot's characters.

The argument names the loss and, after a dash, its margin: `contrastive`,
`triplet_random`, `triplet_semi_hard`, `triplet_hard`, `binary`,
`multi_similarity` (its lambda). The default margin is the best on alphabets
held out of training. All use the same tower, augmentation, optimizer and number
of images: 300 steps of 96, as 48 pairs, 32 triplets or 24 characters of four
drawings, with negatives from the same alphabet. `binary` compares by learned
weights, the others by Euclidean distance. config.data.dir is the folder of
Omniglot's zips. docs/siamese_losses.md has the commands and the table.
"""

from segsiam_jax.config import default_config

# The best of those tried.
MARGINS = {
  "contrastive": 1.0,
  "triplet_random": 0.1,
  "triplet_semi_hard": 0.05,
  "triplet_hard": 0.1,
  "multi_similarity": 0.8,
}
IMAGES = 96


def get_config(arg: str = "triplet_hard"):
  loss, _, margin = arg.partition("-")
  config = default_config("siamese", "conv4")
  config.data.name = "omniglot"
  config.data.train_split = "small1"
  config.data.eval_split = "small2[alphabets=3:]"
  config.data.image_size = (28, 28)
  config.data.fit = "moments"
  config.data.channels = 1
  config.data.mean = (0.0,)
  config.data.std = (255.0,)
  config.data.keep = True
  config.model.width = 32
  config.batch.within_group = True
  config.augment.rotate = 15.0
  config.augment.shear = 0.2
  config.augment.scale = (0.85, 1.18)
  config.augment.translate = 0.03
  config.augment.fill = "zero"
  config.optimizer.learning_rate = 1e-3
  config.optimizer.weight_decay = 1e-4
  config.optimizer.warmup_steps = 40
  config.optimizer.clip_norm = 1.0
  config.train.eval_batch_size = 128
  config.train.num_steps = 300
  config.train.log_every = 100
  config.train.eval_every = 300
  config.train.checkpoint_every = 300
  config.train.keep = 1
  config.train.best_metric = "20_way_1_shot"
  config.eval.ways = 20
  config.eval.shots = (1,)
  config.eval.queries = 1
  config.eval.episodes = 100
  config.eval.within_group = True
  _set_loss(config, loss, margin)
  return config


def _set_loss(config, name: str, margin: str) -> None:
  if name != "binary" and name not in MARGINS:
    raise ValueError(f"{name!r}: expected 'binary' or one of {[*MARGINS]}")
  value = float(margin or MARGINS.get(name, 0.0))
  loss = config.loss
  loss.triplet = 0.0
  config.train.batch_size, config.batch.kind = IMAGES, "identities"
  if name == "binary":
    config.train.batch_size, config.batch.kind = IMAGES // 2, "pairs"
    config.model.head = "learned"
    loss.binary = 1.0
  elif name == "contrastive":
    config.train.batch_size, config.batch.kind = IMAGES // 2, "pairs"
    loss.contrastive, loss.contrastive_margin = 1.0, value
  elif name == "multi_similarity":
    loss.multi_similarity, loss.multi_similarity_base = 1.0, value
  else:
    loss.triplet, loss.triplet_margin = 1.0, value
    if name == "triplet_random":
      config.train.batch_size, config.batch.kind = IMAGES // 3, "triplets"
    else:
      loss.triplet_mining = name.removeprefix("triplet_")
