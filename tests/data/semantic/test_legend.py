"""Mask values and colours as people have them."""

import numpy as np
import pytest
from PIL import Image

from segsiam_jax import inputs
from segsiam_jax.config import default_config, validate
from segsiam_jax.data.semantic import legend
from segsiam_jax.errors import UserError


def save(path, array):
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.fromarray(np.asarray(array, np.uint8)).save(path)
  return path


def write_set(root, masks, split="train"):
  for index, mask in enumerate(masks):
    mask = np.asarray(mask)
    save(root / split / f"images/{index}.png", np.zeros((*mask.shape[:2], 3)))
    save(root / split / f"masks/{index}.png", mask)


def test_colours_and_many_to_one(tmp_path):
  file = tmp_path / "legend.csv"
  file.write_text(
    "r,g,b,class\n0,0,0,ground\n255,0,0,tree\n0,255,0,tree\n0,0,255,\n"
  )
  found = legend.read_legend(str(file))
  assert found.class_names == ("ground", "tree") and found.colors
  mask = [[(0, 0, 0), (255, 0, 0)], [(0, 255, 0), (0, 0, 255)]]
  path = save(tmp_path / "mask.png", mask)
  assert found.read(path).tolist() == [[0, 1], [1, 255]]
  palette = Image.open(path).convert("P", palette=Image.Palette.ADAPTIVE)
  palette.save(path)
  assert found.read(path).tolist() == [[0, 1], [1, 255]]
  path = save(tmp_path / "mask.png", [[(0, 0, 1), (9, 9, 9)]])
  with pytest.raises(UserError, match=r"\(0, 0, 1\), \(9, 9, 9\) are not in"):
    found.read(path)


def test_values_and_ignored_ones(tmp_path):
  file = tmp_path / "legend.csv"
  file.write_text("class,value\nsky,0\nroad,7\nroad,8\n,11\n")
  found = legend.read_legend(str(file))
  assert found.class_names == ("sky", "road")
  path = save(tmp_path / "mask.png", [[0, 7, 8, 11, 255]])
  assert found.read(path).tolist() == [[0, 1, 1, 255, 255]]
  path = save(tmp_path / "mask.png", [[0, 1]])
  with pytest.raises(UserError, match=r"values 1 are not in .*legend\.csv"):
    found.read(path)


@pytest.mark.parametrize(
  ("text", "words"),
  [
    ("value,class\n0,a\n", "fewer than two"),
    ("value,class\n0,a\n256,b\n", "line 3: expected a value"),
    ("value,class\n0,a\n0,b\n", "line 3: a second line"),
    ("value,r,g,b,class\n0,,,,a\n,1,2,3,b\n", "line 3: values and colours"),
    ("r,g,class\n0,1,a\n", "line 2: expected a value, or r, g and b"),
    ("value,name\n0,a\n", "expected the columns class"),
  ],
)
def test_bad_legends_are_told_by_line(tmp_path, text, words):
  file = tmp_path / "legend.csv"
  file.write_text(text)
  with pytest.raises(UserError, match=words):
    legend.read_legend(str(file))


def test_presets():
  assert len(legend.read_legend("camvid").class_names) == 11
  # All 32 colours of the data set.
  table = legend.read_legend("camvid").table
  assert (table >= 0).sum() == 32
  camvid = legend.read_legend("camvid11")
  assert camvid.class_names == legend.read_legend("camvid").class_names
  assert camvid.table[11] == 255 and camvid.table[10] == 10
  cityscapes = legend.read_legend("cityscapes").table
  assert cityscapes[7] == 0 and cityscapes[33] == 18 and cityscapes[6] == 255
  assert legend.read_legend("binary").table[[0, 1, 255]].tolist() == [0, 1, 1]
  with pytest.raises(UserError, match="a CSV file, or one of camvid"):
    legend.read_legend("camvid12")


def config_of(root, **data):
  config = default_config("semantic", "unet")
  config.data.update(name="folder", dir=str(root), image_size=(16, 16), **data)
  return config


@pytest.mark.parametrize(
  ("masks", "names", "values", "label"),
  [
    ([[[0, 255]]], ("background", "object"), (0, 255), [[0, 1]]),
    ([[[0, 1]], [[2, 255]]], ("class 0", "class 1", "class 2"), (), [[0, 1]]),
    ([[[3, 9]]], ("class 3", "class 9"), (3, 9), [[0, 1]]),
  ],
)
def test_classes_are_found(tmp_path, masks, names, values, label):
  write_set(tmp_path, masks)
  config = config_of(tmp_path, eval_split="train", allow_overlap=True)
  validate(config)
  source = inputs.open_inputs(config, train=True).source
  assert source.class_names == names and source[0]["label"].tolist() == label
  known = inputs.of_training(config, source)
  assert tuple(known.data.class_names) == names
  assert tuple(known.data.label_values) == values
  validate(known)
  again = inputs.open_inputs(known, train=False).source
  assert again[0]["label"].tolist() == label


def test_classes_of_a_text_file_and_values_to_ignore(tmp_path):
  write_set(tmp_path, [[[0, 1, 11]]])
  (tmp_path / "classes.txt").write_text("sky\n\nroad\n")
  config = config_of(tmp_path, ignore_values=(11,))
  validate(config)
  source = inputs.open_inputs(config, train=True).source
  assert source.class_names == ("sky", "road")
  assert source[0]["label"].tolist() == [[0, 1, 255]]
  (tmp_path / "classes.txt").write_text("sky\nsky\n")
  with pytest.raises(UserError, match=r"classes\.txt: expected two or more"):
    inputs.open_inputs(config, train=True)


def test_numbers_of_objects_are_no_classes(tmp_path):
  write_set(tmp_path, [np.arange(100).reshape(10, 10)])
  with pytest.raises(UserError, match="100 values.*'instances'"):
    inputs.open_inputs(config_of(tmp_path), train=True)
