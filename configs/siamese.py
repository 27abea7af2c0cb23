"""Who or what is the same, on your own images.

  python -m segsiam_jax.main --config=configs/siamese.py \
    --config.data.dir=DATA --workdir=runs/mine

DATA holds a folder for each identity (docs/siamese_data.md), below a folder for
each split or for all together: without one, a fifth of the identities is held
out. Image size, channels, mean and standard deviation come from the training
images; a field that you set is kept. After the colon, in any order:

- a model: encoder (default), koch, conv4, signet, strokes;
- its fields, such as encoder=resnet50, or others in full;
- a preset: drawings (signatures and letters: one channel, no mirror images),
  pairs (a CSV of pairs), debug.
"""

from segsiam_jax.config import on_digits, shorten
from segsiam_jax.config.arguments import make_config

MODELS = {"encoder": {"encoder": "resnet18"}}


def any_images(config):
  config.data.update(name="folder", auto=True, fit="pad", singles="drop")
  smallest = {"koch": (105, 105), "signet": (155, 220)}
  if config.model.name in smallest:
    config.data.image_size = smallest[config.model.name]
  if config.model.head == "learned":
    config.loss.update(triplet=0.0, binary=1.0)
    config.batch.kind = "pairs"
  config.augment.update(
    flip_left_right=True,
    rotate=10.0,
    scale=(0.9, 1.1),
    brightness=0.1,
    contrast=(0.8, 1.25),
  )
  config.optimizer.update(
    learning_rate=1e-3,
    weight_decay=1e-4,
    warmup_fraction=0.05,
    clip_norm=1.0,
  )
  config.train.update(
    batch_size=32,
    eval_batch_size=32,
    epochs=60.0,
    eval_every=0,
    checkpoint_every=0,
    best_metric="auc",
    patience=15,
  )


def drawings(config):
  config.augment.update(flip_left_right=False, thickness=0.3, shear=0.1)


def pairs(config):
  config.data.name = "pairs"


def debug(config):
  on_digits(config)
  config.data.auto = False
  config.train.update(epochs=0.0, patience=0)
  config.optimizer.warmup_fraction = 0.0
  shorten(config)


PRESETS = {
  "": any_images,
  "drawings": drawings,
  "pairs": pairs,
  "debug": debug,
}


def get_config(arg: str = ""):
  return make_config("siamese", arg, MODELS, PRESETS)
