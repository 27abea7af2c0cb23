"""TFDS catalogue sets, on tiny fakes with the catalogue's features."""

import numpy as np
import pytest
import tensorflow_datasets as tfds

from segsiam_jax.data.builders.digits import png
from segsiam_jax.data.semantic import adapters, sources
from segsiam_jax.errors import UserError
from tests.data.tfds_fakes import fake, prepare

IMAGE = np.arange(6 * 5 * 3, dtype=np.uint8).reshape(6, 5, 3)


def test_oxford_iiit_pet(tmp_path):
  trimap = np.ones((6, 5), np.uint8)
  trimap[0], trimap[1] = 2, 3
  features = {
    "image": tfds.features.Image(shape=(None, None, 3)),
    "label": tfds.features.ClassLabel(num_classes=37),
    "species": tfds.features.ClassLabel(num_classes=2),
    "file_name": tfds.features.Text(),
    "segmentation_mask": tfds.features.Image(shape=(None, None, 1)),
    "head_bbox": tfds.features.BBoxFeature(),
  }
  example = {
    "image": png(IMAGE),
    "label": 3,
    "species": 1,
    "file_name": "a.jpg",
    "segmentation_mask": png(trimap),
    "head_bbox": tfds.features.BBox(0.0, 0.0, 1.0, 1.0),
  }
  builder = tfds.builder_cls("oxford_iiit_pet")
  cls = fake("oxford_iiit_pet", str(builder.VERSION), features, [example])
  prepare(tmp_path, cls)
  source = sources.open_source(
    "oxford_iiit_pet", "train", data_dir=str(tmp_path)
  )
  assert source.class_names == ("pet", "background", "border")
  np.testing.assert_array_equal(source[0]["image"], IMAGE)
  np.testing.assert_array_equal(source[0]["label"][:3, 0], [1, 2, 0])


def test_cityscapes(tmp_path):
  label_ids = np.zeros((6, 5), np.uint8)
  label_ids[0] = [7, 8, 11, 33, 24]
  features = {
    "image_id": tfds.features.Text(),
    "image_left": tfds.features.Image(shape=(6, 5, 3)),
    "segmentation_label": tfds.features.Image(shape=(6, 5, 1)),
  }
  example = {
    "image_id": "aachen_000000",
    "image_left": png(IMAGE),
    "segmentation_label": png(label_ids),
  }
  builder = tfds.builder_cls("cityscapes")
  cls = fake(
    "cityscapes",
    str(builder.BUILDER_CONFIGS[0].version or builder.VERSION),
    features,
    [example],
    config=builder.BUILDER_CONFIGS[0].name,
  )
  prepare(tmp_path, cls)
  source = sources.open_source("cityscapes", "train", data_dir=str(tmp_path))
  assert len(source.class_names) == 19
  np.testing.assert_array_equal(source[0]["label"][0], [0, 1, 2, 18, 11])
  assert (source[0]["label"][1:] == adapters.IGNORE_LABEL).all()


def test_caltech_birds2011(tmp_path):
  share = np.zeros((6, 5), np.uint8)
  share[2] = [0, 51, 102, 153, 255]
  features = {
    "image": tfds.features.Image(),
    "image/filename": tfds.features.Text(),
    "label": tfds.features.ClassLabel(num_classes=200),
    "label_name": tfds.features.Text(),
    "bbox": tfds.features.BBoxFeature(),
    "segmentation_mask": tfds.features.Image(shape=(None, None, 1)),
  }
  example = {
    "image": png(IMAGE),
    "image/filename": "b.jpg",
    "label": 7,
    "label_name": "x",
    "bbox": tfds.features.BBox(0.0, 0.0, 1.0, 1.0),
    "segmentation_mask": png(share),
  }
  builder = tfds.builder_cls("caltech_birds2011")
  cls = fake("caltech_birds2011", str(builder.VERSION), features, [example])
  prepare(tmp_path, cls)
  source = sources.open_source(
    "caltech_birds2011", "train", data_dir=str(tmp_path)
  )
  np.testing.assert_array_equal(source[0]["label"][2], [0, 0, 0, 1, 1])


def test_absent_catalogue_set_says_how_to_get_it(tmp_path):
  with pytest.raises(UserError, match="tfds build oxford_iiit_pet"):
    sources.open_source("oxford_iiit_pet", "train", data_dir=str(tmp_path))


def test_a_trimap_value_that_is_none_is_not_ignored():
  adapter = adapters.SEMANTIC["oxford_iiit_pet"]
  label = adapter.to_index(np.array([[0, 1], [2, 3]], np.uint8))
  assert label.dtype == np.uint8 and label[0, 1:].tolist() + label[
    1
  ].tolist() == [0, 1, 2]
  with pytest.raises(UserError, match="are outside"):
    sources.check_label(label, 3, "here")
