"""Folders of identities and lists of pairs: right ones, and each mistake."""

import shutil
import zlib

import numpy as np
import pytest
from PIL import Image

from segsiam_jax.data.identity import checks, image_files, pair_list
from segsiam_jax.errors import UserError


def write_image(path, seed=None):
  """A small image of its own; (5, 4) pixels."""
  path.parent.mkdir(parents=True, exist_ok=True)
  rng = np.random.default_rng(
    zlib.crc32(str(path).encode()) if seed is None else seed
  )
  pixels = rng.integers(0, 256, (5, 4, 3), dtype=np.uint8)
  Image.fromarray(pixels).save(path)


@pytest.fixture
def folder(tmp_path):
  """Three people with 3, 2 and 4 images."""
  for name, count in (("ada", 3), ("bob", 2), ("eve", 4)):
    for number in range(count):
      write_image(tmp_path / "train" / name / f"{number}.png")
  return tmp_path


def test_folder(folder):
  (folder / "train/ada/notes.txt").write_text("no image")
  (folder / "train/.cache").mkdir()
  source = image_files.open_identity_folder(str(folder), "train")
  assert source.class_names == ("ada", "bob", "eve")
  np.testing.assert_array_equal(source.labels, [0, 0, 0, 1, 1, 2, 2, 2, 2])
  assert len(set(source.contents)) == len(source) == 9
  example = source[4]
  assert example["id"] == "bob/1.png" and example["label"] == 1
  expected = np.asarray(Image.open(folder / "train/bob/1.png"))
  np.testing.assert_array_equal(example["image"], expected)
  checks.check_identities(source, "train")


def test_parts_are_of_identities(folder):
  first, rest = (
    image_files.open_identity_folder(str(folder), split)
    for split in ("train[:2]", "train[2:]")
  )
  assert first.class_names == ("ada", "bob") and len(first) == 5
  assert rest.class_names == ("eve",) and len(rest) == 4
  checks.check_disjoint(first, rest)


def test_copies_are_known(folder):
  shutil.copy(folder / "train/eve/0.png", folder / "train/eve/9.png")
  source = image_files.open_identity_folder(str(folder), "train")
  assert source.ids[5] == "eve/0.png" and source.ids[9] == "eve/9.png"
  equal = np.flatnonzero(source.contents == source.contents[5])
  np.testing.assert_array_equal(equal, [5, 9])


def spoil_case(root):
  write_image(root / "train/Bob/0.png")


def spoil_encoding(root):
  # The same letter, once as one sign and once as letter and accent.
  write_image(root / "train/Ren\u00e9/0.png")
  write_image(root / "train/Rene\u0301/0.png")


def spoil_empty(root):
  for path in (root / "train/bob").iterdir():
    path.unlink()


def spoil_image(root):
  (root / "train/eve/2.png").write_bytes(b"not an image")


def spoil_flat(root):
  shutil.rmtree(root / "train")
  write_image(root / "train/a.png")


def spoil_gone(root):
  shutil.rmtree(root / "train")


@pytest.mark.parametrize(
  ("spoil", "split", "message"),
  [
    (spoil_case, "train", "train: the identities 'Bob' and 'bob' differ only"),
    (spoil_encoding, "train", "differ only by case or by how letters"),
    (
      spoil_empty,
      "train",
      "train/bob: no image files; .* or remove its folder",
    ),
    (spoil_image, "train", r"eve/2\.png: not a readable image"),
    (spoil_flat, "train", "train: holds no folders; put the images of an"),
    (
      spoil_gone,
      "train",
      "train: no such folder; config.data.dir holds a folder for",
    ),
    (None, "train[9:]", r"'train\[9:\]' selects none of 3 identities"),
  ],
)
def test_bad_folders(folder, spoil, split, message):
  if spoil is not None:
    spoil(folder)
  with pytest.raises(UserError, match=message) as caught:
    image_files.open_identity_folder(str(folder), split)
  assert "\n" not in str(caught.value)


def test_one_image_makes_no_pair(folder):
  write_image(folder / "train/zoe/0.png")
  source = image_files.open_identity_folder(str(folder), "train")
  with pytest.raises(UserError, match="identity zoe has only one image"):
    checks.check_identities(source, "train")


def test_stray_images_are_told(folder, caplog):
  write_image(folder / "train/stray.png")
  source = image_files.open_identity_folder(str(folder), "train")
  assert len(source) == 9
  assert "1 images belong to no identity" in caplog.text


PAIRS = (
  "first,second,same,fold",
  "train/ada/0.png,train/ada/1.png,1,0",
  "train/ada/1.png,train/ada/2.png,TRUE,0",
  "train/ada/0.png,train/bob/0.png,0,1",
  "train/bob/1.png,train/eve/0.png,false,1",
)


def write_pairs(folder, *lines, encoding="utf-8"):
  (folder / "test.csv").write_text("\n".join(lines) + "\n", encoding=encoding)
  return pair_list.open_pair_list(str(folder), "test")


def test_pairs(folder):
  # As a spreadsheet writes it.
  source = write_pairs(folder, *PAIRS, encoding="utf-8-sig")
  ids = np.array(source.ids)
  pairs = source.pairs
  assert ids[pairs.first].tolist() == [line.split(",")[0] for line in PAIRS[1:]]
  assert ids[pairs.second].tolist() == [
    line.split(",")[1] for line in PAIRS[1:]
  ]
  assert pairs.same.tolist() == [True, True, False, False]
  assert pairs.fold.tolist() == [0, 0, 1, 1]
  # ada's three are one identity by two pairs; the others are on their own.
  ada = source.labels[[name.startswith("train/ada") for name in ids]]
  assert len(ada) == 3 and len(set(ada)) == 1
  assert len(source.class_names) == 4 == len(set(source.labels))
  assert source[0]["id"] == ids[0]


def test_folds_and_other_columns_may_be_left_out_or_in(folder):
  lines = [", ".join(["by", *line.split(",")[:3]]) for line in PAIRS]
  source = write_pairs(folder, *lines)
  assert source.pairs.same.tolist() == [True, True, False, False]
  assert not source.pairs.fold.any()


def replaced(line, old, new):
  lines = list(PAIRS)
  lines[line] = lines[line].replace(old, new)
  return lines


@pytest.mark.parametrize(
  ("lines", "message"),
  [
    (replaced(0, "same", "label"), "line 1: expected the columns first,second"),
    (replaced(0, ",", ";"), "line 1: expected the columns first,second,same"),
    (replaced(2, "ada/1", "ada/7"), "line 3: no image 'train/ada/7.png' in"),
    (replaced(2, "TRUE", "yes"), "line 3: same = 'yes'; expected 1"),
    (replaced(2, ",0", ",x"), "line 3: fold = 'x'; expected 0, 1, 2"),
    (replaced(2, ",0", "," + "9" * 19), "line 3: fold = '9999999999999999999'"),
    (
      replaced(1, "ada/1", "ada/0"),
      "line 2: .*ada/0.png is paired with itself",
    ),
    (replaced(3, "bob/0", "ada/2"), "line 4: .* said to differ, but other"),
    (PAIRS[:1], "no pairs below its first line"),
    ((), "line 1: expected the columns"),
  ],
)
def test_bad_pairs(folder, lines, message):
  with pytest.raises(UserError, match=rf"test\.csv.*{message}") as caught:
    write_pairs(folder, *lines)
  assert "\n" not in str(caught.value)


def test_pairs_are_not_cut(folder):
  with pytest.raises(UserError, match="write two CSV files"):
    pair_list.open_pair_list(str(folder), "test[:50%]")
  with pytest.raises(UserError, match=r"test\.csv: no such file; write a CSV"):
    pair_list.open_pair_list(str(folder), "test")
