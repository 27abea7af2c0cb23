"""Identities: folders that a tiny tower tells apart, numbers, and scores."""

import pathlib

import numpy as np
from PIL import Image

from segsiam_jax.config import default_config
from segsiam_jax.data.identity import identities
from segsiam_jax.tasks.siamese_metrics import SiameseMetrics


def write_identities(folder: pathlib.Path, names, images: int, seed: int):
  """One sub-folder an identity: its pattern of 4x4 squares, and noise."""
  random = np.random.default_rng(seed)
  for name in names:
    (folder / name).mkdir(parents=True)
    pattern = random.uniform(60, 200, (4, 4)).repeat(4, 0).repeat(4, 1)
    for number in range(images):
      image = pattern + random.normal(0, 15, pattern.shape)
      Image.fromarray(np.clip(image, 0, 255).astype(np.uint8)).save(
        folder / name / f"{number}.png"
      )


def write_splits(root: pathlib.Path) -> pathlib.Path:
  """train: eight identities of six images; test: four of five."""
  write_identities(root / "train", [f"a{n}" for n in range(8)], 6, seed=0)
  write_identities(root / "test", [f"b{n}" for n in range(4)], 5, seed=1)
  return root


def make_siamese_config(root: pathlib.Path, model: str = "conv4"):
  """Batch-hard triplets on conv4 with BatchNorm, trained in seconds."""
  config = default_config("siamese", model)
  config.data.name = "folder"
  config.data.dir = str(root)
  config.data.image_size = (16, 16)
  config.data.channels = 1
  config.data.mean, config.data.std = (127.0,), (64.0,)
  config.data.threads = 1
  config.data.keep = True
  if model == "conv4":
    config.model.width = 4
    config.model.embedding_size = 8
  config.augment.rotate = 5.0
  config.augment.noise = 0.02
  config.optimizer.learning_rate = 1e-2
  config.train.batch_size = 8
  config.batch.per_identity = 2
  config.train.eval_batch_size = 8
  config.train.num_steps = 6
  config.train.log_every = 3
  config.train.eval_every = 3
  config.train.checkpoint_every = 3
  config.train.best_metric = "auc"
  config.train.num_pictures = 0
  config.eval.pairs = 60
  config.eval.far = 0.1
  config.eval.ways = 3
  config.eval.shots = (1, 2)
  config.eval.queries = 2
  config.eval.episodes = 20
  return config


class Numbers(identities.IdentitySource):
  """`image` is the example's index in one pixel."""

  def __init__(self, labels, groups=None, contents=None, names=None):
    self.labels = np.asarray(labels)
    self.groups = (
      np.zeros_like(self.labels) if groups is None else np.asarray(groups)
    )
    self.contents = contents
    self.class_names = names or tuple(
      f"n{label}" for label in range(self.labels.max() + 1)
    )

  def __len__(self):
    return len(self.labels)

  def __getitem__(self, index):
    return {
      "image": np.full((1, 1, 1), index, np.uint8),
      "label": int(self.labels[index]),
      "group": int(self.groups[index]),
      "id": str(index),
    }


def scores_of(protocol, embeddings, far=0.1):
  """Metrics of embeddings by a protocol."""
  state = SiameseMetrics(protocol, "euclidean", far, (0.1,))
  rows = np.arange(len(protocol.labels))
  # In batches, the last one padded, as evaluation has them.
  for start in range(0, len(rows), 7):
    part = np.resize(rows[start : start + 7], 7)
    mask = np.arange(7) < len(rows[start : start + 7])
    state.add(
      {"index": np.where(mask, part, -1), "mask": mask.astype(np.float32)},
      {"embeddings": np.asarray(embeddings, np.float32)[part]},
    )
  return state.gather().compute()
