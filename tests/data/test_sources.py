"""Folders: what is right is read, what is wrong is named in one line."""

import shutil

import numpy as np
import pytest
from PIL import Image

from segsiam_jax.data import images, sources
from segsiam_jax.errors import UserError

CLASSES = ("background", "disc")


@pytest.fixture
def folder(blobs, tmp_path):
  """A copy of the blobs that a test may spoil."""
  root = tmp_path / "data"
  shutil.copytree(blobs, root)
  return root


def open_folder(root, split="train", **options):
  options = {"class_names": CLASSES} | options
  return sources.open_source("folder", split, data_dir=str(root), **options)


def test_reads_pairs_in_order(folder):
  source = open_folder(folder)
  assert len(source) == 12
  example = source[3]
  assert example["image"].shape == (32, 32, 3)
  assert set(np.unique(example["label"])) == {0, 1}
  expected = np.asarray(Image.open(folder / "train/masks/003.png"))
  np.testing.assert_array_equal(example["label"], expected)


@pytest.mark.parametrize(
  ("split", "first", "count"),
  [
    ("train[:4]", 0, 4),
    ("train[4:]", 4, 8),
    ("train[:25%]", 0, 3),
    ("train[75%:]", 9, 3),
    ("train[-2:]", 10, 2),
  ],
)
def test_parts_of_a_split(folder, split, first, count):
  source = open_folder(folder, split)
  assert len(source) == count
  assert source.paths[0][0].stem == f"{first:03d}"


def test_black_and_white_masks_by_value(folder):
  for path in (folder / "train/masks").iterdir():
    Image.fromarray(np.asarray(Image.open(path)) * 255).save(path)
  with pytest.raises(UserError, match="255 means 'ignore'.*label_values"):
    open_folder(folder)
  source = open_folder(folder, label_values=(0, 255))
  assert set(np.unique(source[0]["label"])) == {0, 1}


def test_palette_masks_keep_their_indices(folder):
  path = folder / "train/masks/000.png"
  label = np.asarray(Image.open(path))
  image = Image.fromarray(label)
  image.putpalette([9, 9, 9, 200, 0, 0])
  image.save(path)
  np.testing.assert_array_equal(open_folder(folder)[0]["label"], label)


def spoil_missing(root):
  (root / "train/masks/004.png").unlink()


def spoil_size(root):
  path = root / "train/masks/004.png"
  Image.open(path).resize((16, 20)).save(path)


def spoil_range(root):
  Image.new("L", (32, 32), 7).save(root / "train/masks/004.png")


def spoil_mask_bytes(root):
  path = root / "train/masks/004.png"
  path.write_bytes(path.read_bytes()[:40])


def spoil_image_bytes(root):
  path = root / "train/images/004.png"
  path.write_bytes(path.read_bytes()[:400])


def spoil_color(root):
  Image.new("RGB", (32, 32)).save(root / "train/masks/004.png")


def spoil_empty(root):
  for path in (root / "train/images").iterdir():
    path.unlink()


def spoil_no_split(root):
  shutil.rmtree(root / "train")


def spoil_two_masks(root):
  Image.new("L", (32, 32)).save(root / "train/masks/004.bmp")


@pytest.mark.parametrize(
  ("spoil", "message"),
  [
    (spoil_missing, r"masks: no mask for 1 of 12 images, the first 004\.png"),
    (spoil_size, r"masks/004\.png: the mask is 20x16, but its image 004\.png"),
    (spoil_range, r"masks/004\.png: label values 7 are outside \[0, 2\)"),
    (spoil_mask_bytes, r"masks/004\.png: not a readable mask"),
    (spoil_image_bytes, r"images/004\.png: not a readable image"),
    (spoil_color, r"masks/004\.png: .*has 3 channels"),
    (spoil_empty, r"train/images: no image files"),
    (spoil_no_split, r"train/images: no such folder"),
    (spoil_two_masks, r"a second mask for '004'"),
  ],
)
def test_bad_folders_are_named(folder, spoil, message):
  spoil(folder)
  with pytest.raises(UserError, match=message) as caught:
    open_folder(folder)
  assert "\n" not in str(caught.value)


def test_forgotten_split_folder_is_explained(folder):
  with pytest.raises(UserError, match=r"so set config\.data\.dir="):
    open_folder(folder / "train")


def test_split_syntax_and_empty_parts(folder):
  with pytest.raises(UserError, match="write it as NAME"):
    open_folder(folder, "train[1")
  with pytest.raises(UserError, match="selects no images"):
    open_folder(folder, "train[50:]")


def test_unlisted_value(folder):
  with pytest.raises(UserError, match=r"values 1 are not in .*label_values"):
    open_folder(folder, label_values=(0, 9))


def test_channels_and_sizes(rng):
  color = rng.integers(0, 256, (6, 4, 3), dtype=np.uint8)
  grey = images.to_channels(color, 1)
  assert grey.shape == (6, 4, 1)
  np.testing.assert_allclose(
    grey[..., 0], color @ [0.299, 0.587, 0.114], atol=1
  )
  assert images.to_channels(grey, 3).shape == (6, 4, 3)
  with pytest.raises(ValueError, match="cannot make 3 channels"):
    images.to_channels(np.zeros((2, 2, 5), np.uint8), 3)
  assert images.resize_image(color, (3, 8)).shape == (3, 8, 3)
  label = rng.integers(0, 2, (6, 4), dtype=np.uint8)
  assert set(np.unique(images.resize_label(label, (13, 9)))) <= {0, 1}
