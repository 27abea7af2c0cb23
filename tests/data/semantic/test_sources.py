"""Folders: what is right is read, what is wrong is named in one line."""

import shutil

import numpy as np
import pytest
from PIL import Image

from segsiam_jax.data import images
from segsiam_jax.data.semantic import sources
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
  return sources.open_source(
    "folder", split, str(root), sources.FolderOptions(**options)
  )


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


def _whiten(folder, count):
  paths = sorted((folder / "train/masks").iterdir())
  for path in paths[:count]:
    Image.fromarray(np.asarray(Image.open(path)) * 255).save(path)
  return paths


@pytest.mark.parametrize("names", [CLASSES, (*CLASSES, "ring")])
@pytest.mark.parametrize("count", [12, 11, 6])
def test_most_masks_are_black_and_white(folder, names, count):
  first = _whiten(folder, count)[0]
  with pytest.raises(
    UserError, match=f"{first}.*255 means 'ignore'.* {count} of 12 masks"
  ):
    open_folder(folder, class_names=names)
  # Who says which values there are knows what 255 is.
  values = tuple(range(len(names)))
  source = open_folder(folder, class_names=names, label_values=values)
  assert set(np.unique(source[0]["label"])) == {0, 255}


def test_a_few_masks_are_black_and_white(folder, caplog):
  first = _whiten(folder, 1)[0]
  open_folder(folder)
  (message,) = caplog.messages
  assert str(first) in message and "1 of 12 masks" in message
  caplog.clear()
  open_folder(folder, "test")
  assert not caplog.messages


@pytest.mark.parametrize("value", [-1, 3_000_000_000, 2**32 + 5])
def test_ids_that_do_not_fit_are_no_others(tmp_path, value):
  label = np.array([[0, 1], [value, 1]], np.int64)
  np.save(tmp_path / "a.npy", label)
  with pytest.raises(UserError, match=rf"a.npy: mask values .*{value}"):
    images.read_instances(tmp_path / "a.npy")
  with pytest.raises(UserError, match=rf"a.npy: mask values .*{value}"):
    images.read_label(tmp_path / "a.npy")
  for kind in (np.uint64, np.uint32):
    label = np.array([[0, 1], [2**31 - 1, 1]], kind)
    np.save(tmp_path / "b.npy", label)
    assert images.read_instances(tmp_path / "b.npy").max() == 2**31 - 1


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


def test_a_folder_without_splits_is_divided(folder):
  train, test = (
    open_folder(folder / "train", split) for split in ("train", "test")
  )
  assert len(train) == 10 and len(test) == 2
  assert not set(train.ids) & set(test.ids)


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
  with pytest.raises(ValueError, match="cannot convert [0-9]+ channels to 3"):
    images.to_channels(np.zeros((2, 2, 5), np.uint8), 3)
  assert images.resize_image(color, (3, 8)).shape == (3, 8, 3)
  label = rng.integers(0, 2, (6, 4), dtype=np.uint8)
  assert set(np.unique(images.resize_label(label, (13, 9)))) <= {0, 1}


def write_volumes(root, dtype=np.uint8, suffix=".tif"):
  random = np.random.default_rng(0)
  for split, count in (("train", 3), ("test", 1)):
    for kind in ("images", "masks"):
      (root / split / kind).mkdir(parents=True)
    for index in range(count):
      highest = np.iinfo(dtype).max
      volume = random.integers(0, highest, (6, 20, 24), dtype)
      label = (volume > highest // 2).astype(np.uint8)
      for kind, array in (("images", volume), ("masks", label)):
        path = root / split / kind / f"{index}{suffix}"
        if suffix == ".npy":
          np.save(path, array)
        else:
          pages = [Image.fromarray(page) for page in array]
          pages[0].save(path, save_all=True, append_images=pages[1:])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("suffix", [".tif", ".npy"])
def test_folders_of_volumes(tmp_path, dtype, suffix):
  write_volumes(tmp_path, dtype, suffix)
  wanted = images.ImageFormat(channels=1, dtype=np.dtype(dtype).name, rank=3)
  source = open_folder(tmp_path, image_format=wanted)
  assert len(source) == 3
  example = source[1]
  assert example["image"].shape == (6, 20, 24, 1)
  assert example["image"].dtype == dtype
  assert example["label"].shape == (6, 20, 24)
  half = np.iinfo(dtype).max // 2
  np.testing.assert_array_equal(
    example["label"], example["image"][..., 0] > half
  )


def test_formats_are_checked_when_a_folder_is_opened(folder, tmp_path):
  write_volumes(tmp_path / "v")
  for wanted, root, words in (
    (
      images.ImageFormat(dtype="uint16"),
      folder,
      r"000\.png: 8 bits per",
    ),
    (images.ImageFormat(channels=2), folder, r"000\.png: .* channels to 2"),
    (images.ImageFormat(), tmp_path / "v", r"masks/0\.tif: .* 6 channels"),
  ):
    with pytest.raises(UserError, match=words):
      open_folder(root, image_format=wanted)
  volumes = images.ImageFormat(channels=1, rank=3)
  np.save(tmp_path / "v/train/masks/0.npy", np.zeros((5, 20, 24), np.uint8))
  (tmp_path / "v/train/masks/0.tif").unlink()
  with pytest.raises(
    UserError,
    match=r"5x20x24, but its image 0\.tif is 6x20x24 \(depth x height x width",
  ):
    open_folder(tmp_path / "v", image_format=volumes)
