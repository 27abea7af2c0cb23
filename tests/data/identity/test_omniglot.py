"""Omniglot: fakes of the zips' real layout, and the zips where they are.

SEGSIAM_JAX_DATA names a folder with omniglot/images_background_small1.zip,
omniglot/one_shot_runs/ and so on.
"""

import os
import pathlib
import pickle
import zipfile

import numpy as np
import pytest

from segsiam_jax.data.identity import checks, identities, omniglot
from segsiam_jax.errors import UserError
from tests.data.identity.omniglot_files import bit_png, drawing, write_runs

ALPHABETS = {"Braille": 2, "Angelic": 1, "Greek": 3}
DRAWERS = 4


def character_files():
  """Zip name -> number of the drawing, folders included, as in the zips."""
  number, files = 0, {}
  for alphabet, characters in ALPHABETS.items():
    files[f"images_background_small1/{alphabet}/"] = None
    for character in range(1, characters + 1):
      folder = f"images_background_small1/{alphabet}/character{character:02d}"
      for drawer in range(1, DRAWERS + 1):
        number += 1
        files[f"{folder}/{number:04d}_{drawer:02d}.png"] = number
  return files


def write_zip(path, files):
  with zipfile.ZipFile(path, "w") as archive:
    for name, number in files.items():
      content = b"" if number is None else number
      if isinstance(number, int):
        content = drawing(number)[0]
      archive.writestr(name, content)


@pytest.fixture
def folder(tmp_path):
  write_zip(tmp_path / "images_background_small1.zip", character_files())
  return tmp_path


def test_layout(folder):
  source = omniglot.open_omniglot(folder, "small1")
  assert len(source) == sum(ALPHABETS.values()) * DRAWERS
  assert source.alphabets == ("Angelic", "Braille", "Greek")
  assert source.class_names == (
    "Angelic/character01",
    "Braille/character01",
    "Braille/character02",
    "Greek/character01",
    "Greek/character02",
    "Greek/character03",
  )
  np.testing.assert_array_equal(source.labels, np.repeat(np.arange(6), 4))
  np.testing.assert_array_equal(source.groups, np.repeat([0, 1, 1, 2, 2, 2], 4))
  np.testing.assert_array_equal(source.drawers, np.tile([1, 2, 3, 4], 6))
  checks.check_identities(source, "small1")


def test_ink_is_white(folder):
  source = omniglot.open_omniglot(folder, "small1")
  files = {
    name.partition("/")[2].removesuffix(".png"): number
    for name, number in character_files().items()
  }
  for index in (0, 5, 23):
    example = source[index]
    ink = drawing(files[example["id"]])[1]
    assert example["image"].dtype == np.uint8
    np.testing.assert_array_equal(example["image"][..., 0], ink * 255)
    assert example["label"] == source.labels[index]
    assert example["group"] == source.groups[index]


@pytest.mark.parametrize(
  ("split", "alphabets", "drawers"),
  [
    ("small1[alphabets=:2]", {"Angelic", "Braille"}, {1, 2, 3, 4}),
    ("small1[alphabets=2:]", {"Greek"}, {1, 2, 3, 4}),
    ("small1[drawers=:75%]", {"Angelic", "Braille", "Greek"}, {1, 2, 3}),
    ("small1[drawers=3:,alphabets=1:2]", {"Braille"}, {4}),
  ],
)
def test_parts(folder, split, alphabets, drawers):
  source = omniglot.open_omniglot(folder, split)
  assert set(source.alphabets) == alphabets
  assert {name.split("/")[0] for name in source.class_names} == alphabets
  assert set(source.drawers) == drawers
  assert set(source.labels) == set(range(len(source.class_names)))


def test_equal_drawings_are_known(folder):
  files = character_files()
  twins = [name for name in files if "Braille/character01/" in name]
  files[twins[2]] = files[twins[0]]
  write_zip(folder / "images_background_small1.zip", files)
  source = omniglot.open_omniglot(folder, "small1")
  assert len(source) == 24
  copies = [
    source.ids[index]
    for index, content in enumerate(source.contents)
    if (source.contents == content).sum() > 1
  ]
  assert copies == [
    twin.partition("/")[2].removesuffix(".png") for twin in (twins[0], twins[2])
  ]
  index = identities.Index.of(source)
  rng = np.random.default_rng(0)
  first, second = np.flatnonzero(np.isin(source.ids, copies))
  partners = {index.draw_other_image(first, rng) for _ in range(100)}
  assert second not in partners and len(partners) == DRAWERS - 2


def test_it_travels_to_reading_processes(folder):
  source = omniglot.open_omniglot(folder, "small1")
  again = pickle.loads(pickle.dumps(source))
  np.testing.assert_array_equal(again[7]["image"], source[7]["image"])


def check_trials(source, ways):
  trials = source.episodes
  for query, support, answer in zip(
    trials.query, trials.support, trials.answer, strict=True
  ):
    assert support.shape == (ways, 1)
    image = source[query]["image"]
    same = [
      (source[index]["image"][:, ::-1] == image).all()
      for index in support[:, 0]
    ]
    assert np.flatnonzero(same) == [answer]
    assert source.labels[query] == source.labels[support[answer, 0]]
    assert query not in support


@pytest.mark.parametrize("place", ["one_shot_runs", "."])
@pytest.mark.parametrize("zipped", [False, True])
def test_one_shot_runs(tmp_path, place, zipped):
  root = tmp_path / "data" / place
  write_runs(tmp_path / "plain" if zipped else root)
  if zipped:
    root.mkdir(parents=True)
    files = {
      path.relative_to(tmp_path / "plain").as_posix(): path.read_bytes()
      for path in (tmp_path / "plain").rglob("*")
      if path.is_file()
    }
    write_zip(root / "all_runs.zip", files | {"__MACOSX/run01": b""})
  source = omniglot.open_omniglot(tmp_path / "data", "one_shot_runs")
  assert len(source) == 2 * 2 * 3 and len(source.class_names) == 6
  assert len(source.episodes.query) == 6
  np.testing.assert_array_equal(source.episodes.episode, [0, 0, 0, 1, 1, 1])
  np.testing.assert_array_equal(source.groups, np.repeat([0, 1], 6))
  check_trials(source, ways=3)


def spoil_nothing_there(root):
  (root / "images_background_small1.zip").unlink()


def spoil_zip(root):
  path = root / "images_background_small1.zip"
  path.write_bytes(path.read_bytes()[:500])


def spoil_image(root):
  files = character_files()
  files[list(files)[3]] = drawing(1)[0][:50]
  write_zip(root / "images_background_small1.zip", files)


def spoil_size(root):
  files = character_files()
  files[list(files)[3]] = bit_png(np.ones((28, 28), bool))
  write_zip(root / "images_background_small1.zip", files)


def spoil_other_zip(root):
  write_zip(root / "images_background_small1.zip", {"a/b.png": 1})


@pytest.mark.parametrize(
  ("spoil", "split", "message"),
  [
    (spoil_nothing_there, "small1", "small1.zip: not found; get it from"),
    (spoil_zip, "small1", "small1.zip: not a readable zip"),
    (spoil_image, "small1", r"small1.zip/.*_03.png: not a readable image"),
    (spoil_size, "small1", r"_03.png: 28x28 pixels, .* are 105x105"),
    (spoil_other_zip, "small1", "holds no ALPHABET"),
    (None, "train", "Omniglot has background, small1, .* one_shot_runs"),
    (None, "small1[:4]", r"small1.*write it as .*NAME\[drawers=a:b\]"),
    (None, "small1[alphabets=9:]", "selects nothing; there are 3 alphabets"),
    (None, "one_shot_runs", "neither run01, ... nor all_runs.zip"),
  ],
)
def test_bad_input(folder, spoil, split, message):
  if spoil is not None:
    spoil(folder)
  with pytest.raises(UserError, match=message) as caught:
    omniglot.open_omniglot(folder, split)
  assert "\n" not in str(caught.value)


def spoil_labels(root):
  (root / "run02/class_labels.txt").unlink()


def spoil_answer(root):
  (root / "run02/training/class02.png").unlink()


def spoil_line(root):
  with (root / "run01/class_labels.txt").open("a") as file:
    file.write("run01/test/item01.png\n")


def spoil_other_run(root):
  with (root / "run01/class_labels.txt").open("a") as file:
    file.write("run01/test/item01.png run02/training/class01.png\n")


def spoil_ways(root):
  (root / "run02/training/class09.png").write_bytes(drawing(5)[0])


def spoil_empty(root):
  (root / "run01/class_labels.txt").write_text("\n")


@pytest.mark.parametrize(
  ("spoil", "message"),
  [
    (spoil_labels, "run02/class_labels.txt: missing"),
    (spoil_answer, "labels.txt, line .: run02/training/class02.png is missing"),
    (spoil_line, "run01/class_labels.txt, line 4: expected a query"),
    (spoil_other_run, "run01/class_labels.txt, line 4: expected a query"),
    (spoil_ways, "differ in their numbers of classes"),
    (spoil_empty, "run01/class_labels.txt: empty"),
  ],
)
def test_bad_runs(tmp_path, spoil, message):
  write_runs(tmp_path)
  spoil(tmp_path)
  with pytest.raises(UserError, match=message):
    omniglot.open_omniglot(tmp_path, "one_shot_runs")


@pytest.fixture
def real():
  folder = pathlib.Path(os.environ.get("SEGSIAM_JAX_DATA", ""), "omniglot")
  if not folder.is_dir():
    pytest.skip("SEGSIAM_JAX_DATA names no folder that holds omniglot/")
  return folder


@pytest.mark.parametrize(
  ("name", "alphabets", "characters"),
  [
    ("small1", 5, 136),
    ("small2", 5, 156),
    ("background", 30, 964),
    ("evaluation", 20, 659),
  ],
)
def test_real_zips(real, name, alphabets, characters):
  if not (real / omniglot.ZIPS[name]).exists():
    pytest.skip(f"{real} does not hold {omniglot.ZIPS[name]}")
  source = omniglot.open_omniglot(real, name)
  assert len(source.alphabets) == alphabets
  assert len(source.class_names) == characters
  np.testing.assert_array_equal(np.bincount(source.labels), 20)
  copies = len(source) - len(set(source.contents))
  assert copies == (1 if name == "background" else 0)
  # Ink is 5 % of the paper.
  shares = [(source[i]["image"] == 255).mean() for i in range(0, 2000, 20)]
  assert 0.02 < np.mean(shares) < 0.1


def test_real_runs(real):
  source = omniglot.open_omniglot(real, "one_shot_runs")
  trials = source.episodes
  runs = len(set(trials.episode))
  assert trials.support.shape == (20 * runs, 20, 1)
  assert len(source) == 40 * runs
  np.testing.assert_array_equal(
    source.labels[trials.support[np.arange(20 * runs), trials.answer, 0]],
    source.labels[trials.query],
  )
  # Each character is asked for once.
  for run in range(runs):
    answers = trials.answer[trials.episode == run]
    np.testing.assert_array_equal(np.sort(answers), np.arange(20))
