"""Scenes to learn, and the scores of files, computed with NumPy alone."""

import numpy as np
import pytest
from PIL import Image

from segsiam_jax import evaluate, predict, train
from segsiam_jax.config import default_config, validate

CLASSES = ("ground", "disc", "rim")
# The second is a row's size, the first is larger than any row, and the third
# smaller in one axis.
SIZES = ((70, 52), (32, 32), (24, 60), (41, 33), (32, 32))


def write_scenes(folder, sizes, channels, dtype, seed):
  """Discs with rims in noise, some pixels of the masks ignored."""
  random = np.random.default_rng(seed)
  for kind in ("images", "masks"):
    (folder / kind).mkdir(parents=True)
  for index, size in enumerate(sizes):
    place = np.stack(np.indices(size), -1)
    center = np.array(size) * random.uniform(0.3, 0.7, len(size))
    distance = np.linalg.norm(place - center, axis=-1)
    radius = 0.3 * min(size[-2:])
    mask = (distance < radius).astype(np.uint8)
    mask[(distance >= radius) & (distance < 1.4 * radius)] = 2
    bright = np.array([70, 170, 120])[mask][..., None]
    image = bright + random.normal(0, 35, (*size, channels))
    image = np.clip(image, 0, 255).astype(dtype)
    mask[random.random(size) < 0.02] = 255
    if channels in (1, 3) and len(size) == 2:
      Image.fromarray(image[..., 0] if channels == 1 else image).save(
        folder / f"images/{index}.png"
      )
      Image.fromarray(mask).save(folder / f"masks/{index}.png")
    else:
      np.save(folder / f"images/{index}.npy", image)
      np.save(folder / f"masks/{index}.npy", mask)


def read_pages(path):
  """Whatever Pillow or NumPy make of a file of one number per pixel."""
  if path.suffix == ".npy":
    return np.load(path)
  with Image.open(path) as image:
    pages = []
    for page in range(getattr(image, "n_frames", 1)):
      image.seek(page)
      pages.append(np.asarray(image))
  return np.stack(pages) if path.suffix == ".tif" else pages[0]


def scores_of_files(labels, masks, classes):
  """The usual scores of files with the same names in two folders."""
  counts = np.zeros((len(classes), len(classes)), np.int64)
  written = {path.stem: path for path in labels.iterdir()}
  assert len(written) == len(list(masks.iterdir()))
  for path in masks.iterdir():
    mask, label = read_pages(path), read_pages(written[path.stem])
    assert label.shape == mask.shape
    for true in range(len(classes)):
      for found in range(len(classes)):
        counts[true, found] += ((mask == true) & (label == found)).sum()
  # Else anything would do.
  assert (counts.sum(0) > 0).sum() > 1
  right, true, found = counts.diagonal(), counts.sum(1), counts.sum(0)
  iou, dice = right / (true + found - right), 2 * right / (true + found)
  scores = {
    "mean_iou": iou.mean(),
    "mean_dice": dice.mean(),
    "pixel_accuracy": right.sum() / counts.sum(),
    "mean_accuracy": (right / true).mean(),
    "frequency_weighted_iou": (true * iou).sum() / counts.sum(),
  }
  for index, name in enumerate(classes):
    scores[f"iou/{name}"], scores[f"dice/{name}"] = iou[index], dice[index]
    scores[f"accuracy/{name}"] = right[index] / true[index]
  return scores


def trained(root, channels=3, dtype="uint8", sizes=SIZES, **data):
  """(config, workdir) of a short run on scenes in `root`."""
  write_scenes(root / "train", sizes, channels, dtype, 0)
  write_scenes(root / "test", sizes, channels, dtype, 1)
  config = default_config("semantic", "unet")
  config.data.update(
    name="folder",
    dir=str(root),
    class_names=CLASSES,
    image_size=(32, 32),
    fit="crop",
    channels=channels,
    image_dtype=dtype,
    mean=(110.0,) * channels,
    std=(50.0,) * channels,
    threads=2,
  )
  config.data.update(data)
  config.model.update(depth=1, base_width=4, norm="none")
  config.loss.class_weights = (0.3, 1.0, 1.7)
  config.optimizer.learning_rate = 2e-2
  config.train.update(
    batch_size=4,
    eval_batch_size=4,
    num_steps=40,
    eval_every=40,
    checkpoint_every=40,
    num_pictures=1,
    best_metric="mean_iou",
  )
  validate(config)
  train.train_and_evaluate(config, str(root / "run"))
  return config, root / "run"


def changed(config, **fields):
  """A copy with 'SECTION.FIELD's set."""
  config = config.copy_and_resolve_references()
  for name, value in fields.items():
    section, _, field = name.rpartition("__")
    node = config[section] if section else config
    node[field] = value
  validate(config)
  return config


def check(config, workdir, out):
  """Evaluates, predicts, and compares; returns what was reported."""
  reported = evaluate.evaluate(config, str(workdir))
  test = f"{config.data.dir}/test"
  predict.predict(config, str(workdir), [f"{test}/images"], str(out))
  expected = scores_of_files(
    out / "labels", (workdir.parent / "test/masks"), CLASSES
  )
  assert {name: reported[name] for name in expected} == pytest.approx(
    expected, rel=1e-9
  )
  return reported
