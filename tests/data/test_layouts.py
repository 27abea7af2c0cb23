"""Folders as people have them: pairs are found without renaming a file."""

import pathlib
import re

import numpy as np
import pytest
from PIL import Image

from segsiam_jax.data import layouts
from segsiam_jax.data.broken import Broken
from segsiam_jax.errors import UserError
from segsiam_jax.fields import folders


def write(root: pathlib.Path, *names: str) -> None:
  for name in names:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((2, 2), np.uint8)).save(path)


def found(root, split="train", kind="masks", layout=layouts.USUAL, skip=False):
  pairs = layouts.find_pairs(str(root), split, kind, Broken(skip), layout)
  return [
    tuple(path.relative_to(root).as_posix() for path in pair) for pair in pairs
  ]


@pytest.mark.parametrize(
  ("image", "mask"),
  [
    ("train/images/a.jpg", "train/masks/a.png"),
    ("train/images/x/a.jpg", "train/masks/x/a.png"),
    ("images/train/a.jpg", "masks/train/a.png"),
    ("train/a.png", "trainannot/a.png"),
    ("train/a.png", "train_labels/a_L.png"),
    (
      "leftImg8bit/train/ulm/a_leftImg8bit.png",
      "gtFine/train/ulm/a_gtFine_labelIds.png",
    ),
    ("train/a.png", "train/a_mask.png"),
    ("train/images/b.c.a.jpg", "train/masks/b.c.a.png"),
  ],
)
def test_usual_layouts(tmp_path, image, mask):
  other = [re.sub(r"a([._])", r"b\1", name) for name in (image, mask)]
  elsewhere = [name.replace("train", "test") for name in (image, mask)]
  write(tmp_path, image, mask, *other, *elsewhere)
  assert found(tmp_path) == [(image, mask), tuple(other)]
  assert found(tmp_path, "train[:1]") == [(image, mask)]
  assert found(tmp_path, "test") == [tuple(elsewhere)]


@pytest.mark.parametrize("masks", ["masks/{}.png", "{}_mask.png"])
def test_a_folder_without_splits_is_divided(tmp_path, masks):
  images = "images/{}.png" if "/" in masks else "{}.png"
  names = [f"{number:02d}" for number in range(10)]
  write(tmp_path, *map(images.format, names), *map(masks.format, names))
  train, test = found(tmp_path), found(tmp_path, "test")
  assert len(train) == 8 and len(test) == 2 and not set(train) & set(test)
  assert sorted(train + test) == found(tmp_path, "all")
  assert found(tmp_path, "val") == test
  assert train != found(tmp_path, "all")[:8]
  with pytest.raises(UserError, match="no folders of splits.*'all'"):
    found(tmp_path, "training")


def test_a_table_names_pairs(tmp_path):
  write(tmp_path, "x/1.png", "y/2.png", "x/3.png")
  (tmp_path / "train.csv").write_text("mask,image\ny/2.png,x/1.png\n")
  assert found(tmp_path) == [("x/1.png", "y/2.png")]
  (tmp_path / "train.csv").write_text("mask,image\ny/9.png,x/1.png\n")
  with pytest.raises(UserError, match=r"train\.csv, line 2: 'y/9\.png'.*skip"):
    found(tmp_path)
  (tmp_path / "train.csv").write_text("picture,mask\n")
  with pytest.raises(UserError, match="expected the columns image,mask"):
    found(tmp_path)


def test_patterns(tmp_path):
  write(tmp_path, "raw/train/s1/a_img.tif", "gt/train/s1/seg_a.png")
  write(tmp_path, "raw/train/s2/a_img.tif", "gt/train/s2/seg_a.png")
  layout = layouts.Layout("raw/{split}/**/*_img.tif", "gt/{split}/**/seg_*")
  assert found(tmp_path, layout=layout) == [
    ("raw/train/s1/a_img.tif", "gt/train/s1/seg_a.png"),
    ("raw/train/s2/a_img.tif", "gt/train/s2/seg_a.png"),
  ]
  (tmp_path / "gt/train/s2/seg_a.png").unlink()
  with pytest.raises(UserError, match=r"s2/a_img\.tif: no mask like gt/"):
    found(tmp_path, layout=layout)
  assert len(found(tmp_path, layout=layout, skip=True)) == 1
  write(tmp_path, "gt/train/s1/seg_a.tif")
  with pytest.raises(UserError, match="second file for 'a'"):
    found(tmp_path, layout=layout)
  with pytest.raises(UserError, match=r"no images like .*image_files"):
    found(tmp_path, "test", layout=layout)


def test_names_are_compared_as_letters_and_not_as_bytes(tmp_path):
  write(tmp_path, "train/e\u0301.png", "trainannot/\xe9.png")
  assert found(tmp_path) == [("train/e\u0301.png", "trainannot/\xe9.png")]


@pytest.mark.parametrize(
  ("images", "masks", "words"),
  [
    ("", "", ""),
    ("{split}/*", "{split}/**/*_mask", ""),
    ("{split}/*", "", "both"),
    ("{split}/a", "{split}/*", r"one \* in"),
    ("{split}/*/*", "{split}/*", "no other"),
    ("{split}/**/x/*", "{split}/*", "no other"),
    ("{split}/*", "masks/*", "only one"),
  ],
)
def test_bad_patterns_are_told(images, masks, words):
  complaint = folders._complaint((images, masks))
  assert bool(complaint) == bool(words)
  assert re.search(words, complaint)
