"""Folders of classes that may overlap."""

import numpy as np
import pytest
from PIL import Image

from segsiam_jax import inputs
from segsiam_jax.config import default_config, validate
from segsiam_jax.data import layouts
from segsiam_jax.data.semantic.multilabel import MultilabelSource
from segsiam_jax.errors import UserError
from segsiam_jax.ops import multilabel

HEART = [[0, 1, 1, 0]]
LUNG = [[0, 0, 1, 1]]
UNSURE = [[1, 0, 0, 0]]


def save(path, values, scale=1):
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.fromarray(np.asarray(values, np.uint8) * np.uint8(scale)).save(path)


def write(root, folder="train", ending="", ignore=False):
  for name in "ab":
    save(root / folder / f"images/{name}.png", HEART, 9)
    save(root / folder / f"masks/heart{ending}/{name}.png", HEART, 255)
    save(root / folder / f"masks/lung{ending}/{name}.png", LUNG)
    if ignore:
      save(root / folder / f"masks/ignore{ending}/{name}.png", UNSURE)


def test_a_folder_of_each_class(tmp_path):
  write(tmp_path)
  source = MultilabelSource(str(tmp_path), "train")
  assert source.class_names == ("heart", "lung")
  assert source[0]["label"].tolist() == [[0, 1, 3, 2]]
  assert source.pixels.tolist() == [4, 4] and source.size == 8
  assert source.images_with.tolist() == [2, 2]
  # The order that is asked for, and no more than that.
  source = MultilabelSource(str(tmp_path), "train", ("lung",))
  assert source.label(1).tolist() == [[0, 0, 1, 1]]


def test_pixels_that_count_for_no_class(tmp_path):
  write(tmp_path, ignore=True)
  source = MultilabelSource(str(tmp_path), "train")
  assert source.class_names == ("heart", "lung")
  assert source.label(0).tolist() == [[multilabel.IGNORE, 1, 3, 2]]
  assert source.pixels.tolist() == [4, 4]


def test_without_folders_of_splits_and_by_patterns(tmp_path):
  for index in range(10):
    save(tmp_path / f"x/images/{index}.png", HEART)
    save(tmp_path / f"x/masks/heart/{index}.png", HEART)
    save(tmp_path / f"y/{index}_image.png", HEART)
    save(tmp_path / f"y/{index}_heart.png", HEART)
    save(tmp_path / f"y/{index}_lung.png", LUNG)
  parts = [
    MultilabelSource(str(tmp_path / "x"), split) for split in ("train", "test")
  ]
  assert list(map(len, parts)) == [8, 2]
  assert not set(parts[0].ids) & set(parts[1].ids)
  source = MultilabelSource(
    str(tmp_path / "y"),
    "all",
    ("lung", "heart"),
    layout=layouts.Layout("*_image", "*_{class}"),
  )
  assert len(source) == 10 and source.label(0).tolist() == [[0, 2, 3, 1]]


def test_a_table_in_which_a_class_may_be_missing(tmp_path):
  write(tmp_path, "files")
  (tmp_path / "train.csv").write_text(
    "image,heart,lung\n"
    "files/images/a.png,files/masks/heart/a.png,\n"
    "files/images/b.png,,\n"
  )
  source = MultilabelSource(str(tmp_path), "train")
  assert source.label(0).tolist() == HEART and not source.label(1).any()
  assert source.label(1).shape == (1, 4)
  (tmp_path / "train.csv").write_text("image,heart\nfiles/images/a.png,x.png\n")
  with pytest.raises(UserError, match=r"line 2: heart: 'x\.png': no such file"):
    MultilabelSource(str(tmp_path), "train")
  (tmp_path / "train.csv").write_text("image\nfiles/images/a.png\n")
  with pytest.raises(UserError, match="a column for each class"):
    MultilabelSource(str(tmp_path), "train")


@pytest.mark.parametrize(
  ("file", "values", "words"),
  [
    ("heart/a.png", [[0, 1, 2, 0]], "0 and 1, or 0 and 255; this one has 0, 1"),
    ("heart/a.png", [[0, 1, 255, 0]], "this one has 0, 1, 255"),
    ("lung/a.png", [[0, 1]], "lung/a.png: the mask is 1x2"),
    ("lung/c.png", None, "a.png"),
  ],
)
def test_bad_masks(tmp_path, file, values, words):
  write(tmp_path)
  if values is None:
    (tmp_path / "train/masks/lung/a.png").unlink()
  else:
    save(tmp_path / "train/masks" / file, values)
  with pytest.raises(UserError, match=words):
    MultilabelSource(str(tmp_path), "train")
  source = MultilabelSource(str(tmp_path), "train", skip_broken=True)
  assert source.ids == ("b.png",)


def test_no_masks_of_classes(tmp_path):
  save(tmp_path / "train/images/a.png", HEART)
  save(tmp_path / "train/masks/a.png", HEART)
  with pytest.raises(UserError, match=r"masks/CLASS/NAME\.png"):
    MultilabelSource(str(tmp_path), "train")
  (tmp_path / "train.csv").write_text("image,../x\ntrain/images/a.png,\n")
  with pytest.raises(UserError, match=r"'\.\./x' cannot have a folder"):
    MultilabelSource(str(tmp_path), "train")


def make_config(root):
  config = default_config("semantic", "unet")
  config.data.update(
    name="folder", dir=str(root), multilabel=True, class_names=()
  )
  return config


def test_nothing_to_learn(tmp_path):
  write(tmp_path)
  for name in "ab":
    for kind in ("heart", "lung"):
      save(tmp_path / f"train/masks/{kind}/{name}.png", [[0, 0, 0, 0]])
  with pytest.raises(UserError, match="no pixel is of a class"):
    inputs.open_inputs(make_config(tmp_path), train=True)


@pytest.mark.parametrize(
  ("changes", "words"),
  [
    ({"data.legend": "binary"}, "black and white"),
    ({"data.masks": "instances"}, "needs 'classes'"),
    ({"data.class_names": ("a/b", "c")}, "name of a folder"),
    ({"data.name": "digit_scenes/trimap"}, "only data.name = 'folder'"),
    ({"loss.lovasz": 1.0}, "exclude each other"),
    ({"loss.label_smoothing": 0.1}, "data.multilabel has none"),
    ({"loss.weight_map": 10.0}, "exclude each other"),
    (
      {"data.image_files": "*_i", "data.mask_files": "*_m"},
      "needs {class} in it",
    ),
  ],
)
def test_fields_that_do_not_go_with_it(tmp_path, changes, words):
  config = make_config(tmp_path)
  validate(config)
  config.update_from_flattened_dict(changes)
  with pytest.raises(UserError, match=words):
    validate(config)
