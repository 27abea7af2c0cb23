"""Spoils good files at random; readers may only succeed or raise UserError.

  python -m tests.fuzz --minutes=10 [--target=coco] [--seed=0]

Targets take turns. What the reader is about to be given lies in a folder that
is named first, so that a crash in C shows what it was. Exit code 1 with the
exception if a reader raises another.
"""

import copy
import io
import json
import logging
import pathlib
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import hypothesis
import numpy as np
from absl import app, flags
from hypothesis import strategies as st

from segsiam_jax import inputs
from segsiam_jax.config import default_config, of_workdir, validate
from segsiam_jax.data import images
from segsiam_jax.errors import UserError
from segsiam_jax.prediction.gallery import Gallery
from tests import bad_inputs

_MINUTES = flags.DEFINE_float("minutes", 10, "How long.")
_TARGET = flags.DEFINE_string("target", "", "One target alone.")
_SEED = flags.DEFINE_integer("seed", 0, "Of what is drawn.")

_PROBE = np.arange(4, dtype=np.float32)

numbers = st.one_of(
  st.integers(-3, 40),
  st.sampled_from((2**31, -(2**31), 2**63, 10**30, 10**9, 10**6)),
  st.floats(),
  st.sampled_from((0.5, 1e9, -1e300, float("nan"), float("inf"), -0.0)),
)
words = st.one_of(
  st.text(max_size=9),
  st.sampled_from(
    ("1.png", "../1.png", "/", ".", "", "\0", "\ud800", "counts")
  ),
)
leaves = st.one_of(st.none(), st.booleans(), numbers, words)
values = st.recursive(
  leaves,
  lambda inner: st.one_of(
    st.lists(inner, max_size=8),
    st.dictionaries(words, inner, max_size=3),
  ),
  max_leaves=12,
)


def _paths(value: Any, path: tuple = ()):
  """Where there is something in JSON, the whole first."""
  yield path
  if isinstance(value, dict):
    for key in value:
      yield from _paths(value[key], (*path, key))
  elif isinstance(value, list):
    for index, item in enumerate(value):
      yield from _paths(item, (*path, index))


def _node(value: Any, path: tuple) -> Any:
  for key in path:
    value = value[key]
  return value


@st.composite
def spoiled_json(draw, good: Any):
  """The JSON with up to four changes: other values, copies, gaps."""
  value = copy.deepcopy(good)
  for _ in range(draw(st.integers(0, 4))):
    places = list(_paths(value))
    *parents, last = (None, *draw(st.sampled_from(places)))
    if last is None:
      continue
    parent = _node(value, parents[1:])
    kind = draw(st.sampled_from(("value", "leaf", "copy", "remove", "twice")))
    if kind == "remove":
      del parent[last]
    elif kind == "twice" and isinstance(parent, list):
      parent.append(copy.deepcopy(parent[last]))
    elif kind == "copy":
      other = copy.deepcopy(_node(value, draw(st.sampled_from(places))))
      parent[last] = other
    else:
      parent[last] = draw(values if kind == "value" else leaves)
  text = json.dumps(value)
  return draw(st.one_of(st.just(text.encode()), spoiled_bytes(text.encode())))


@st.composite
def spoiled_bytes(draw, good: bytes):
  """The bytes with up to four changes; or none, but cut, or encoded anew."""
  content = bytearray(good)
  for _ in range(draw(st.integers(0, 4))):
    start = draw(st.integers(0, len(content)))
    stop = start + draw(st.sampled_from((0, 1, 2, 8, 64)))
    new = draw(
      st.one_of(st.binary(max_size=8), st.just(content[start:stop] * 2))
    )
    content[start:stop] = new
  if draw(st.booleans()):
    content = content[: draw(st.integers(0, len(content)))]
  return bytes(content)


@st.composite
def spoiled_table(draw, good: str):
  """A list with other fields, in any encoding."""
  lines = good.split("\n")
  for _ in range(draw(st.integers(0, 4))):
    index = draw(st.integers(0, len(lines) - 1))
    fields = lines[index].split(",") if "," in good else lines[index].split()
    fields = fields or [""]
    place = draw(st.integers(0, len(fields) - 1))
    others = [field for line in lines for field in line.split(",")]
    fields[place] = draw(
      st.one_of(words, numbers.map(str), st.sampled_from(others))
    )
    lines[index] = ("," if "," in good else " ").join(fields)
    if draw(st.booleans()):
      lines.insert(draw(st.integers(0, len(lines))), lines[index])
  text = "\n".join(lines)
  encoding = draw(
    st.sampled_from(("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "latin-1"))
  )
  content = text.encode(encoding, "replace")
  return draw(st.one_of(st.just(content), spoiled_bytes(content)))


def _bytes_of(save: Callable, *arrays, **named) -> bytes:
  buffer = io.BytesIO()
  save(buffer, *arrays, **named)
  return buffer.getvalue()


@st.composite
def spoiled_gallery(draw):
  """A gallery with other arrays, or other bytes."""
  arrays: dict[str, Any] = {
    "embeddings": np.ones((2, 4), np.float32),
    "identities": np.array(["a", "b"]),
    "files": np.array(["a/1.png", "b/1.png"]),
    "probe": _PROBE,
  }
  for name in draw(st.sets(st.sampled_from(sorted(arrays)), max_size=2)):
    shape = draw(st.lists(st.integers(0, 4), max_size=3))
    dtype = draw(
      st.sampled_from(("f2", "f4", "f8", "i4", "c8", "?", "U3", "S3", "M8[s]"))
    )
    array = np.zeros(shape, dtype)
    if draw(st.booleans()) and array.dtype.kind == "f":
      array[...] = draw(st.sampled_from((np.nan, np.inf, 1.0)))
    arrays[name] = array
  content = _bytes_of(np.savez, **arrays)
  return draw(st.one_of(st.just(content), spoiled_bytes(content)))


def _arrays() -> st.SearchStrategy[bytes]:
  good = _bytes_of(np.save, np.ones(bad_inputs.SIZE, np.uint8))
  return spoiled_bytes(good)


class Target(NamedTuple):
  """A reader.

  Attributes:
    make: makes good data in a folder.
    file: of these, which is spoiled.
    contents: of the file.
    read: what reads it, given the folder.
  """

  make: Callable[[pathlib.Path], None]
  file: str
  contents: st.SearchStrategy[bytes]
  read: Callable[[pathlib.Path], None]


def _train_on(reader: str, train: bool = True):
  """Opens a data set, and reads each example as training does."""

  def read(root: pathlib.Path) -> None:
    config = bad_inputs.config_of(reader, root)
    for skip_broken in (False, True):
      config.data.skip_broken = skip_broken
      try:
        opened = inputs.open_inputs(config, train=train)
        next(iter(opened.batches))
        for index in range(len(opened.source)):
          opened.source[index]
        opened.source.keys()
      except UserError as error:
        _is_a_line(error)

  return read


def _is_a_line(error: UserError) -> None:
  text = str(error)
  if len(text.splitlines()) != 1 or len(text) > 1500:
    raise AssertionError(f"not one short line: {text!r}")


def _read_config(root: pathlib.Path) -> None:
  config = of_workdir.read(str(root))
  if config is not None:
    validate(config)


def _read_gallery(root: pathlib.Path) -> None:
  from etils import epath

  gallery = Gallery.load(epath.Path(root) / "gallery.npz", _PROBE)
  gallery.matches(_PROBE, lambda query, others: others @ query, 3)


def _read_array(root: pathlib.Path) -> None:
  path = root / "x.npy"
  for read in (images.read_image, images.read_label, images.read_instances):
    try:
      read(path).max()
    except UserError as error:
      _is_a_line(error)


def _nothing(root: pathlib.Path) -> None:
  root.mkdir(parents=True, exist_ok=True)


def _text_of(reader: str, file: str) -> str:
  with tempfile.TemporaryDirectory() as folder:
    bad_inputs.READERS[reader][0](pathlib.Path(folder) / "data")
    return (pathlib.Path(folder) / "data" / file).read_text()


def _table(reader: str, file: str, train: bool = True) -> Target:
  text = _text_of(reader, file)
  make = bad_inputs.READERS[reader][0]
  return Target(make, file, spoiled_table(text), _train_on(reader, train))


def make_targets() -> dict[str, Target]:
  config = json.loads(default_config("semantic", "unet").to_json())
  return {
    "coco": Target(
      bad_inputs.make_coco,
      "annotations/instances_train.json",
      spoiled_json(bad_inputs.coco_content()),
      _train_on("coco"),
    ),
    "pairs": _table("pairs", "train.csv"),
    "classes": _table("classes", "train/classes.csv"),
    "lfw people": _table("lfw folds", "people.txt"),
    "lfw pairs": _table("lfw", "pairsDevTest.txt", train=False),
    "pages": _table("listed pages", "labels/train.txt"),
    "omniglot": Target(
      bad_inputs.make_omniglot,
      "images_background_small1.zip",
      spoiled_bytes(
        _bytes_of(bad_inputs.write_zip, bad_inputs.omniglot_files("Greek"))
      ),
      _train_on("omniglot"),
    ),
    "config": Target(
      _nothing, "config.json", spoiled_json(config), _read_config
    ),
    "gallery": Target(
      _nothing, "gallery.npz", spoiled_gallery(), _read_gallery
    ),
    "array": Target(_nothing, "x.npy", _arrays(), _read_array),
  }


def check(target: Target, root: pathlib.Path, content: bytes) -> None:
  """Gives a target a file; raises whatever is no `UserError`."""
  (root / target.file).write_bytes(content)
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    try:
      target.read(root)
    except UserError as error:
      _is_a_line(error)


def fuzz(
  target: Target, root: pathlib.Path, examples: int, seed: int | None = None
) -> int:
  """Gives a target many files.

  Args:
    target: what reads them.
    root: folder of its good data.
    examples: how many, at most.
    seed: of what is drawn; None for the same each time.

  Returns:
    The number of files.
  """
  count = 0

  @hypothesis.settings(
    max_examples=examples,
    deadline=None,
    database=None,
    derandomize=seed is None,
    suppress_health_check=list(hypothesis.HealthCheck),
  )
  @hypothesis.given(target.contents)
  def each(content):
    nonlocal count
    count += 1
    check(target, root, content)

  each = each if seed is None else hypothesis.seed(seed)(each)
  each()
  return count


def _run(argv: list[str]) -> None:
  del argv
  logging.getLogger("segsiam_jax").setLevel(logging.CRITICAL)
  targets = make_targets()
  if _TARGET.value:
    targets = {_TARGET.value: targets[_TARGET.value]}
  folder = pathlib.Path(tempfile.mkdtemp())
  print(f"files in {folder}", flush=True)
  for name, target in targets.items():
    target.make(folder / name)
  end, counts, rounds = time.monotonic() + 60 * _MINUTES.value, {}, 0
  while time.monotonic() < end:
    for name, target in targets.items():
      seed = 1000 * _SEED.value + rounds
      examples = fuzz(target, folder / name, 200, seed)
      counts[name] = counts.get(name, 0) + examples
    rounds += 1
  print(", ".join(f"{name}: {count}" for name, count in counts.items()))
  shutil.rmtree(folder)


if __name__ == "__main__":
  sys.argv[:1] = ["fuzz"]
  app.run(_run)
