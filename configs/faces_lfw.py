"""Do these two photographs show the same person? Labeled Faces in the Wild.

ResNet-18 on the centre of each photograph, with batch-hard triplets (Hermans et
al. 2017). It trains on LFW's View 1 and chooses the checkpoint on its test
pairs:

  python -m segsiam_jax.main --config=configs/faces_lfw.py \
    --workdir=runs/faces --config.data.dir=LFW

LFW holds lfw/ (or lfw_funneled/, lfw-deepfunneled/) with one folder per person,
and pairs.txt, people.txt, pairsDevTest.txt, peopleDevTrain.txt.

Report View 2. `:fold0` to `:fold9` train on the people of nine folds and test
on the pairs of the tenth; the protocol's figure is the mean of the ten runs
("unrestricted, no outside data"). LFW has few photographs of most people, so
better networks use other data: `:celeb_a` trains on CelebA (prepared with
TFDS). It is then tested on all ten folds, each with the threshold chosen on the
other nine ("unrestricted, labelled outside data"):

  python -m segsiam_jax.main --config=configs/faces_lfw.py:celeb_a \
    --workdir=runs/celeb_a --config.data.dir=TFDS
  python -m segsiam_jax.main --mode=eval --config=configs/faces_lfw.py \
    --workdir=runs/celeb_a --config.data.dir=LFW --config.data.eval_split=pairs

People who are in both data sets are not left out of the figures with outside
data.

Not measured here. FaceNet reports 99.63 % on aligned faces after two hundred
million photographs; LFW's own people without alignment give far less.

`:debug` runs a few steps of a small network on handwritten digits, without LFW.
"""

import re

from segsiam_jax.config import default_config, on_digits, shorten


def get_config(arg: str = ""):
  config = default_config("siamese", "encoder")
  config.data.name = "lfw"
  config.data.train_split = "peopleDevTrain"
  config.data.eval_split = "pairsDevTest"
  # Most people of LFW have one photograph.
  config.data.singles = "drop"
  # Of 250x250: the face, which lies in the middle.
  config.data.image_size = (128, 128)
  config.data.fit = "crop"
  config.data.mean = (127.5,) * 3
  config.data.std = (63.75,) * 3
  config.batch.per_identity = 4
  config.loss.triplet_margin = 0.2
  config.augment.flip_left_right = True
  config.augment.rotate = 5.0
  config.augment.scale = (0.9, 1.1)
  config.augment.translate = 0.05
  config.augment.brightness = 0.1
  config.augment.contrast = (0.8, 1.2)
  config.optimizer.learning_rate = 3e-4
  config.optimizer.weight_decay = 1e-4
  config.optimizer.warmup_steps = 500
  config.train.batch_size = 128
  config.train.eval_batch_size = 128
  config.train.num_steps = 10_000
  config.train.eval_every = 1000
  config.train.checkpoint_every = 1000
  config.train.best_metric = "auc"
  config.eval.fars = (0.1, 0.01)
  fold = re.fullmatch(r"fold(\d)", arg)
  if fold:
    number = int(fold[1])
    config.data.train_split = f"people[folds=!{number}:{number + 1}]"
    config.data.eval_split = f"pairs[folds={number}:{number + 1}]"
  elif arg == "celeb_a":
    config.data.name = "celeb_a"
    config.data.train_split = "train"
    config.data.eval_split = "validation"
    config.train.num_steps = 60_000
  elif arg == "debug":
    on_digits(config)
    config.model.encoder = "plain"
    shorten(config, num_steps=2)
  elif arg:
    raise ValueError(f"{arg!r} is not one of 'debug', 'fold0' ... 'celeb_a'")
  return config
