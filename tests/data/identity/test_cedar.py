"""CEDAR's layout on a fake of four writers."""

import numpy as np
import pytest
from PIL import Image

from segsiam_jax.data.identity import cedar, checks, identities, sampling
from segsiam_jax.errors import UserError

WRITERS, COUNT = 12, 4


@pytest.fixture
def root(tmp_path):
  for folder, kind in (("full_org", "original"), ("full_forg", "forgeries")):
    (tmp_path / folder).mkdir()
    for writer in range(1, WRITERS + 1):
      for number in range(1, COUNT + 1):
        pixels = np.full((6, 9 + number), 10 * writer + number, np.uint8)
        pixels[0] = folder == "full_org"
        path = tmp_path / folder / f"{kind}_{writer}_{number}.png"
        Image.fromarray(pixels).save(path)
  # What the archive holds besides.
  (tmp_path / "full_org/Thumbs.db").write_bytes(b"")
  return tmp_path


def writer_of(name):
  return int(name.split("_")[-2])


def test_pairs_of_three_kinds(root):
  source = cedar.open_cedar(str(root), "all")
  assert len(source) == 2 * WRITERS * COUNT
  pairs = source.pairs
  assert pairs.kinds == ("genuine", "random", "skilled")
  assert np.bincount(pairs.kind).tolist() == [WRITERS * 6] * 3
  for first, second, same, kind in zip(
    pairs.first, pairs.second, pairs.same, pairs.kind, strict=True
  ):
    one, other = source.ids[first], source.ids[second]
    own = writer_of(one) == writer_of(other)
    assert "original" in one and first != second
    assert same == (kind == 0)
    assert own == (kind != 1)
    assert ("forgeries" in other) == (kind == 2)
    assert (source.labels[first] == source.labels[second]) == same
  # None twice.
  rows = {tuple(row) for row in zip(pairs.first, pairs.second, strict=True)}
  assert len(rows) == len(pairs.same)


def test_writers_are_in_the_order_of_their_numbers(root):
  source = cedar.open_cedar(str(root), "all")
  # 10 comes after 9, not after 1.
  assert source.class_names[8:11] == ("writer 9", "writer 10", "writer 11")
  example = source[9 * COUNT + 1]
  assert example["id"] == "full_org/original_10_2.png"
  assert example["label"] == example["group"] == 9
  # The row of ink; what is lighter is paper.
  assert (example["image"][0] == 254).all()
  assert (example["image"][1:] == 0).all()


def test_folds_are_of_writers(root):
  source = cedar.open_cedar(str(root), "all")
  pairs = source.pairs
  for fold in range(10):
    claimed = source.groups[pairs.first[pairs.fold == fold]]
    assert set(claimed % 10) == {fold}


def test_forgeries_are_like_nothing_else(root):
  source = cedar.open_cedar(str(root), "all")
  counts = np.bincount(source.labels)
  forged = np.array(["forgeries" in name for name in source.ids])
  assert (counts[source.labels[forged]] == 1).all()
  assert (counts[source.labels[~forged]] == COUNT).all()
  index = identities.Index.of(source)
  rng = np.random.default_rng(0)
  for _ in range(20):
    other = index.draw_other_identity(0, rng, within_group=True)
    assert source.ids[other].startswith("full_forg/forgeries_1_")


def test_training_pairs_are_genuine_or_skilled(root):
  source = cedar.open_cedar(str(root), "all")
  checks.check_identities(source, "train", singles=True)
  plan = sampling.make_plan(
    identities.Index.of(source),
    sampling.Sampling("pairs", batch_size=16, within_group=True),
  )
  kinds = set()
  for number in range(5):
    batch = plan[number]
    for first, second in zip(batch["image"], batch["other"], strict=True):
      one, other = source.ids[first], source.ids[second]
      assert "original" in one and writer_of(one) == writer_of(other)
      kinds.add("forgeries" in other)
      assert (source.labels[first] == source.labels[second]) == (
        "original" in other
      )
  assert kinds == {True, False}


def test_writer_disjoint_splits(root):
  train = cedar.open_cedar(str(root), "genuine[writers=:9]")
  test = cedar.open_cedar(str(root), "all[writers=9:]")
  checks.check_disjoint(train, test)
  checks.check_identities(train, "train")
  assert train.pairs is None and len(train) == 9 * COUNT
  assert {writer_of(name) for name in test.ids} == {10, 11, 12}
  assert set(test.pairs.fold) == {0, 1, 2}


def test_the_archive_s_own_folder(root, tmp_path):
  inner = tmp_path / "outer/signatures"
  inner.mkdir(parents=True)
  for name in ("full_org", "full_forg"):
    (root / name).rename(inner / name)
  assert len(cedar.open_cedar(str(tmp_path / "outer"), "all")) == len(
    cedar.open_cedar(str(inner), "all")
  )


def spoil_folder(root):
  (root / "full_forg").rename(root / "forged")


def spoil_writer(root):
  for path in (root / "full_forg").glob("forgeries_3_*"):
    path.unlink()


def spoil_names(root):
  for path in (root / "full_org").glob("*.png"):
    path.rename(path.with_name(path.name.replace("original", "real")))


def spoil_image(root):
  (root / "full_org/original_3_2.png").write_bytes(b"")


@pytest.mark.parametrize(
  ("spoil", "split", "message"),
  [
    (spoil_folder, "all", "full_forg: no such folder; CEDAR's signatures lie"),
    (spoil_writer, "all", "writer 3 has 4 genuine and 0 forged signatures"),
    (spoil_names, "all", "full_org: no images named original_1_1.png"),
    (spoil_image, "all", r"original_3_2\.png: not a readable image"),
    (None, "train", "CEDAR has 'all' and 'genuine'"),
    (None, "all[writers=11:]", "selects 1 of 12 writers"),
    (None, "all[:3]", r"write it as NAME or NAME\[writers=a:b\]"),
  ],
)
def test_bad_input(root, spoil, split, message):
  if spoil is not None:
    spoil(root)
  with pytest.raises(UserError, match=message) as caught:
    cedar.open_cedar(str(root), split)
  assert "\n" not in str(caught.value)


def test_ink_is_bright_on_nothing(rng):
  paper = rng.normal(225, 5, (40, 60)).clip(0, 255)
  scan = paper.copy()
  scan[10:14, 5:50] = rng.normal(60, 15, (4, 45)).clip(0, 140)
  scan = scan.astype(np.uint8)
  found = cedar.ink(scan[..., None])
  assert found.shape == (40, 60, 1)
  written = np.zeros((40, 60), bool)
  written[10:14, 5:50] = True
  assert (found[~written] == 0).all()
  np.testing.assert_array_equal(found[written, 0], 255 - scan[written])
  # Another scanner's paper leaves no trace.
  darker = np.where(written, scan, scan - 40).astype(np.uint8)
  np.testing.assert_array_equal(cedar.ink(darker[..., None]), found)
  assert cedar.ink(np.full((4, 4, 3), 250, np.uint8)).shape == (4, 4, 1)
