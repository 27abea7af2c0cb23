"""The data that the corpus of bad input spoils, and its whole command line."""

import os
import pathlib
import subprocess
import sys
import zipfile

import pytest

from segsiam_jax import inputs
from segsiam_jax.config import validate
from tests import bad_inputs

ROOT = pathlib.Path(__file__).parent.parent

CONFIG = """
from tests.bad_inputs import config_of

def get_config(arg=""):
  config = config_of({reader!r}, {root!r})
  config.train.num_pictures = 0
  return config
"""


@pytest.mark.parametrize("reader", bad_inputs.READERS)
def test_the_corpus_is_made_of_good_data(tmp_path, reader):
  make, _ = bad_inputs.READERS[reader]
  make(tmp_path)
  config = bad_inputs.config_of(reader, tmp_path)
  validate(config)
  opened = [inputs.open_inputs(config, train=train) for train in (True, False)]
  for one in opened:
    assert next(iter(one.batches))["image"].any()
  inputs.check_together(config, *opened)


def run(tmp_path, reader, *flags, **environment):
  """The command line on the data in `tmp_path`: code and stderr."""
  config = tmp_path / "config.py"
  config.write_text(CONFIG.format(reader=reader, root=str(tmp_path / "data")))
  done = subprocess.run(
    [sys.executable, "-m", "segsiam_jax.main", f"--config={config}"]
    + [f"--workdir={tmp_path / 'run'}", *flags],
    cwd=ROOT,
    capture_output=True,
    text=True,
    errors="surrogateescape",
    env=os.environ | {"SEGSIAM_JAX_CACHE": ""} | environment,
    timeout=120,
  )
  return done.returncode, done.stderr


def change(path, old: bytes, new: bytes):
  content = path.read_bytes()
  assert old in content
  path.write_bytes(content.replace(old, new))


def polygon(root):
  file = root / "annotations/instances_train.json"
  change(file, b"[[2, 3, 11, 3", b"[[2, 3, 1e9, 3")


def image(root):
  file = root / "annotations/instances_train.json"
  change(file, b'"height": 20', b'"height": 2000000000')


def latin(root):
  change(root / "train.csv", b"train/bob", b"train/b\xf6b")


def pipe(root):
  (root / "train.csv").unlink()
  os.mkfifo(root / "train.csv")


def encrypted(root):
  path = root / "images_background_small1.zip"
  content = bytearray(path.read_bytes())
  content[6] |= 1
  content[content.index(b"PK\x01\x02") + 8] |= 1
  path.write_bytes(content)


def cut(root):
  path = root / "train/images/1.png"
  path.write_bytes(path.read_bytes()[:300])


def pickled(root):
  path = root / "train/images/1.png"
  path.unlink()
  path.with_suffix(".npy").write_bytes(PICKLE)


# An array of objects, whose pickle would make a file.
PICKLE = b"\x93NUMPY\x01\x00v\x00" + (
  b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }".ljust(117) + b"\n"
  b"cos\nsystem\n(S'touch executed'\ntR."
)


@pytest.mark.slow
@pytest.mark.parametrize(
  ("reader", "spoil", "word"),
  [
    ("coco", polygon, "annotation 1: a polygon goes to 1e+09"),
    ("coco", image, "images[0]: 2000000000x30 are more than"),
    ("pairs", latin, "train.csv, line 3: not UTF-8 (byte 0xf6)"),
    ("pairs", pipe, "train.csv: not a regular file"),
    ("omniglot", encrypted, "is encrypted"),
    ("semantic", cut, "1.png: not a readable image"),
    ("semantic", pickled, "1.npy: not a readable image"),
  ],
  ids=lambda value: getattr(value, "__name__", None),
)
def test_bad_input_on_the_command_line(tmp_path, reader, spoil, word):
  bad_inputs.READERS[reader][0](tmp_path / "data")
  spoil(tmp_path / "data")
  (tmp_path / "run").mkdir()
  code, stderr = run(tmp_path, reader)
  assert code == 2, stderr
  lines = [line for line in stderr.splitlines() if line.startswith("error: ")]
  assert len(lines) == 1 and "Traceback" not in stderr, stderr
  assert word in lines[0]
  assert not bad_inputs.snapshot(tmp_path / "run")
  assert not (ROOT / "executed").exists()


@pytest.mark.slow
def test_without_what_is_broken_a_run_goes_on(tmp_path):
  """Names of any bytes and a locale without letters change nothing."""
  bad_inputs.make_semantic(tmp_path / "data")
  cut(tmp_path / "data")
  for kind in ("images", "masks"):
    folder = os.fsencode(tmp_path / "data/train" / kind)
    os.rename(folder + b"/0.png", folder + b"/\xff\n\xc3\xa9.png")
    bad_inputs.save_image(tmp_path / f"data/train/{kind}/9.png", 9, values=2)
  flags = ("--config.data.skip_broken=True", "--config.train.batch_size=2")
  code, stderr = run(tmp_path, "semantic", *flags, LC_ALL="C", PYTHONUTF8="0")
  assert code == 0, stderr
  assert "1 of 4 examples are broken and left out: " in stderr
  assert "3 examples to train on" in stderr


def names_of_coco(root):
  """Names, ids and classes that are paths out of the folder."""
  for split in bad_inputs.SPLITS:
    (root / split / "1.png").rename(root.parent / f"far_{split}.png")
    file = root / f"annotations/instances_{split}.json"
    change(file, b'"1.png"', f'"../../far_{split}.png"'.encode())
    change(file, b'"cat"', b'"../../../cat"')
    change(file, b'"id": 3, "file_name"', b'"id": "/../../3", "file_name"')


def names_of_pairs(root):
  for split, person in (("train", "ada"), ("test", "cy")):
    (root / split / person / "0.png").rename(root.parent / f"far_{split}.png")
    name = f"{split}/{person}/0.png"
    change(root / f"{split}.csv", name.encode(), f"../far_{split}.png".encode())


def names_of_drawings(root):
  path = root / "images_evaluation.zip"
  with zipfile.ZipFile(path, "a") as archive:
    for number in (1, 2):
      name = f"../../x/../character01/0001_0{number}.png"
      archive.writestr(name, bad_inputs.drawing(number))
      name = f"../../../character01/0001_0{number}.png"
      archive.writestr(name, bad_inputs.drawing(number))
      name = f"../../character01/0001_0{number}.png"
      archive.writestr(name, bad_inputs.drawing(number))
      name = f"../../character02/0001_0{number}.png"
      archive.writestr(name, bad_inputs.drawing(number + 2))


@pytest.mark.slow
@pytest.mark.parametrize(
  ("reader", "spoil"),
  [
    ("coco", names_of_coco),
    ("pairs", names_of_pairs),
    ("omniglot", names_of_drawings),
  ],
)
def test_nothing_is_written_outside_of_the_workdir(tmp_path, reader, spoil):
  """Whatever names a file gives; a whole run and its evaluation."""
  bad_inputs.READERS[reader][0](tmp_path / "a/b/data")
  spoil(tmp_path / "a/b/data")
  (tmp_path / "data").symlink_to(tmp_path / "a/b/data")
  (tmp_path / "run").mkdir()
  (tmp_path / "config.py").touch()
  before = bad_inputs.snapshot(tmp_path)
  for mode in ("train", "eval"):
    code, stderr = run(tmp_path, reader, f"--mode={mode}")
    assert code == 0, stderr
  after = bad_inputs.snapshot(tmp_path)
  mine = [name for name in after if not name.startswith(("run/", "config.py"))]
  assert {name: after[name] for name in mine} == {
    name: before[name] for name in before if name != "config.py"
  }
