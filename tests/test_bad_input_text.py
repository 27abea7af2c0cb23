"""Tables and lists that are wrong: refused with the line, at once."""

import os

import pytest

from tests import bad_inputs

PAIRS = (
  "first,second,same,fold",
  "train/ada/0.png,train/ada/1.png,1,0",
  "train/bob/0.png,train/bob/1.png,1,0",
  "train/ada/0.png,train/bob/0.png,0,0",
)
CLASSES = ("image,label,class", "0,1,dog", "1,1,cat", "2,1,cat")
PEOPLE = ("2", "Ada\t2", "Bob\t2")
FOLDS = ("2", "1", "Ada 2", "1", "Bob 2")
FACES = ("2", "Cy 1 2", "Dan 1 2", "Cy 1 Dan 1", "Cy 2 Dan 2")
PAGES = ("train0.png 0", "train1.png 1", "train2.png 2")
LISTS = {
  "pairs": ("train.csv", PAIRS),
  "classes": ("train/classes.csv", CLASSES),
  "lfw": ("peopleDevTrain.txt", PEOPLE),
  "lfw folds": ("people.txt", FOLDS),
  "lfw pairs": ("pairsDevTest.txt", FACES),
  "listed pages": ("labels/train.txt", PAGES),
}


def line(reader, number, text):
  """The list of a reader with another line, from 1."""
  lines = list(LISTS[reader][1])
  lines[number - 1] = text
  return reader, "\n".join(lines).encode(), number


def more(reader, *texts):
  """With more lines; the last of them is wrong."""
  lines = [*LISTS[reader][1], *texts]
  return reader, "\n".join(lines).encode(), len(lines)


def whole(reader, content, number=None):
  """With other content; the wrong line, if one is."""
  return reader, content, number


MISSING_LINE = "\n".join(CLASSES[:-1]).encode()
ADA, BOB = "train/ada/0.png", "train/bob/0.png"
CASES = [
  line("pairs", 1, "first,second,label,fold"),
  line("pairs", 1, "first;second;same;fold"),
  line("pairs", 1, "first,second,same,same"),
  line("pairs", 1, PAIRS[1]),
  line("pairs", 2, f"{ADA},train/ada/9.png,1,0"),
  line("pairs", 2, f"{ADA},,1,0"),
  line("pairs", 2, f"{ADA}"),
  line("pairs", 2, f"{ADA},train/ada,1,0"),
  line("pairs", 2, f"{ADA},{'x' * 5000},1,0"),
  line("pairs", 2, f"{ADA},{'x' * 200_000},1,0"),
  line("pairs", 2, f"{ADA},../../../../etc/nowhere.png,1,0"),
  line("pairs", 2, f"{ADA},/nowhere/1.png,1,0"),
  line("pairs", 2, f"{ADA},train/ada/\x1b[31m.png,1,0"),
  *(
    line("pairs", 2, f"{ADA},{other},1,0")
    for other in (
      *(ADA, f"./{ADA}", "train//ada/0.png", "train/bob/../ada/0.png"),
    )
  ),
  *(
    line("pairs", 2, f"{ADA},train/ada/1.png,{same},0")
    for same in ("", "yes", "2", "1.0", "nan", "-1", "9" * 6000)
  ),
  *(
    line("pairs", 2, f"{ADA},train/ada/1.png,1,{fold}")
    for fold in ("x", "-1", "1.5", "nan", "1e3", "9" * 19, "9" * 6000, "\xb2")
  ),
  line("pairs", 2, f"{ADA},train/ada/1.png,1,0,5"),
  line("pairs", 4, f'"{ADA},{BOB},0,0'),
  more("pairs", f"{ADA},train/ada/1.png,0,0"),
  whole(
    "pairs", "\n".join([*PAIRS, f"train/ada/1.png,./{BOB},1,0"]).encode(), 4
  ),
  whole("pairs", b""),
  whole("pairs", b"\n\n"),
  whole("pairs", PAIRS[0].encode()),
  line("classes", 1, "image,label,kind"),
  line("classes", 1, "image;label;class"),
  line("classes", 1, "0,1,dog"),
  line("classes", 2, "0,1,fox"),
  line("classes", 2, "0,1"),
  line("classes", 2, "0"),
  line("classes", 2, "0,1,dog,cat"),
  *(
    line("classes", 2, f"0,{label},dog")
    for label in ("", "x", "-1", "1.5", "nan", "9" * 19, "9" * 6000, "\xb2")
  ),
  line("classes", 2, f"0,1,{'x' * 200_000}"),
  line("classes", 4, '2,1,"cat'),
  more("classes", "0,1,cat"),
  more("classes", "./0.png,1,cat"),
  whole("classes", b""),
  whole("classes", MISSING_LINE),
  *(
    line(reader, 1, word)
    for reader in ("lfw", "lfw folds", "lfw pairs")
    for word in ("x", "-2", "0", "1.5", "9" * 19, "9" * 6000, "\xb2")
  ),
  line("lfw", 2, "Ada 3"),
  line("lfw", 2, "Ada x"),
  line("lfw", 2, "Ada " + "9" * 6000),
  line("lfw", 2, "Eve 2"),
  line("lfw", 2, "../Ada 2"),
  line("lfw", 2, "x" * 5000 + " 2"),
  line("lfw", 2, "Ada Lovelace 2"),
  more("lfw", "Cy 2"),
  whole("lfw", b""),
  whole("lfw", b"3\nAda\t2\nBob\t2\n"),
  whole("lfw", b"2\nAda\t2\nAda\t2\n", 3),
  whole("lfw folds", b"2\n2\nAda 2\n1\nBob 2\n", 4),
  line("lfw folds", 4, "0"),
  line("lfw pairs", 1, "1 2 3"),
  line("lfw pairs", 1, f"{10**17} 0"),
  line("lfw pairs", 1, f"0 {10**17}"),
  line("lfw pairs", 2, "Cy 1"),
  line("lfw pairs", 2, "Cy 1 1"),
  line("lfw pairs", 2, "Cy 1 Dan 2"),
  line("lfw pairs", 2, "Cy 1 9"),
  line("lfw pairs", 2, "Cy 1 " + "9" * 6000),
  line("lfw pairs", 2, "x" * 5000 + " 1 2"),
  line("lfw pairs", 4, "Cy 1 Cy 1"),
  line("lfw pairs", 4, "Cy 1 Cy 2"),
  line("lfw pairs", 4, "/nowhere/x 1 Dan 1"),
  more("lfw pairs", "Cy 1 Dan 2"),
  whole("lfw pairs", b""),
  line("listed pages", 2, "train9.png 1"),
  line("listed pages", 2, "train0.png 1"),
  line("listed pages", 2, "./train0.png 1"),
  line("listed pages", 2, ". 1"),
  line("listed pages", 2, "/nowhere/1.png 1"),
  line("listed pages", 2, "../../../nowhere.png 1"),
  line("listed pages", 2, "x" * 5000 + ".png 1"),
  whole("listed pages", b""),
  *(
    whole(reader, content, number)
    for reader, (_, lines) in LISTS.items()
    for content, number in (
      ("\n".join([*lines, "\xe9t\xe9"]).encode("latin-1"), len(lines) + 1),
      ("\n".join(lines).encode("utf-16-le"), 1),
      ("\n".join(lines).encode("utf-16")[:-1], None),
      (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", 1),
      ("\n".join([*lines[:2], "\0", *lines[2:]]).encode(), 3),
    )
  ),
]


def config_of(reader, root):
  known = {"lfw pairs": "lfw"}
  return bad_inputs.config_of(known.get(reader, reader), root)


def make(reader, root):
  bad_inputs.READERS["lfw" if reader == "lfw pairs" else reader][0](root)


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
  """A data set of each reader, made once."""
  found = {}
  for reader in LISTS:
    found[reader] = tmp_path_factory.mktemp("data")
    make(reader, found[reader])
  return found


@pytest.mark.parametrize(
  ("reader", "content", "number"),
  CASES,
  ids=[f"{case[0]}-{number}" for number, case in enumerate(CASES)],
)
def test_wrong_lists(roots, tmp_path, capsys, reader, content, number):
  file = roots[reader] / LISTS[reader][0]
  before = file.read_bytes()
  file.write_bytes(content)
  try:
    config = config_of(reader, roots[reader])
    said = bad_inputs.training_is_refused(config, tmp_path / "run", capsys)
  finally:
    file.write_bytes(before)
  if content == MISSING_LINE:
    assert "has no line for label 1 of 2" in said
  elif reader == "listed pages" and not content:
    assert "selects no pages" in said
  else:
    assert str(file) in said
  if number is not None:
    assert f"line {number}: " in said


@pytest.mark.parametrize("reader", LISTS)
@pytest.mark.parametrize("kind", ["pipe", "folder", "missing"])
def test_what_is_no_file(tmp_path, capsys, reader, kind):
  make(reader, tmp_path / "data")
  file = tmp_path / "data" / LISTS[reader][0]
  file.unlink()
  if kind == "pipe":
    os.mkfifo(file)
  elif kind == "folder":
    file.mkdir()
  config = config_of(reader, tmp_path / "data")
  said = bad_inputs.training_is_refused(config, tmp_path / "run", capsys)
  assert str(tmp_path / "data") in said


@pytest.mark.parametrize("reader", LISTS)
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_lists_as_windows_saves_them(tmp_path, reader, encoding):
  from segsiam_jax import inputs

  make(reader, tmp_path)
  file = tmp_path / LISTS[reader][0]
  config = config_of(reader, tmp_path)
  train = reader != "lfw pairs"
  before = inputs.open_inputs(config, train=train).source
  text = file.read_text().replace("\n", "\r\n")
  file.write_bytes(text.encode(encoding))
  source = inputs.open_inputs(config, train=train).source
  assert len(source) == len(before) and source.keys() == before.keys()


def test_paths_of_pairs_may_be_absolute(tmp_path):
  from segsiam_jax.data.identity import pair_list

  bad_inputs.make_pairs(tmp_path / "data")
  bad_inputs.make_people(tmp_path / "far")
  first, second = (tmp_path / f"far/train/ada/{n}.png" for n in (0, 1))
  lines = [PAIRS[0], f"{first},{second},1,0", f"{first},./{BOB},0,0"]
  (tmp_path / "data/train.csv").write_text("\n".join(lines))
  source = pair_list.open_pair_list(str(tmp_path / "data"), "train")
  assert set(source.ids) == {BOB, str(first), str(second)}


@pytest.mark.parametrize("disk", ["e\u0301", "\xe9"])
def test_lists_may_encode_letters_in_another_way(tmp_path, disk):
  from segsiam_jax.data.identity import documents, lfw, pair_list
  from segsiam_jax.data.instance import coco

  typed = {"e\u0301": "\xe9", "\xe9": "e\u0301"}[disk]
  for number in (1, 2):
    name = f"lfw/{disk}/{disk}_000{number}.jpg"
    bad_inputs.save_image(tmp_path / name, number)
  (tmp_path / "lfw/b").mkdir()
  bad_inputs.save_image(tmp_path / "lfw/b/b_0001.jpg", 5)
  (tmp_path / "pairs.txt").write_text(
    f"1\n{typed} 1 2\n{typed} 1 b 1\n", encoding="utf-8"
  )
  assert len(lfw.open_lfw(str(tmp_path), "pairs")) == 3
  (tmp_path / "people.txt").write_text(f"1\n{typed} 2\n", encoding="utf-8")
  assert len(lfw.open_lfw(str(tmp_path), "people")) == 2
  image = f"lfw/{typed}/{typed}_0001.jpg"
  (tmp_path / "p.csv").write_text(
    f"first,second,same\n{image},lfw/b/b_0001.jpg,0\n", encoding="utf-8"
  )
  assert len(pair_list.open_pair_list(str(tmp_path), "p")) == 2
  (tmp_path / "labels").mkdir()
  (tmp_path / "lfw").rename(tmp_path / "images")
  image = f"{typed}/{typed}_0001.jpg"
  (tmp_path / "labels/train.txt").write_text(f"{image} 1\n", encoding="utf-8")
  assert len(documents.PagesSource(str(tmp_path), "train")) == 5
  bad_inputs.make_coco(tmp_path / "coco")
  (tmp_path / "coco/train/1.png").rename(tmp_path / f"coco/train/{disk}.png")
  file = tmp_path / "coco/annotations/instances_train.json"
  file.write_text(file.read_text().replace("1.png", f"{typed}.png"))
  source = coco.CocoSource(str(tmp_path / "coco"), "train")
  assert source[0]["image"].any()
