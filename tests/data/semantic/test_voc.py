"""Pascal VOC's folder, written as its archives have it."""

import numpy as np
import pytest
from PIL import Image

from segsiam_jax import inputs
from segsiam_jax.config import default_config, validate
from segsiam_jax.data.semantic import voc
from segsiam_jax.errors import UserError


@pytest.fixture
def root(tmp_path):
  folder = tmp_path / "VOCdevkit" / "VOC2012"
  for name in ("ImageSets/Segmentation", "JPEGImages", "SegmentationClass"):
    (folder / name).mkdir(parents=True)
  lists = {"train": ["2007_000032", "2007_000039"], "val": ["2007_000033"]}
  for split, names in lists.items():
    text = "".join(f"{name}\n" for name in names)
    (folder / f"ImageSets/Segmentation/{split}.txt").write_text(text)
    for name in names:
      mask = np.zeros((20, 30), np.uint8)
      mask[5:10, 5:10] = 15
      mask[10] = 255
      label = Image.fromarray(mask).convert("P")
      label.putpalette([value % 256 for value in range(768)])
      label.save(folder / f"SegmentationClass/{name}.png")
      image = Image.fromarray(np.full((20, 30, 3), 90, np.uint8))
      image.save(folder / f"JPEGImages/{name}.jpg")
  return folder


def test_splits_are_lists_of_names(root):
  config = default_config("semantic", "fcn")
  config.data.update(
    name="voc", dir=str(root), train_split="train", eval_split="val"
  )
  validate(config)
  source = inputs.open_inputs(config, train=True).source
  assert source.ids == ("2007_000032.jpg", "2007_000039.jpg")
  assert source.class_names[15] == "person" and len(source.class_names) == 21
  label = source[0]["label"]
  assert (label == 15).sum() == 25 and (label == 255).sum() == 30
  assert source.pixels[0] == 2 * (20 * 30 - 25 - 30)
  assert len(voc.open_voc(str(root), "train[1:]", False)) == 1
  assert len(inputs.open_inputs(config, train=False).source) == 1


def test_what_is_missing_is_named(root):
  with pytest.raises(UserError, match="VOCdevkit/VOC2012"):
    voc.open_voc(str(root.parent), "train", False)
  with pytest.raises(UserError, match="there are train, val"):
    voc.open_voc(str(root), "test", False)
  (root / "SegmentationClass/2007_000032.png").unlink()
  with pytest.raises(UserError, match=r"2007_000032\.png: no such file.*skip"):
    voc.open_voc(str(root), "train", False)
  assert len(voc.open_voc(str(root), "train", True)) == 1
