"""COCO files that are wrong at each level: refused with the place, at once."""

import json
import re

import pytest

from segsiam_jax.errors import UserError
from tests import bad_inputs
from tests.bad_inputs import SIZE

NAN, INFINITY = float("nan"), float("inf")
PIXELS = SIZE[0] * SIZE[1]
# Of no type that is wanted where numbers, names or lists are.
NO_ID = (None, True, "", 1.5, NAN, INFINITY, 10**30, [], [1], {})
NO_LENGTH = (None, True, "4", 0, -3, 1.5, NAN, INFINITY, 1e300, 10**400, [], {})
VALUES = {
  ("images", 0, "id"): NO_ID,
  ("images", 0, "file_name"): (
    *(None, True, 5, [], {}, "", ".", "nowhere.png", "a\0b", "x" * 5000),
    *("/nowhere/1.png", "../nowhere.png", "\ud800.png", "a\nb.png", "2.png"),
  ),
  ("images", 0, "height"): NO_LENGTH,
  ("images", 0, "width"): NO_LENGTH,
  ("categories", 0, "id"): NO_ID,
  ("categories", 0, "name"): (None, True, 1.5, NAN, [], {}, "", "  ", "dog"),
  ("annotations", 0, "id"): (*NO_ID, 2),
  ("annotations", 0, "image_id"): (*NO_ID, 99, "1"),
  ("annotations", 0, "category_id"): (*NO_ID, 99, "7"),
  ("annotations", 0, "bbox"): (
    *(None, 5, "x", [], {}, [1, 2, 3], [1, 2, 3, 4, 5], [[1, 2, 3, 4]]),
    *([None] * 4, ["1"] * 4, [True] * 4, [1, 2, -3, 4], [1, 2, 3, -4]),
    *(
      [1, 2, NAN, 4],
      [1, INFINITY, 3, 4],
      [1, 2, 3, 1e300],
      [1, 2, 3, 10**400],
    ),
  ),
  ("annotations", 0, "area"): (
    *("x", True, [], {}, -1, NAN, INFINITY, 1e300, 10**400),
  ),
  ("annotations", 0, "iscrowd"): ("0", 2, -1, 0.5, NAN, [], [0], {}),
  ("annotations", 0, "segmentation"): (
    *(None, 5, True, "x", [], {}, [5], [None], [{}], [[]], ["x"]),
    *([1, 2, 3, 4, 5, 6], [[1, 2]], [[1, 2, 3, 4]], [[1, 2, 3, 4, 5]]),
    *([[1, 2, 3, 4, 5, 6, 7]], [[[1, 2, 3, 4, 5, 6]]], [["1"] * 6]),
    *([[True] * 6], [[None] * 6], [[1, 2, 3, 4, 5, 6], [1, 2]]),
    *([[1, 2, 9, NAN, 5, 6]], [[1, 2, 9, INFINITY, 5, 6]]),
    *([[1, 2, 1e9, 2, 5, 6]], [[1, 2, -1e9, 2, 5, 6]]),
    *([[1, 2, 1e300, 2, 5, 6]], [[1, 2, 10**400, 2, 5, 6]]),
    [[0, 0, 1e7, 1e7] * 9],
  ),
  ("annotations", 1, "segmentation", "counts"): (
    *(None, 5, {}, [], [5, 9], [-5, PIXELS + 5], [0.5, PIXELS - 0.5]),
    *([NAN], ["600"], [None], [True] * PIXELS, [10**400], [2**64 + PIXELS]),
    *("", "zzz", "0", "PPPPPPPPPP", "\xe9\xe9", "~~~~", "o" * 50 + "0"),
    # Minus 40, 640 and 0 pixels.
    "hN" + "Pd0" + "0",
  ),
  ("annotations", 1, "segmentation", "size"): (
    *(None, 5, "x", [], [20], [30, 20], ["20", "30"], [-20, -30]),
    *([10**9, 10**9], [NAN, NAN], {}),
  ),
  ("images",): (None, 5, "x", [], {}, [None], [5], [[]]),
  ("categories",): (None, 5, "x", [], {}, [None], [5], [[]]),
  ("annotations",): (None, 5, "x", {}, [None], [5], [[]], [{}]),
  (): (None, 5, "x", [], {}, [[]]),
}
MISSING = (
  *(("images",), ("categories",), ("annotations",)),
  *(("images", 0, name) for name in ("id", "file_name", "height", "width")),
  *(("categories", 0, name) for name in ("id", "name")),
  *(("annotations", 0, n) for n in ("image_id", "category_id", "bbox")),
  *(
    ("annotations", 0, "segmentation"),
    ("annotations", 1, "segmentation", "size"),
  ),
  ("annotations", 1, "segmentation", "counts"),
)


def changed(path, value):
  """The content with another value at a path, or without it (`KeyError`)."""
  content = bad_inputs.coco_content()
  if not path:
    return value
  *parents, last = path
  node = content
  for key in parents:
    node = node[key]
  if value is KeyError:
    del node[last]
  else:
    node[last] = value
  return content


def case(path, value, number=0):
  name = ".".join(map(str, path)) or "file"
  return pytest.param(path, value, id=f"{name}-{number}")


CASES = [
  *(
    case(path, value, number)
    for path, values in VALUES.items()
    for number, value in enumerate(values)
  ),
  *(case(path, KeyError, "missing") for path in MISSING),
]


@pytest.fixture(scope="module")
def good(tmp_path_factory):
  root = tmp_path_factory.mktemp("coco")
  bad_inputs.make_coco(root)
  return root


def refuse(good, tmp_path, capsys, content: bytes) -> str:
  file = good / "annotations/instances_train.json"
  before = file.read_bytes()
  file.write_bytes(content)
  try:
    config = bad_inputs.config_of("coco", good)
    line = bad_inputs.training_is_refused(config, tmp_path / "run", capsys)
  finally:
    file.write_bytes(before)
  return line


@pytest.mark.parametrize(("path", "value"), CASES)
def test_wrong_values(good, tmp_path, capsys, path, value):
  content = json.dumps(changed(path, value)).encode()
  line = refuse(good, tmp_path, capsys, content)
  if path[-1:] == ("file_name",) and isinstance(value, str) and value:
    assert "images that" in line or "two images have" in line
  else:
    assert "instances_train.json: " in line
  if len(path) > 2:
    place = rf"{path[0]}\[\d\]|annotation \d: |none of the|images that"
    assert re.search(place, line)


@pytest.mark.parametrize(("path", "value"), CASES)
def test_wrong_values_may_be_left_out(good, path, value, caplog):
  """Those of one image or one annotation; others are an error all the same."""
  from segsiam_jax.data.instance.coco import CocoSource

  file = good / "annotations/instances_train.json"
  before = file.read_text()
  file.write_text(json.dumps(changed(path, value)))
  of_one = len(path) > 2 and path[0] != "categories" and path[2] != "id"
  of_one = of_one or path == ("annotations", 0, "id")
  try:
    source = CocoSource(str(good), "train", skip_broken=True)
    assert of_one
    objects = [source[index]["objects"] for index in range(len(source))]
    if path[0] == "images":
      assert len(source) == 2 and "of 3 images are broken" in caplog.text
    else:
      assert len(source) == 3 and sum(len(o.boxes) for o in objects) == 2
      assert "1 of 3 annotations are broken" in caplog.text
  except UserError:
    assert not of_one
  finally:
    file.write_text(before)


def test_an_image_of_too_many_pixels(good, tmp_path, capsys):
  content = bad_inputs.coco_content()
  content["images"][0] |= {"height": 10**9, "width": 10**9}
  line = refuse(good, tmp_path, capsys, json.dumps(content).encode())
  assert "images[0]: 1000000000x1000000000 are more than" in line


def test_two_entries_with_one_id(good, tmp_path, capsys):
  for kind in ("images", "categories", "annotations"):
    content = bad_inputs.coco_content()
    content[kind].append(dict(content[kind][0]))
    (tmp_path / kind).mkdir()
    text = json.dumps(content).encode()
    line = refuse(good, tmp_path / kind, capsys, text)
    assert f"two {kind} have" in line


@pytest.mark.parametrize(
  "content",
  [
    *(b"", b"\0", b"{", b"\xff\xfe{", b"[" * 100_000, b"1" * 9999, b"nul"),
    json.dumps(bad_inputs.coco_content()).encode()[:-9],
    json.dumps(bad_inputs.coco_content())
    .replace("cat", "c\xe4t")
    .encode("latin-1"),
  ],
  ids=lambda content: repr(content[:9]),
)
def test_what_is_no_json(good, tmp_path, capsys, content):
  line = refuse(good, tmp_path, capsys, content)
  assert "instances_train.json: not readable (" in line


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_json_of_other_encodings_is_read(good, encoding):
  from segsiam_jax import inputs

  file = good / "annotations/instances_train.json"
  text = file.read_text()
  file.write_bytes(text.encode(encoding))
  try:
    opened = inputs.open_inputs(bad_inputs.config_of("coco", good), train=True)
  finally:
    file.write_text(text)
  assert len(opened.source) == 3


@pytest.mark.parametrize(
  ("path", "value"),
  [
    (("annotations", 0, "area"), None),
    (("annotations", 0, "iscrowd"), None),
    (("annotations", 0, "iscrowd"), False),
    (("annotations", 0, "bbox"), [2, 3, 0, 8]),
    (("annotations", 0, "bbox"), [-2.5, 3, 9, 80]),
    (("annotations", 0, "segmentation"), [[-50, 3, 99.5, 3, 11, 11]]),
    (("annotations", 0, "id"), "first"),
    (("images", 0, "height"), 20.0),
    (("images", 0, "file_name"), "./1.png"),
    (("categories", 0, "name"), 5),
    (("categories", 1, "name"), "\u732b"),
    (("annotations",), bad_inputs.coco_content()["annotations"][:1]),
    (("info",), NAN),
  ],
)
def test_what_is_odd_but_clear_is_read(tmp_path, path, value):
  from segsiam_jax.data.instance.coco import CocoSource

  bad_inputs.make_coco(tmp_path)
  file = tmp_path / "annotations/instances_train.json"
  file.write_text(json.dumps(changed(path, value)))
  source = CocoSource(str(tmp_path), "train")
  objects = [source[index]["objects"] for index in range(len(source))]
  assert objects[0].size == SIZE and objects[0].masks is not None
