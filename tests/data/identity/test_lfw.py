"""LFW's layout and lists on a fake of ten people a fold."""

import numpy as np
import pytest
from PIL import Image

from segsiam_jax.data.identity import lfw
from segsiam_jax.errors import UserError

FOLDS, SIZE, PEOPLE = 3, 2, 4


def person(fold, number):
  return f"Person_{fold}{chr(ord('A') + number)}"


@pytest.fixture(params=["lfw", "lfw_funneled", "."])
def root(request, tmp_path):
  """Images, and the lists with tabs as published."""
  people, pairs = [str(FOLDS)], [f"{FOLDS}\t{SIZE}"]
  for fold in range(FOLDS):
    people.append(str(PEOPLE))
    names = [person(fold, number) for number in range(PEOPLE)]
    for number, name in enumerate(names):
      count = 3 - number % 2
      people.append(f"{name}\t{count}")
      folder = tmp_path / request.param / name
      folder.mkdir(parents=True)
      for image in range(1, count + 1):
        color = (fold * 40, number * 40, image * 40)
        Image.new("RGB", (8, 6), color).save(folder / f"{name}_{image:04d}.jpg")
    pairs += [f"{names[0]}\t1\t2", f"{names[1]}\t2\t1"]
    pairs += [f"{names[0]}\t1\t{names[2]}\t3", f"{names[1]}\t2\t{names[3]}\t1"]
  (tmp_path / "people.txt").write_text("\n".join(people) + "\n")
  (tmp_path / "pairs.txt").write_text("\n".join(pairs) + "\n\n")
  # View 1: one fold, a header of one number.
  (tmp_path / "pairsDevTest.txt").write_text("\n".join(["2", *pairs[1:5]]))
  (tmp_path / "peopleDevTrain.txt").write_text("\n".join(["4", *people[2:6]]))
  return tmp_path


def test_view_2_keeps_its_folds(root):
  source = lfw.open_lfw(str(root), "pairs")
  pairs = source.pairs
  np.testing.assert_array_equal(pairs.fold, np.repeat([0, 1, 2], 4))
  np.testing.assert_array_equal(pairs.same, [True, True, False, False] * 3)
  ids = np.array(source.ids)
  assert ids[pairs.first[5]] == "Person_1B/Person_1B_0002.jpg"
  assert ids[pairs.second[5]] == "Person_1B/Person_1B_0001.jpg"
  assert ids[pairs.second[6]] == "Person_1C/Person_1C_0003.jpg"
  np.testing.assert_array_equal(
    source.labels[pairs.first] == source.labels[pairs.second], pairs.same
  )
  # Only what a pair names is an example.
  assert len(source) == 6 * FOLDS
  names = [source.class_names[label] for label in source.labels]
  assert names == [name.split("/")[0] for name in source.ids]


def test_folds_share_no_person(root):
  train = lfw.open_lfw(str(root), "people[folds=:2]")
  test = lfw.open_lfw(str(root), "pairs[folds=2:]")
  assert len(train.class_names) == 2 * PEOPLE and len(train) == 20
  assert train.pairs is None
  assert not set(train.class_names) & set(test.class_names)
  np.testing.assert_array_equal(test.pairs.fold, 0)


def test_view_1(root):
  source = lfw.open_lfw(str(root), "pairsDevTest")
  assert len(source.pairs.same) == 4 and not source.pairs.fold.any()
  source = lfw.open_lfw(str(root), "peopleDevTrain")
  assert len(source.class_names) == 4
  np.testing.assert_array_equal(np.bincount(source.labels), [3, 2, 3, 2])


def change(root, name, old, new):
  path = root / f"{name}.txt"
  text = path.read_text()
  assert old in text
  path.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize("root", ["lfw"], indirect=True)
@pytest.mark.parametrize(
  ("name", "old", "new", "message"),
  [
    (
      "pairs",
      "0A\t1\t2",
      "0A\t1\t9",
      "line 2: no image .*0A_0009.jpg; all are",
    ),
    (
      "pairs",
      "0A\t1\t2",
      "0A\t1",
      "line 2: expected a pair such as 'NAME 1 2'",
    ),
    ("pairs", "0A\t1\t2", "0A\t1\t1", "line 2: an image with itself"),
    ("pairs", "Person_0C", "Person_0A", "line 4: two images of one person"),
    ("pairs", "0A\t1\t2", "0A\tx\t2", "line 2: expected a number; got 'x'"),
    ("pairs", "3\t2", "3\t2\t1", "line 1: expected a header such as '10 300'"),
    ("pairs", "3\t2", "4\t2", "ends too early, 4 x 2 x 2 pairs expected"),
    ("pairs", "3\t2", "2\t2", "line 10: more lines than the header says"),
    ("people", "0A\t3", "0A\t2", "line 3: Person_0A has 2 images, but .* 3"),
    ("people", "0A\t3", "0A\t3\t1", "line 3: expected a name and its number"),
  ],
)
def test_bad_lists(root, name, old, new, message):
  change(root, name, old, new)
  with pytest.raises(UserError, match=rf"{name}\.txt.*{message}") as caught:
    lfw.open_lfw(str(root), name)
  assert "\n" not in str(caught.value)


@pytest.mark.parametrize("root", ["lfw"], indirect=True)
def test_a_missing_image_is_never_a_missing_pair(root):
  (root / "lfw/Person_1B/Person_1B_0002.jpg").unlink()
  with pytest.raises(UserError, match=r"pairs\.txt, line 7: no image"):
    lfw.open_lfw(str(root), "pairs")
  with pytest.raises(UserError, match="Person_1B has 2 images"):
    lfw.open_lfw(str(root), "people")


def test_unknown_splits(tmp_path):
  with pytest.raises(UserError, match="LFW has 'pairs', 'people'"):
    lfw.open_lfw(str(tmp_path), "train")
  with pytest.raises(UserError, match=r"pairs\.txt: not found; get it from"):
    lfw.open_lfw(str(tmp_path), "pairs")
