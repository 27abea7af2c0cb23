import itertools

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from segsiam_jax.data.builders import digit_scenes, digits
from segsiam_jax.data.semantic import sources

CONFIGS = {
  config.name: config for config in digit_scenes.DigitScenes.BUILDER_CONFIGS
}
SMALL = digit_scenes.DigitScenesConfig(
  name="trimap",
  semantic="trimap",
  num_scenes={"train": 12, "validation": 3, "test": 6},
)


class SmallScenes(digit_scenes.DigitScenes, skip_registration=True):
  BUILDER_CONFIGS = (SMALL,)
  name = "digit_scenes"


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
  """A small `digit_scenes`, prepared and read back without TensorFlow."""
  builder = SmallScenes(
    data_dir=tmp_path_factory.mktemp("tfds"),
    file_format="array_record",
  )
  tfds.disable_progress_bar()
  builder.download_and_prepare()
  return builder


def test_scenes_read_back(scenes):
  source = scenes.as_data_source("train")
  assert len(source) == 12
  example = source[3]
  assert example["image"].shape == (64, 64, 3)
  assert example["segmentation_mask"].shape == (64, 64, 1)
  objects = example["objects"]
  assert 1 <= len(objects["label"]) <= SMALL.max_digits
  np.testing.assert_array_equal(
    objects["order"], np.arange(len(objects["label"]))
  )
  for mask, box in zip(objects["mask"], objects["box"], strict=True):
    x1, y1, x2, y2 = box
    assert mask.shape == (y2 - y1, x2 - x1, 1)
    # The box is tight.
    assert mask.any(axis=(0, 2)).all() or mask.any(axis=(1, 2)).all()
    assert mask[0].any() and mask[-1].any()
    assert mask[:, 0].any() and mask[:, -1].any()


def visible_masks(example):
  """From whole masks and their order, as a reader would."""
  masks = []
  for mask, (x1, y1, _, _) in zip(
    example["objects"]["mask"],
    np.asarray(example["objects"]["box"]).astype(int),
    strict=True,
  ):
    whole = np.zeros((64, 64), bool)
    height, width = mask.shape[:2]
    whole[y1 : y1 + height, x1 : x1 + width] = mask[..., 0] > 0
    masks = [other & ~whole for other in masks] + [whole]
  return masks


def test_semantic_masks_follow_from_instances(scenes):
  for example in scenes.as_data_source("test"):
    label = example["segmentation_mask"][..., 0]
    masks = visible_masks(example)
    assert not (label[~np.any(masks, axis=0)] == 1).any()
    np.testing.assert_array_equal(
      label, digit_scenes.trimap(masks, SMALL.border)
    )


def test_classes_label_the_top_digit():
  config = CONFIGS["classes"]
  scene = digit_scenes.make_scene(4, "train", config)
  label = _decode(scene["segmentation_mask"])
  top = scene["objects"][-1]
  mask = _decode(top["mask"]) > 0
  x1, y1, x2, y2 = top["box"].astype(int)
  assert (label[y1:y2, x1:x2][mask] == top["label"] + 1).all()


def test_trimap_separates_touching_digits():
  left, right = np.zeros((2, 9, 12), bool)
  left[3:6, 2:6] = True
  right[3:6, 6:10] = True
  label = digit_scenes.trimap([left, right], border=1)
  # The line between them, a pixel of each.
  assert (label[3:6, 5:7] == 2).all()
  assert (label[3:6, 2:5] == 1).all()
  assert label[2, 3] == label[6, 3] == label[4, 1] == 2
  assert label[1, 3] == 0


def test_scenes_depend_on_seed_split_and_index_alone():
  make = digit_scenes.make_scene
  one = make(7, "test", SMALL)
  assert one["image"] == make(7, "test", SMALL)["image"]
  assert one["image"] != make(8, "test", SMALL)["image"]
  assert one["image"] != make(7, "train", SMALL)["image"]


def test_splits_share_no_digit_and_no_photograph():
  bounds = sorted(digits.SPLITS.values())
  assert bounds[0][0] == 0 and bounds[-1][1] == 1797
  columns = sorted(digit_scenes.PHOTO_COLUMNS.values())
  for spans in (bounds, columns):
    for (_, stop), (start, _) in itertools.pairwise(spans):
      assert stop == start


def test_every_digit_stays_visible():
  for index in range(10):
    rng = np.random.default_rng(index)
    instances = digit_scenes._draw_instances(rng, "train", SMALL)
    for seen, one in zip(
      digit_scenes._visible(instances), instances, strict=True
    ):
      assert seen.sum() >= digit_scenes.MIN_VISIBLE * one.mask.sum()


def test_digits(tmp_path):
  builder = digits.Digits(data_dir=tmp_path, file_format="array_record")
  tfds.disable_progress_bar()
  builder.download_and_prepare()
  source = builder.as_data_source("test")
  images, classes = digits.load_digits()
  assert len(source) == 360
  assert source[5]["label"] == classes[1437 + 5]
  np.testing.assert_allclose(
    source[5]["image"][..., 0] / 255, images[1437 + 5], atol=1 / 255
  )


def test_source_of_scenes_prepares_once(tmp_path, monkeypatch):
  monkeypatch.setattr(
    tfds, "builder", lambda name, **options: SmallScenes(**options)
  )
  name, folder = "digit_scenes/trimap", str(tmp_path)
  source = sources.open_source(name, "train[:5]", data_dir=folder)
  assert len(source) == 5
  assert source.class_names == digit_scenes.TRIMAP_CLASSES
  assert set(source[0]) == {"image", "label"}
  assert source[0]["label"].shape == (64, 64)

  def fail(*args):
    raise AssertionError("prepared twice")

  monkeypatch.setattr(digit_scenes, "make_scene", fail)
  assert len(sources.open_source(name, "test", data_dir=folder)) == 6


def _decode(png: bytes) -> np.ndarray:
  import io

  return np.asarray(Image.open(io.BytesIO(png)))
