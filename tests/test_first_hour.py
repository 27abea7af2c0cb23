"""A stranger's data, as they come: check, train, evaluate, predict, load.

Each case is a command with three flags: --config, --config.data.dir and
--workdir. What else is set here only makes the network tiny.
"""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

import segsiam_jax
from configs import instance, semantic, siamese
from segsiam_jax import check, evaluate, predict, train
from segsiam_jax.config import of_workdir, override, validate
from tests.data.instance.coco_files import make_coco

TINY = {
  "semantic": ("model.encoder=plain", "model.depth=1", "model.base_width=4"),
  "instance": ("model.encoder_width=8", "model.width=8"),
  "siamese": ("model.encoder=plain", "model.embedding_size=8"),
}


def save(path, array):
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.fromarray(np.asarray(array, np.uint8)).save(path)


def scene(rng, number):
  """An image of 40 x 48 and its mask of a disc."""
  y, x = np.mgrid[:40, :48]
  center = rng.integers(12, 28, 2)
  mask = (y - center[0]) ** 2 + (x - center[1]) ** 2 < 64
  image = rng.integers(0, 80, (40, 48, 3)) + 150 * mask[..., None]
  return image + number % 5, mask


def camvid(root, rng):
  """SegNet's layout; void is 11."""
  for split, count in (("train", 8), ("val", 4)):
    for number in range(count):
      image, mask = scene(rng, number)
      label = np.where(mask, 8, 3)
      label[:2] = 11
      save(root / split / f"{number}.png", image)
      save(root / f"{split}annot" / f"{number}.png", label)
  return semantic, "config.data.legend=camvid11"


def black_and_white(root, rng):
  """One folder, masks of 0 and 255 beside the images."""
  for number in range(10):
    image, mask = scene(rng, number)
    save(root / f"{number}.jpg", image)
    save(root / f"{number}_mask.png", 255 * mask)
  return semantic, ""


def colours(root, rng):
  for number in range(10):
    image, mask = scene(rng, number)
    save(root / "images" / f"{number}.png", image)
    label = np.where(mask[..., None], (64, 0, 128), (128, 64, 128))
    save(root / "masks" / f"{number}.png", label)
  return semantic, "config.data.legend=camvid"


def nuclei(root, rng):
  for number in range(10):
    image, mask = scene(rng, number)
    save(root / "images" / f"{number}.png", image)
    save(root / "labels" / f"{number}.png", mask)
  return instance, ""


def coco(root, rng):
  """Ids of classes with gaps."""
  make_coco(root)
  shutil.copytree(root / "val", root / "train")
  annotations = root / "annotations"
  shutil.copy(
    annotations / "instances_val.json", annotations / "instances_train.json"
  )
  return instance, ":coco"


def faces(root, rng):
  for person in "abcdefghij":
    base = rng.integers(0, 256, (32, 24))
    for number in range(4):
      noise = rng.integers(0, 40, base.shape)
      path = root / person / f"{number}.pgm"
      save(path, (base + noise) % 256)
  return siamese, ""


CASES = (camvid, black_and_white, colours, nuclei, coco, faces)


@pytest.mark.slow
@pytest.mark.parametrize("write", CASES, ids=lambda write: write.__name__)
def test_three_flags_are_enough(write, tmp_path, rng):
  root, workdir = tmp_path / "data", str(tmp_path / "run")
  module, extra = write(root, rng)
  config = module.get_config(extra.removeprefix(":") if ":" in extra else "")
  config.data.dir = str(root)
  if "=" in extra:
    override(config, extra.removeprefix("config."))
  for assignment in TINY[config.task]:
    override(config, assignment)
  config.train.update(epochs=2.0, batch_size=4, eval_batch_size=4)
  if config.task == "semantic":
    config.predict.window = (48, 48)
  if config.task == "siamese":
    config.batch.per_identity = 2
    config.eval.update(pairs=20, folds=2, ways=2, shots=(1,), queries=1)
    config.eval.update(episodes=4, far=0.2)
  validate(config)
  check.check(config, str(tmp_path / "checked"))
  train.train_and_evaluate(config, workdir)
  scores = evaluate.evaluate(of_workdir.get_config(workdir), workdir)
  assert config.train.best_metric in scores
  some = sorted(path for path in root.rglob("*") if path.is_file())
  images = [
    path
    for path in some
    if "mask" not in str(path) and "annot" not in str(path)
    if "labels" not in str(path) and path.suffix != ".json"
  ]
  saved = of_workdir.get_config(workdir)
  predict.predict(saved, workdir, [str(path) for path in images[:3]])
  lines = (tmp_path / "run/predictions/predictions.jsonl").read_text()
  assert len(list(map(json.loads, lines.splitlines()))) == 3
  assert segsiam_jax.load(workdir).predict(images[0]) is not None
