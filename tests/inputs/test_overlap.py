"""Examples that are trained on and evaluated are found by their files."""

import json

import numpy as np
import pytest
from PIL import Image

from segsiam_jax import inputs
from segsiam_jax.config import default_config
from segsiam_jax.data.identity import sets
from segsiam_jax.data.instance.tfds_objects import TfdsInstances
from segsiam_jax.data.semantic import sources
from segsiam_jax.data.tfds_records import TfdsRecords
from segsiam_jax.errors import UserError


def together(config):
  """Opens both splits, as training does."""
  data = [inputs.open_inputs(config, train=train) for train in (True, False)]
  inputs.check_together(config, *data)


def semantic(blobs):
  config = default_config("semantic", "unet")
  config.data.update(
    name="folder", dir=str(blobs), class_names=("background", "disc")
  )
  return config


def write_instances(root, names=("train", "val")):
  """Two images a split, as a folder of label images and in COCO's format."""
  for name in names:
    (root / name / "images").mkdir(parents=True)
    (root / name / "labels").mkdir()
    known, objects = [], []
    for number in range(2):
      label = np.zeros((32, 32), np.uint8)
      label[4:12, 6:20] = 1
      for kind in ("images", "labels"):
        path = root / name / kind / f"{number}.png"
        Image.fromarray(label).save(path)
      known.append(
        {"id": number, "file_name": f"{number}.png", "height": 32, "width": 32}
      )
      objects.append(
        {
          "id": number,
          "image_id": number,
          "category_id": 1,
          "bbox": [6, 4, 14, 8],
          "segmentation": [[6, 4, 20, 4, 20, 12, 6, 12]],
        }
      )
    (root / name / "instances.json").write_text(
      json.dumps(
        {
          "images": known,
          "annotations": objects,
          "categories": [{"id": 1, "name": "box"}],
        }
      )
    )


def instance(root, name):
  config = default_config("instance", "mask_rcnn")
  config.data.update(name=name, dir=str(root), train_split="train")
  config.data.eval_split = "val"
  config.data.class_names = ("box",) if name == "folder" else ()
  return config


@pytest.mark.parametrize(
  ("train", "test", "shared"),
  [
    ("train", "train[80%:]", 2),
    ("train[:6]", "train[5:]", 1),
    ("train[:80%]", "train[80%:]", 0),
    ("train", "test", 0),
    ("train", "linked", 3),
  ],
)
def test_folders(blobs, tmp_path, train, test, shared):
  for path in blobs.iterdir():
    (tmp_path / path.name).symlink_to(path)
  for kind in ("images", "masks"):
    (tmp_path / "linked" / kind).mkdir(parents=True)
    for number in range(3):
      (tmp_path / "linked" / kind / f"other{number}.png").symlink_to(
        blobs / "train" / kind / f"{number:03d}.png"
      )
  config = semantic(tmp_path)
  config.data.update(train_split=train, eval_split=test)
  if not shared:
    together(config)
    return
  with pytest.raises(UserError, match=f"share {shared} of .*allow_overlap"):
    together(config)
  config.data.allow_overlap = True
  together(config)


def test_a_part_of_the_training_set_counts_by_itself(blobs):
  config = semantic(blobs)
  config.data.update(eval_split="train", train_fraction=0.25)
  with pytest.raises(UserError, match="share 3 of 12"):
    together(config)


@pytest.mark.parametrize("name", ["folder", "coco"])
def test_instances(tmp_path, name):
  write_instances(tmp_path)
  config = instance(tmp_path, name)
  # The ids of the images are the same in both splits, the files are not.
  together(config)
  config.data.eval_split = "train[1:]"
  with pytest.raises(UserError, match="share 1 of 1 .*1.png"):
    together(config)
  config.data.one_class = "thing" if name == "coco" else ""
  with pytest.raises(UserError, match="share 1 of 1 .*1.png"):
    together(config)


def test_tfds_knows_ranges_without_reading(monkeypatch):
  monkeypatch.setattr(TfdsRecords, "__getitem__", None)

  def keys(split):
    found = TfdsRecords(
      "digits", split, ("image",), data_dir=None, download=""
    ).keys()
    assert len(found) == len(set(found))
    return set(found)

  train = keys("train")
  assert len(train & keys("train[80%:]")) == len(keys("train[80%:]")) > 0
  assert len(keys("train[:10]") & keys("validation+train[7:12]")) == 3
  assert not keys("train[:80%]") & keys("train[80%:]")
  assert not train & keys("test")


def test_siamese_sets_of_shared_identities():
  config = default_config("siamese", "conv4")
  config.data.update(name="digits", shared_identities=True)
  config.data.update(train_split="train[:60]", eval_split="train[50:90]")
  with pytest.raises(UserError, match="share 10 of 40"):
    together(config)
  config.data.eval_split = "train[60:90]"
  together(config)
  # Other classes are other examples, though the split is the same.
  config.data.update(
    train_split="train+test[classes=:5]",
    eval_split="train[classes=5:]",
    shared_identities=False,
  )
  together(config)


@pytest.mark.slow
def test_every_reader_has_keys(blobs, tmp_path):
  write_instances(tmp_path)
  (tmp_path / "pages").mkdir()
  opened = [
    sources.open_source(
      "folder", "train", str(blobs), sources.FolderOptions(("a", "b"))
    ),
    TfdsInstances("digit_scenes/crowds", "test"),
    sources.open_source("digit_scenes/trimap", "test"),
    sets.open_identities("folder", "train", str(tmp_path)),
    sets.open_identities("pages", "train/images", str(tmp_path)),
    sets.open_identities("digits", "test"),
  ]
  for source in opened:
    keys = source.keys()
    assert len(keys) == len(set(keys)) == len(source)
