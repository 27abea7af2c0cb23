"""Medical images that match: tissue, or a patient's mammograms.

Tissue: ResNet-18 with the multi-similarity loss on five of the eight classes of
colorectal histology (5000 tiles of 150x150), tested on the three others
(mucosa, adipose tissue, background), which are not in training:

  tfds build colorectal_histology --file_format=array_record --data_dir=TFDS
  python -m segsiam_jax.main --config=configs/medical_matching.py \
    --workdir=runs/tissue --config.data.dir=TFDS

Mammograms: do these two show the same patient? `:mammograms` trains on
CBIS-DDSM (calcifications) and is tested on other patients. The files must be
downloaded by hand; the TFDS catalogue says how.

  tfds build curated_breast_imaging_ddsm/original-calc \
    --file_format=array_record --data_dir=TFDS
  python -m segsiam_jax.main --config=configs/medical_matching.py:mammograms \
    --workdir=runs/mammograms --config.data.dir=TFDS

Not measured here. A match is not a diagnosis.

`:debug` runs a few steps of a small network on handwritten digits, without a
download.
"""

from segsiam_jax.config import default_config, on_digits, shorten


def get_config(arg: str = ""):
  config = default_config("siamese", "encoder")
  config.data.name = "colorectal_histology"
  config.data.train_split = "train[classes=:5]"
  config.data.eval_split = "train[classes=5:]"
  config.data.image_size = (128, 128)
  config.data.mean = (165.0, 125.0, 150.0)
  config.data.std = (60.0,) * 3
  config.loss.triplet = 0.0
  config.loss.multi_similarity = 1.0
  config.batch.per_identity = 12
  # Tissue has no upright orientation.
  config.augment.flip_left_right = True
  config.augment.rotate = 180.0
  config.augment.scale = (0.8, 1.2)
  config.augment.brightness = 0.1
  config.augment.contrast = (0.8, 1.2)
  config.optimizer.learning_rate = 3e-4
  config.optimizer.weight_decay = 1e-4
  config.optimizer.warmup_steps = 200
  config.train.batch_size = 60
  config.train.eval_batch_size = 64
  config.train.num_steps = 4000
  config.train.eval_every = 500
  config.train.checkpoint_every = 500
  config.train.best_metric = "map_at_r"
  config.eval.ways = 3
  if arg == "mammograms":
    config.data.name = "curated_breast_imaging_ddsm/original-calc"
    config.data.train_split = "train"
    config.data.eval_split = "test"
    # Patients with a single view.
    config.data.singles = "drop"
    config.data.image_size = (256, 160)
    config.data.fit = "pad"
    config.data.channels = 1
    config.data.mean = (50.0,)
    config.data.std = (60.0,)
    config.batch.per_identity = 2
    config.augment.rotate = 10.0
    config.augment.fill = "zero"
    config.train.batch_size = 32
    config.train.num_steps = 10_000
    config.train.best_metric = "auc"
  elif arg == "debug":
    on_digits(config)
    config.model.encoder = "plain"
    shorten(config, num_steps=2)
  elif arg:
    raise ValueError(f"{arg!r} is not one of 'debug', 'mammograms'")
  return config
