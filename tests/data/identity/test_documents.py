"""Pages, their scans and photographs, and which belongs to which."""

import io

import numpy as np
import pytest
from PIL import Image

from segsiam_jax.data.builders import documents as builder
from segsiam_jax.data.builders import pages, scans
from segsiam_jax.data.identity import documents, sets
from segsiam_jax.errors import UserError


def family(seed, count):
  style = pages.draw_style(np.random.default_rng(seed))
  return style, [
    pages.draw_page(style, np.random.default_rng((seed, page)))
    for page in range(count)
  ]


def decode(file):
  return np.asarray(Image.open(io.BytesIO(file)))


def test_pages_are_ink_on_paper_and_follow_from_their_seed():
  _, drawn = family(3, 2)
  for page in drawn:
    assert page.shape == (320, 226) and page.dtype == np.uint8
    assert np.median(page) == 255
    assert 0.02 < (page < 128).mean() < 0.4
  _, again = family(3, 2)
  np.testing.assert_array_equal(drawn, again)


def test_a_family_shares_its_letterhead_alone():
  seed = next(
    seed
    for seed in range(20)
    if pages.draw_style(np.random.default_rng(seed)).letterhead
  )
  style, drawn = family(seed, 4)
  differs = np.any([page != drawn[0] for page in drawn[1:]], axis=0)
  rows = np.flatnonzero(differs.any(axis=1))
  # All of the head is the same, with ink in it; below, text differs.
  head = drawn[0][: rows[0]]
  assert rows[0] > style.margin and (head < 128).sum() > 50
  assert differs[rows[0] :].mean() > 0.05


def test_text_keeps_to_the_page():
  for seed in range(6):
    style, drawn = family(seed, 1)
    edge = drawn[0][:, -max(2, style.margin // 3) :]
    assert (edge == 255).all()


@pytest.mark.parametrize("degrade", [scans.scan, scans.photograph])
def test_copies_look_like_their_page(degrade):
  originals = [family(seed, 1)[1][0] for seed in range(12)]

  def small(page):
    image = Image.fromarray(page).resize((28, 40), Image.Resampling.BOX)
    pixels = np.asarray(image, float)
    return (pixels - pixels.mean()) / pixels.std()

  right = 0
  for number, page in enumerate(originals):
    file = degrade(page, np.random.default_rng(number))
    assert file == degrade(page, np.random.default_rng(number))
    assert file != degrade(page, np.random.default_rng(number + 100))
    copy = decode(file)
    assert copy.shape == page.shape and np.abs(copy - page.astype(int)).any()
    best = np.argmax(
      [(small(copy) * small(other)).mean() for other in originals]
    )
    right += best == number
  # By chance one of twelve; a table around the page misleads pixels.
  assert right >= 5


def test_the_perspective_sends_corners_to_corners():
  seen = np.array([[10.0, 5.0], [200.0, 20.0], [210.0, 300.0], [4.0, 290.0]])
  source = np.array([[0.0, 0.0], [226.0, 0.0], [226.0, 320.0], [0.0, 320.0]])
  a, b, c, d, e, f, g, h = scans._perspective(seen, source)
  for (x, y), want in zip(seen, source, strict=True):
    scale = g * x + h * y + 1
    got = (a * x + b * y + c) / scale, (d * x + e * y + f) / scale
    np.testing.assert_allclose(got, want, atol=1e-6)


def test_trials_look_for_copies_among_originals():
  labels = np.array([2, 2, 0, 0, 0, 1, 1, 3])
  original = np.array([1, 0, 0, 1, 0, 0, 1, 1], bool)
  trials = documents.matching_trials(labels, original)
  assert trials.query.tolist() == [1, 2, 4, 5]
  np.testing.assert_array_equal(trials.support[:, :, 0], [[3, 6, 0, 7]] * 4)
  assert trials.answer.tolist() == [2, 0, 0, 1]
  np.testing.assert_array_equal(
    labels[trials.support[np.arange(4), trials.answer, 0]],
    labels[trials.query],
  )
  pairs = documents.matching_trials(labels, original, ways=3)
  # The fourth fills no set of three.
  assert set(pairs.episode) == {0} and pairs.support.shape == (4, 3, 1)
  assert documents.matching_trials(labels, np.ones(8, bool)) is None


def test_prepared_and_read(tmp_path, monkeypatch):
  monkeypatch.setattr(builder, "FAMILIES", {"train": 1, "test": 2})
  source = sets.open_identities("documents", "test", str(tmp_path))
  assert len(source) == 2 * 4 * 5 and len(source.class_names) == 8
  np.testing.assert_array_equal(source.labels, np.repeat(np.arange(8), 5))
  np.testing.assert_array_equal(source.groups, np.repeat([0, 1], 20))
  assert source.episodes.support.shape == (32, 8, 1)
  assert set(source.episodes.support[0, :, 0]) == set(range(0, 40, 5))
  assert set(source.episodes.query % 5) == {1, 2, 3, 4}
  example = source[6]
  assert example["image"].shape == (320, 226, 1)
  assert example["label"] == 1 and example["group"] == 0
  # Another split has other pages.
  other = sets.open_identities("documents", "train", str(tmp_path))
  assert not set(other.class_names) & set(source.class_names)
  assert (other[0]["image"] != source[0]["image"]).any()


@pytest.fixture
def real(tmp_path):
  """RVL-CDIP's layout, and a plain folder of pages."""
  lines = []
  for number in range(4):
    name = f"imagesa/a/a/a/aaa{number}/50{number}.tif"
    for path in (tmp_path / "images" / name, tmp_path / f"own/x/{number}.png"):
      path.parent.mkdir(parents=True, exist_ok=True)
      page = family(number, 1)[1][0]
      Image.fromarray(page).resize((400, 500)).save(path)
    lines.append(f"{name} {number % 2}")
  (tmp_path / "labels").mkdir()
  (tmp_path / "labels/train.txt").write_text("\n".join(lines) + "\n")
  return tmp_path


@pytest.mark.parametrize("split", ["train", "own"])
def test_real_pages(real, split):
  source = sets.open_identities("pages", split, str(real))
  assert len(source) == 20 and len(source.class_names) == 4
  assert source.episodes.support.shape == (16, 4, 1)
  assert source[5]["image"].shape == (500, 400, 1)
  assert source[7]["image"].shape == (320, 226, 1)
  assert source[7]["label"] == source.labels[7] == 1
  np.testing.assert_array_equal(source[7]["image"], source[7]["image"])
  assert (source[7]["image"] != source[6]["image"]).any()
  part = sets.open_identities("pages", f"{split}[1:]", str(real))
  assert part.class_names == source.class_names[1:]


def test_missing_pages_are_named(real):
  open_pages = sets.open_identities
  with pytest.raises(UserError, match=r"test: no such folder, and no .*test\."):
    open_pages("pages", "test", str(real))
  with pytest.raises(UserError, match="selects no pages"):
    open_pages("pages", "own[9:]", str(real))
  (real / "images/imagesa/a/a/a/aaa2/502.tif").unlink()
  with pytest.raises(UserError, match=r"train\.txt, line 3: no image"):
    open_pages("pages", "train", str(real))
