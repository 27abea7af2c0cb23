"""`--mode=check` on damaged copies: each problem is named, none is invented."""

import shutil

import numpy as np
import pytest
from PIL import Image

from configs import instance, semantic, siamese
from segsiam_jax.config import validate
from segsiam_jax.inputs import checkup
from tests.cells import write_cells


def save(path, array, dtype=np.uint8):
  Image.fromarray(np.asarray(array, dtype)).save(path)


def half(path):
  content = path.read_bytes()
  path.write_bytes(content[: len(content) // 2])


def change(path, function):
  with Image.open(path) as image:
    save(path, function(np.array(image)))


def stray(mask):
  mask[0, 0] = 77
  return mask


def colours(mask):
  return np.stack([100 * mask, mask, mask], axis=-1)


SEMANTIC = {
  "truncated image": (
    lambda d: half(d / "train/images/003.png"),
    ("unusable", "train/images/003.png: not a readable image", True),
  ),
  "empty file": (
    lambda d: (d / "test/images/003.png").write_bytes(b""),
    ("unusable", "test/images/003.png: not a readable image", True),
  ),
  "text as a mask": (
    lambda d: (d / "train/masks/004.png").write_text("mask"),
    ("unusable", "train/masks/004.png: not a readable mask", True),
  ),
  "another size": (
    lambda d: change(d / "train/masks/004.png", lambda mask: mask[:9]),
    ("unusable", "004.png: the mask is 9x32, but its image 004.png", True),
  ),
  "colours": (
    lambda d: change(d / "train/masks/004.png", colours),
    ("unusable", "004.png: a mask holds one number per pixel", True),
  ),
  "16 bits": (
    lambda d: save(d / "train/images/005.png", np.full((32, 32), 999), "<u2"),
    ("unusable", "train/images/005.png: 16 bits", True),
  ),
  "no mask": (
    lambda d: (d / "test/masks/001.png").unlink(),
    ("unusable", "test/images/001.png: nothing of its name", True),
  ),
  "no image": (
    lambda d: (d / "train/images/001.png").unlink(),
    ("suspicious", "train/masks/001.png: a mask without an image", False),
  ),
  "no foreground": (
    lambda d: change(d / "train/masks/002.png", np.zeros_like),
    ("suspicious", "train/masks/002.png: all pixels are class 0", False),
  ),
  "copy": (
    lambda d: shutil.copy(
      d / "train/images/000.png", d / "train/images/001.png"
    ),
    ("copies in a split", "train/images/001.png", False),
  ),
  "copy across": (
    lambda d: shutil.copy(
      d / "train/images/000.png", d / "test/images/000.png"
    ),
    ("copies in both splits", "test/images/000.png", False),
  ),
  "two of a name": (
    lambda d: shutil.copy(
      d / "train/images/000.png", d / "train/images/000.tif"
    ),
    ("copies in a split", "train/images/000.tif", False),
  ),
  "one image in both splits": (
    lambda d: (
      (d / "test/images/004.png").unlink(),
      (d / "test/images/004.png").symlink_to(d / "train/images/003.png"),
    ),
    ("splits that overlap", "train/images/003.png", True),
  ),
  "no evaluation split": (
    lambda d: shutil.rmtree(d / "test"),
    ("cannot be opened", "test/images", True),
  ),
}

INSTANCE = {
  "truncated labels": (
    lambda d: half(d / "train/labels/000.png"),
    ("unusable", "train/labels/000.png: not a readable mask", True),
  ),
  "another size": (
    lambda d: change(d / "train/labels/001.png", lambda label: label[:-3]),
    ("unusable", "train/labels/001.png: the mask is", True),
  ),
  "no object": (
    lambda d: change(d / "test/labels/001.png", np.zeros_like),
    ("suspicious", "test/images/001.png", False),
  ),
}

SIAMESE = {
  "unreadable": (
    lambda d: (d / "b/1.png").write_text("face"),
    ("unusable", "b/1.png: not a readable image", True),
  ),
  "copy": (
    lambda d: shutil.copy(d / "a/1.png", d / "c/0.png"),
    ("copies in a split", "a/1.png", False),
  ),
  "case": (
    lambda d: shutil.copytree(d / "a", d / "A"),
    ("cannot be opened", "'A' and 'a' differ only by case", True),
  ),
}


def named(table):
  return [pytest.param(*values, id=name) for name, values in table.items()]


def examine(module, root, argument, **data):
  config = module.get_config(argument)
  config.data.update(dir=str(root), **data)
  validate(config)
  found = checkup.check(
    config, str(root / "run"), lambda what, count: lambda: None
  )
  return found.findings


def assert_named(findings, expected):
  kind, what, fatal = expected
  [finding] = [each for each in findings if each.kind != "cannot be planned"]
  assert (finding.kind, finding.fatal) == (kind, fatal), finding
  assert what in finding.what
  # What is chosen by the data may not be possible, for the same reason.
  file = what.partition(":")[0]
  assert all(file in each.what for each in findings)


@pytest.fixture
def blobs_copy(blobs, tmp_path):
  shutil.copytree(blobs, tmp_path / "data")
  return tmp_path / "data"


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
  root = tmp_path_factory.mktemp("cells")
  for split, seed in (("train", 0), ("test", 1)):
    write_cells(root / split, 4, seed)
  return root


@pytest.mark.parametrize(("spoil", "expected"), named(SEMANTIC))
def test_of_semantic_segmentation(blobs_copy, spoil, expected):
  spoil(blobs_copy)
  assert_named(
    examine(semantic, blobs_copy, "unet,encoder=plain,depth=2"), expected
  )


@pytest.mark.parametrize(("spoil", "expected"), named(INSTANCE))
def test_of_objects(cells, tmp_path, spoil, expected):
  root = tmp_path / "data"
  shutil.copytree(cells, root)
  # The last image of each split has no object.
  before = {each.what for each in examine(instance, root, "")}
  spoil(root)
  found = examine(instance, root, "")
  assert_named([each for each in found if each.what not in before], expected)


@pytest.mark.parametrize(("spoil", "expected"), named(SIAMESE))
def test_of_identities(tmp_path, rng, spoil, expected):
  root = tmp_path / "data"
  for person in "abcdefghijkl":
    (root / person).mkdir(parents=True)
    for number in range(4):
      save(root / person / f"{number}.png", rng.integers(0, 256, (32, 32)))
  assert examine(siamese, root, "") == []
  spoil(root)
  assert_named(examine(siamese, root, ""), expected)
