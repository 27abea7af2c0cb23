"""Sources of objects: what is right is read, what is wrong is named."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from segsiam_jax import inputs
from segsiam_jax.config import default_config
from segsiam_jax.data.images import ImageFormat
from segsiam_jax.data.instance.annotations import OneClass
from segsiam_jax.data.instance.coco import CocoSource
from segsiam_jax.data.instance.coco_json import run_lengths
from segsiam_jax.data.instance.label_images import InstanceFolderSource
from segsiam_jax.errors import UserError
from tests.data.instance.coco_files import SIZE, ellipse, make_coco


def one_line(error) -> bool:
  return "\n" not in str(error.value)


@pytest.mark.parametrize("layout", ["coco", "folder"])
def test_coco_is_read_as_pycocotools_reads_it(tmp_path, layout, caplog, capsys):
  file, _ = make_coco(tmp_path, layout)
  source = CocoSource(str(tmp_path), "val")
  assert "1 boxes without an area" in caplog.text
  assert source.class_names == ("person", "dog")
  assert source.category_ids == (1, 18)
  assert source.sizes.tolist() == [list(SIZE)] * 3
  reference = COCO(str(file))
  capsys.readouterr()
  ids = [source.annotations(index).id for index in range(len(source))]
  assert ids == [2, 4, 9]
  for index, image_id in enumerate(ids):
    example = source[index]
    assert example["image"].shape == (*SIZE, 3)
    objects = example["objects"]
    theirs = [
      one
      for one in reference.loadAnns(reference.getAnnIds(image_id))
      if one["area"]
    ]
    assert objects.size == SIZE
    assert len(objects.boxes) == len(theirs) == len(objects.masks)
    for k, one in enumerate(theirs):
      x, y, width, height = one["bbox"]
      assert objects.boxes[k].tolist() == [x, y, x + width, y + height]
      assert source.category_ids[objects.classes[k] - 1] == one["category_id"]
      assert objects.is_crowd[k] == one["iscrowd"]
      assert objects.areas[k] == one["area"]
      np.testing.assert_array_equal(
        objects.masks[k].whole(SIZE), reference.annToMask(one)
      )
    truth = objects.ground_truth()
    for k, one in enumerate(theirs):
      # To the pixel, also after it was cut and put back.
      mine = dict(truth.masks[k], counts=truth.masks[k]["counts"].encode())
      assert coco_mask.iou([mine], [reference.annToRLE(one)], [0]) == 1
  assert len(CocoSource(str(tmp_path), "val[:50%]")) == 2


def test_coco_of_boxes_alone(tmp_path):
  file, content = make_coco(tmp_path)
  for one in content["annotations"]:
    one["segmentation"] = []
    del one["area"]
  file.write_text(json.dumps(content))
  source = CocoSource(str(tmp_path), "val")
  objects = source.annotations(2)
  assert objects.masks is None and objects.areas is None
  truth = objects.ground_truth()
  assert truth.masks is None and len(truth.covered) == 2


def test_one_class_for_all(tmp_path):
  make_coco(tmp_path)
  source = OneClass(CocoSource(str(tmp_path), "val"), "thing")
  assert source.class_names == ("thing",) and len(source) == 3
  for objects in (source.annotations(2), source[2]["objects"]):
    assert objects.classes.tolist() == [1, 1]
  assert source.sizes.shape == (3, 2)


def spoil_json(root, file, content):
  file.write_text("{")


def spoil_list(root, file, content):
  del content["categories"]


def spoil_key(root, file, content):
  del content["images"][1]["height"]


def spoil_twice(root, file, content):
  content["images"][1]["id"] = 9


def spoil_image_id(root, file, content):
  content["annotations"][1]["image_id"] = 77


def spoil_category(root, file, content):
  content["annotations"][1]["category_id"] = 3


def spoil_image(root, file, content):
  (root / "val" / "b.png").unlink()


def spoil_no_images(root, file, content):
  shutil.rmtree(root / "val")


def spoil_segmentation(root, file, content):
  content["annotations"][1]["segmentation"] = []


def spoil_polygon(root, file, content):
  content["annotations"][1]["segmentation"] = [[1, 2, 3, 4]]


def spoil_counts(root, file, content):
  content["annotations"][1]["segmentation"] = {"size": [3, 4]}


def spoil_size(root, file, content):
  content["annotations"][1]["segmentation"]["size"] = [40, 30]


def spoil_runs(root, file, content):
  runs = {"size": list(SIZE), "counts": [5, 9]}
  content["annotations"][1]["segmentation"] = runs


def spoil_name(root, file, content):
  content["categories"][0]["name"] = "person"


def spoil_box(root, file, content):
  content["annotations"][1]["bbox"] = [1, 2, 3]


def spoil_nan(root, file, content):
  content["annotations"][1]["bbox"] = [1, 2, float("nan"), 3]


def spoil_no_box(root, file, content):
  content["annotations"][1]["bbox"] = None


@pytest.mark.parametrize(
  ("spoil", "message"),
  [
    (spoil_json, r"instances_val\.json: not readable"),
    (spoil_list, r"has no list 'categories'; a COCO instances file has"),
    (spoil_key, r"images\[1\]: has no 'height'"),
    (spoil_twice, r"two images have the id 9"),
    (spoil_image_id, r"annotation 6: image_id 77 is not one of the 3 images"),
    (spoil_category, r"annotation 6: category_id 3 is not one of the 2"),
    (spoil_image, r"val: 1 of 3 images .* the first 'b\.png'"),
    (spoil_no_images, r"val: no such folder"),
    (spoil_segmentation, r"annotation 6: no segmentation, but others"),
    (spoil_polygon, r"annotation 6: a polygon is a list of at least three"),
    (spoil_counts, r"annotation 6: run lengths without 'counts'"),
    (spoil_size, r"annotation 6: run lengths of size \[40, 30\] in an image"),
    (spoil_runs, r"annotation 6: run lengths of 14 pixels in an image of 1200"),
    (spoil_name, r"two categories have the name 'person'"),
    (spoil_box, r"annotation 6: bbox \[1, 2, 3\] is not"),
    (spoil_nan, r"annotation 6: bbox \[1, 2, nan, 3\] is not"),
    (spoil_no_box, r"annotation 6: bbox None is not"),
  ],
)
def test_bad_coco_is_named(tmp_path, spoil, message):
  file, content = make_coco(tmp_path)
  spoil(tmp_path, file, content)
  if spoil is not spoil_json:
    file.write_text(json.dumps(content))
  with pytest.raises(UserError, match=message) as caught:
    CocoSource(str(tmp_path), "val")
  assert one_line(caught)


def test_pixels_of_compressed_runs(rng):
  for _ in range(50):
    mask = rng.random((rng.integers(1, 70), rng.integers(1, 70))) < rng.random()
    runs = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    assert run_lengths(runs["counts"]).sum() == mask.size
  blocks = np.zeros((300, 400), np.uint8)
  blocks[40:250, 30:390] = 1
  blocks[90:100] = 0
  runs = coco_mask.encode(np.asfortranarray(blocks))
  assert run_lengths(runs["counts"]).sum() == blocks.size


def test_coco_for_boxes_needs_no_masks(tmp_path):
  """Neither all of them, nor right ones; nor of what has no area."""
  file, content = make_coco(tmp_path)
  content["annotations"][3]["segmentation"] = []
  file.write_text(json.dumps(content))
  assert CocoSource(str(tmp_path), "val").annotations(2).masks is not None
  content["annotations"][1]["segmentation"] = []
  file.write_text(json.dumps(content))
  source = CocoSource(str(tmp_path), "val", masks=False)
  assert source.annotations(2).masks is None
  assert len(source.annotations(2).boxes) == 2


def test_images_of_coco_have_the_channels_wanted(tmp_path):
  make_coco(tmp_path)
  Image.new("RGBA", SIZE[::-1]).save(tmp_path / "val" / "b.png")
  source = CocoSource(str(tmp_path), "val", ImageFormat(channels=4))
  assert source[0]["image"].shape == (*SIZE, 4)
  with pytest.raises(UserError, match=r"c\.png: config.data.channels = 4"):
    source[1]


def test_absent_coco_and_wrong_sizes(tmp_path):
  with pytest.raises(UserError, match=r"instances_val\.json: not found, nor"):
    CocoSource(str(tmp_path), "val")
  make_coco(tmp_path)
  with pytest.raises(UserError, match="selects no images"):
    CocoSource(str(tmp_path), "val[9:]")
  Image.new("RGB", (40, 20)).save(tmp_path / "val" / "b.png")
  source = CocoSource(str(tmp_path), "val")
  with pytest.raises(UserError, match=r"b\.png: is 20x40, but .* says 30x40"):
    source[0]


@pytest.fixture
def labels(tmp_path):
  """Two images: ids with gaps and above 255, and no object at all."""
  for name in ("images", "labels"):
    (tmp_path / "train" / name).mkdir(parents=True)
  for name in ("a", "b"):
    Image.new("L", SIZE[::-1], 50).save(tmp_path / f"train/images/{name}.png")
  ids = np.zeros(SIZE, np.uint16)
  ids[ellipse(8, 10, 5)] = 3
  ids[ellipse(20, 30, 7)] = 700
  Image.fromarray(ids).save(tmp_path / "train/labels/a.png")
  Image.fromarray(ids * 0).save(tmp_path / "train/labels/b.png")
  return tmp_path


def test_label_images(labels):
  source = InstanceFolderSource(str(labels), "train", ("cell",))
  assert len(source) == 2 and source.sizes.tolist() == [list(SIZE)] * 2
  example = source[0]
  assert example["image"].shape == (*SIZE, 1)
  objects = example["objects"]
  assert objects.id == "a" and objects.classes.tolist() == [1, 1]
  for crop, box, expected in zip(
    objects.masks,
    objects.boxes,
    (ellipse(8, 10, 5), ellipse(20, 30, 7)),
    strict=True,
  ):
    np.testing.assert_array_equal(crop.whole(SIZE), expected)
    assert tuple(box) == crop.box
  empty = source.annotations(1)
  assert empty.boxes.shape == (0, 4) and empty.ground_truth().masks == []
  assert len(InstanceFolderSource(str(labels), "train[1:]", ("cell",))) == 1


@pytest.mark.parametrize("value", [-1, 3_000_000_000, 2**32 + 5])
def test_label_images_with_ids_that_do_not_fit(labels, value):
  path = labels / "train/labels/a.png"
  ids = np.asarray(Image.open(path)).astype(np.int64)
  path.unlink()
  np.save(path.with_suffix(".npy"), np.where(ids == ids.max(), value, ids))
  with pytest.raises(UserError, match=rf"a.npy: mask values .*{value}"):
    InstanceFolderSource(str(labels), "train", ("cell",))


def test_black_and_white_label_images_are_told(labels, caplog):
  InstanceFolderSource(str(labels), "train", ("cell",))
  assert not caplog.messages
  path = labels / "train/labels/a.png"
  ids = np.asarray(Image.open(path))
  Image.fromarray((ids > 0) * np.uint8(255)).save(path)
  InstanceFolderSource(str(labels), "train", ("cell",))
  (message,) = caplog.messages
  assert "a.png: the only values are 0 and 255 (so in 1 of 2" in message


def test_label_images_with_high_ids(labels):
  """The objects are those of low ids, in no more memory."""
  expected = InstanceFolderSource(str(labels), "train", ("cell",))
  expected = expected.annotations(0)
  path = labels / "train/labels/a.png"
  ids = np.asarray(Image.open(path)).astype(np.int64)
  path.unlink()
  high = np.where(ids > 0, 2**31 - 1 - ids.max() + ids, 0)
  np.save(path.with_suffix(".npy"), high)
  found = InstanceFolderSource(str(labels), "train", ("cell",)).annotations(0)
  np.testing.assert_array_equal(found.boxes, expected.boxes)
  for one, other in zip(found.masks, expected.masks, strict=True):
    np.testing.assert_array_equal(one.mask, other.mask)
  assert len(found.boxes) > 1


def test_classes_of_label_images(labels):
  file = labels / "train" / "classes.csv"
  # As Excel saves it.
  file.write_bytes(b"\xef\xbb\xbfimage,label,class\na,3,hen\na.png,700,cat\n")
  source = InstanceFolderSource(str(labels), "train", ("cat", "hen"))
  assert source.annotations(0).classes.tolist() == [2, 1]
  assert source.category_ids == (1, 2)


def test_classes_of_names_with_dots(labels):
  for name in ("images", "labels"):
    folder = labels / "train" / name
    (folder / "a.png").rename(folder / "scan_1.5um.png")
  file = labels / "train" / "classes.csv"
  lines = ("image,label,class", "scan_1.5um,3,hen", "scan_1.5um.png,700,cat")
  file.write_text("\n".join(lines))
  source = InstanceFolderSource(str(labels), "train", ("cat", "hen"))
  assert source.annotations(1).classes.tolist() == [2, 1]


@pytest.mark.parametrize(
  ("text", "message"),
  [
    (None, r"classes\.csv: not found; config\.data\.class_names has 2 classes"),
    (
      "a,3,hen\n",
      "line 1: expected the columns image,label,class, .*; found .a,3",
    ),
    ("image,label,class\na,3,hen\n", "has no line for label 700 of a"),
    ("image,label,class\na,3,fox\n", "line 2: class 'fox' is not in config"),
    ("image,label,class\na,x,hen\n", "line 2: label 'x' is not a number"),
  ],
)
def test_bad_classes_are_named(labels, text, message):
  if text is not None:
    (labels / "train" / "classes.csv").write_text(text)
  with pytest.raises(UserError, match=message) as caught:
    InstanceFolderSource(str(labels), "train", ("cat", "hen"))
  assert one_line(caught)


def test_two_images_with_the_same_labels_are_named(labels):
  Image.new("L", SIZE[::-1]).save(labels / "train" / "images" / "b.jpg")
  with pytest.raises(UserError, match=r"b\.png: a second image 'b', next to b"):
    InstanceFolderSource(str(labels), "train", ("cell",))


def test_bad_label_images_are_named(labels):
  path = labels / "train" / "labels" / "a.png"
  Image.new("RGB", SIZE[::-1]).save(path)
  with pytest.raises(UserError, match="one number per pixel"):
    InstanceFolderSource(str(labels), "train", ("cell",))
  Image.new("L", (9, 7)).save(path)
  with pytest.raises(UserError, match=r"the mask is 7x9, but its image a\.png"):
    InstanceFolderSource(str(labels), "train", ("cell",))
  path.unlink()
  with pytest.raises(UserError, match="no mask for 1 of 2 images"):
    InstanceFolderSource(str(labels), "train", ("cell",))


@pytest.mark.parametrize("name", ["folder", "coco"])
def test_training_without_objects_is_refused(labels, tmp_path, name, caplog):
  config = default_config("instance", "mask_rcnn")
  config.data.update(name=name, dir=str(tmp_path), class_names=("cell",))
  if name == "folder":
    # The second image has none.
    config.data.update(train_split="train[1:]", eval_split="train[1:]")
  else:
    file, content = make_coco(tmp_path)
    for one in content["annotations"]:
      one["iscrowd"] = 1
    file.write_text(json.dumps(content))
    config.data.update(train_split="val", eval_split="val", class_names=())
  with pytest.raises(UserError, match="train_split = .* there is no object"):
    inputs.open_inputs(config, train=True)
  inputs.open_inputs(config, train=False)
  assert "there is no object in any of" in caplog.text
