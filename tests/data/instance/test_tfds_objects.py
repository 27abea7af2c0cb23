"""TFDS sets of objects, on tiny fakes with the catalogue's features."""

import io

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from segsiam_jax.data.builders import digit_scenes
from segsiam_jax.data.builders.digits import png
from segsiam_jax.data.instance import tfds_objects
from segsiam_jax.errors import UserError
from tests.data.tfds_fakes import fake, prepare

IMAGE = np.arange(20 * 30 * 3, dtype=np.uint8).reshape(20, 30, 3)
BOX = tfds.features.BBox(ymin=0.1, xmin=0.2, ymax=0.5, xmax=0.6)


def test_coco_2017(tmp_path):
  features = {
    "image": tfds.features.Image(encoding_format="png"),
    "image/filename": tfds.features.Text(),
    "image/id": np.int64,
    "objects": tfds.features.Sequence(
      {
        "id": np.int64,
        "area": np.int64,
        "bbox": tfds.features.BBoxFeature(),
        "label": tfds.features.ClassLabel(names=["person", "dog"]),
        "is_crowd": np.bool_,
      }
    ),
  }
  objects = [
    {"id": 1, "area": 50, "bbox": BOX, "label": 1, "is_crowd": False},
    {"id": 2, "area": 60, "bbox": BOX, "label": 0, "is_crowd": True},
  ]
  shared = {"image": png(IMAGE), "image/filename": "a.jpg"}
  examples = [
    shared | {"image/id": 7, "objects": objects},
    shared | {"image/id": 8, "objects": []},
  ]
  prepare(tmp_path, fake("coco", "1.1.0", features, examples, config="2017"))
  source = tfds_objects.TfdsInstances("coco/2017", "train", str(tmp_path))
  assert source.class_names == ("person", "dog") and source.sizes is None
  # The 12th of COCO's classes, a stop sign.
  assert len(source.category_ids) == 80 and source.category_ids[11] == 13
  np.testing.assert_array_equal(source[0]["image"], IMAGE)
  objects = source.annotations(0)
  assert objects.id == 7 and objects.size == (20, 30)
  assert objects.masks is None
  np.testing.assert_allclose(objects.boxes, [[6, 2, 18, 10]] * 2, rtol=1e-6)
  assert objects.classes.tolist() == [2, 1]
  assert objects.is_crowd.tolist() == [False, True]
  assert objects.areas.tolist() == [50, 60]
  empty = source[1]["objects"]
  assert empty.boxes.shape == (0, 4) and empty.classes.shape == (0,)


def test_lvis(tmp_path):
  mask = np.zeros((20, 30), np.uint8)
  mask[3:9, 7:17] = 1
  features = {
    "image": tfds.features.Image(encoding_format="png"),
    "image/id": np.int64,
    "neg_category_ids": tfds.features.Sequence(np.int64),
    "objects": tfds.features.Sequence(
      {
        "id": np.int64,
        "area": np.int64,
        "bbox": tfds.features.BBoxFeature(),
        "label": tfds.features.ClassLabel(names=["acorn", "bagel", "cat"]),
        "segmentation": tfds.features.Image(shape=(None, None, 1)),
      }
    ),
  }
  example = {
    "image": png(IMAGE),
    "image/id": 3,
    "neg_category_ids": [1],
    "objects": [
      {"id": 1, "area": 60, "bbox": BOX, "label": 2, "segmentation": png(mask)}
    ],
  }
  prepare(tmp_path, fake("lvis", "1.4.0", features, [example]))
  source = tfds_objects.TfdsInstances("lvis", "train", str(tmp_path))
  assert source.class_names == ("acorn", "bagel", "cat")
  objects = source[0]["objects"]
  assert objects.classes.tolist() == [3] and not objects.is_crowd.any()
  np.testing.assert_array_equal(objects.masks[0].whole((20, 30)), mask)


@pytest.mark.parametrize("name", ["lvis", "coco/2017"])
def test_absent_set_says_how_to_get_it(tmp_path, name):
  message = f"{name}: not found in .*; get it with: tfds build {name}"
  with pytest.raises(UserError, match=message):
    tfds_objects.TfdsInstances(name, "train", str(tmp_path))


@pytest.fixture
def crowds(tmp_path, monkeypatch):
  [config] = [
    config
    for config in digit_scenes.DigitScenes.BUILDER_CONFIGS
    if config.name == "crowds"
  ]
  monkeypatch.setattr(config, "num_scenes", {"train": 5})
  return tfds_objects.TfdsInstances(
    "digit_scenes/crowds", "train", str(tmp_path)
  )


def test_digits_are_annotated_as_they_are_seen(crowds):
  assert crowds.class_names == tuple("0123456789")
  assert crowds.sizes.tolist() == [[96, 96]] * 5
  covered = []
  for index in range(5):
    example = crowds[index]
    assert example["image"].shape == (96, 96, 3)
    objects = example["objects"]
    assert 1 <= len(objects.boxes) <= 9
    # The semantic mask of the same scene, which shows the top digit.
    [config] = [
      config
      for config in digit_scenes.DigitScenes.BUILDER_CONFIGS
      if config.name == "crowds"
    ]
    scene = digit_scenes.make_scene(index, "train", config)
    label = np.asarray(Image.open(io.BytesIO(scene["segmentation_mask"])))
    mine = np.zeros((96, 96), np.uint8)
    for k, crop in enumerate(objects.masks):
      assert not mine[crop.window()][crop.mask].any()
      mine[crop.window()][crop.mask] = objects.classes[k]
      assert tuple(objects.boxes[k]) == crop.box
    np.testing.assert_array_equal(mine, label)
    # The digit on top is seen wholly; all are, to 30 % at least.
    assert objects.covered[-1] == 0 and objects.covered.max() <= 0.7
    whole = [
      (np.asarray(Image.open(io.BytesIO(one["mask"]))) > 0).sum()
      for one in scene["objects"]
    ]
    seen = [crop.mask.sum() for crop in objects.masks]
    np.testing.assert_allclose(
      objects.covered, 1 - np.divide(seen, whole), atol=1e-6
    )
    covered += objects.covered.tolist()
  assert max(covered) > 0.25
