"""Images, folders and zips that are wrong: refused by name, at once."""

import os
import shutil
import struct
import zipfile

import numpy as np
import pytest
from PIL import Image

from segsiam_jax import predict
from segsiam_jax.data.identity import omniglot
from tests import bad_inputs
from tests.bad_inputs import SIZE

RNG = np.random.default_rng(3)
NOISE = RNG.integers(0, 256, SIZE, np.uint8)


def cut(path, kind):
  Image.fromarray(NOISE).save(path, kind)
  content = path.read_bytes()
  path.write_bytes(content[: len(content) * 2 // 3])


def flipped(path):
  """A PNG whose pixels do not have the checksum that it gives."""
  Image.fromarray(NOISE).save(path)
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 0xFF
  path.write_bytes(content)


def link_to_itself(path):
  path.symlink_to(path.name)


def huge_npy(path):
  """Says that it holds terabytes."""
  np.save(path, NOISE)
  content = path.read_bytes()
  path.write_bytes(content.replace(b"(20, 30), }    ", b"(2000000, 30), }"))


def cut_npy(path):
  np.save(path, NOISE)
  path.write_bytes(path.read_bytes()[:-5])


def save_npy(array, **options):
  return lambda path: np.save(path, array, **options)


def save(array):
  return lambda path: Image.fromarray(array).save(path)


def pages(path):
  first = Image.fromarray(NOISE)
  first.save(path, save_all=True, append_images=[first.resize((5, 5))])


# In place of an image: its suffix, and how to make it.
UNREADABLE = {
  "empty": (".png", lambda path: path.write_bytes(b"")),
  "empty jpg": (".jpg", lambda path: path.write_bytes(b"")),
  "empty npy": (".npy", lambda path: path.write_bytes(b"")),
  "text": (".png", lambda path: path.write_text("no image")),
  "page": (".jpg", lambda path: path.write_text("<html>not found</html>")),
  "text npy": (".npy", lambda path: path.write_text("no array")),
  "text tif": (".tif", lambda path: path.write_text("no image")),
  "head": (".png", lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n")),
  "head jpg": (".jpg", lambda path: path.write_bytes(b"\xff\xd8\xff\xe0")),
  "head bmp": (".bmp", lambda path: path.write_bytes(b"BM" + b"\xff" * 60)),
  "pickle": (".png", lambda path: path.write_bytes(b"\x80\x04N.")),
}
DAMAGED = {
  "cut png": (".png", lambda path: cut(path, "PNG")),
  "cut jpg": (".jpg", lambda path: cut(path, "JPEG")),
  "cut tif": (".tif", lambda path: cut(path, "TIFF")),
  "cut bmp": (".bmp", lambda path: cut(path, "BMP")),
  "cut webp": (".webp", lambda path: cut(path, "WEBP")),
  "cut npy": (".npy", cut_npy),
  "huge npy": (".npy", huge_npy),
  "flipped": (".png", flipped),
  "objects": (".npy", save_npy(np.array([{}, {}]), allow_pickle=True)),
  "words": (".npy", save_npy(np.array(["a", "b"]))),
  "floats": (".npy", save_npy(np.zeros(SIZE))),
  "complex": (".npy", save_npy(np.zeros(SIZE, complex))),
  "negative": (".npy", save_npy(np.full(SIZE, -1))),
  "nothing": (".npy", save_npy(np.zeros((0, 30), np.uint8))),
  "scalar": (".npy", save_npy(np.uint8(1))),
  "five axes": (".npy", save_npy(np.zeros((1, 1, 1, 20, 30), np.uint8))),
  "five channels": (".npy", save_npy(np.zeros((*SIZE, 5), np.uint8))),
  "16 bits": (".png", save(NOISE.astype(np.uint16) * 256)),
  "floats tif": (".tif", save(NOISE.astype(np.float32))),
  "pages": (".tif", pages),
  "other size": (".png", save(NOISE[:10])),
  "archive": (".npy", lambda path: shutil.copy(__file__, path)),
}
MASKS = {
  "colour": (".png", save(np.zeros((*SIZE, 3), np.uint8))),
  "values": (".png", save(np.full(SIZE, 7, np.uint8))),
  "large": (".npy", save_npy(np.full(SIZE, 70_000))),
}
NUMBERS = {
  "colour": MASKS["colour"],
  "large": (".npy", save_npy(np.full(SIZE, 2**31))),
}
# What is replaced, by which kinds.
PLACES = [
  ("semantic", "train/images/1.png", UNREADABLE | DAMAGED),
  ("semantic", "test/images/1.png", UNREADABLE),
  ("semantic", "train/masks/1.png", UNREADABLE | DAMAGED | MASKS),
  ("semantic objects", "train/labels/1.png", UNREADABLE | NUMBERS),
  ("objects", "train/images/1.png", UNREADABLE | DAMAGED),
  ("objects", "train/labels/1.png", UNREADABLE | DAMAGED | NUMBERS),
  ("identities", "train/ada/1.png", UNREADABLE),
  ("pairs", "train/ada/1.png", {"empty": UNREADABLE["empty"]}),
  ("lfw", "lfw/Ada/Ada_0001.jpg", {"page": UNREADABLE["page"]}),
  ("cedar", "full_org/original_1_1.png", {"text": UNREADABLE["text"]}),
]
# An identity's arrays are looked at when they are read.
LATE = {"identities": ("empty npy", "text npy")}
CASES = [
  pytest.param(reader, place, *made, id=f"{reader}-{place}-{name}")
  for reader, place, kinds in PLACES
  for name, made in kinds.items()
  # 16 bits are good for numbers of objects, pages for nothing.
  if not (place.endswith("labels/1.png") and name == "16 bits")
  and name not in LATE.get(reader, ())
]


def spoil(root, reader, place, suffix, make):
  """Makes a data set, and something else of one of its files."""
  bad_inputs.READERS[reader][0](root)
  path = root / place
  path.unlink()
  path = path.with_suffix(suffix)
  make(path)
  return path


@pytest.mark.parametrize(("reader", "place", "suffix", "make"), CASES)
def test_wrong_images(tmp_path, capsys, reader, place, suffix, make):
  root = tmp_path / "data"
  path = spoil(root, reader, place, suffix, make)
  config = bad_inputs.config_of(reader, root)
  line = bad_inputs.training_is_refused(config, tmp_path / "run", capsys)
  assert path.name in line and str(root) in line


STRUCTURE = [
  ("semantic", "train"),
  ("semantic", "test/images"),
  ("semantic", "train/masks"),
  ("semantic", "train/masks/1.png"),
  ("objects", "train/labels"),
  ("objects", "train/labels/1.png"),
  ("classes", "train/classes.csv"),
  ("coco", "annotations/instances_train.json"),
  ("coco", "train"),
  ("coco", "train/1.png"),
  ("identities", "train"),
  ("identities", "train/ada"),
  ("pairs", "train.csv"),
  ("pairs", "train/ada/1.png"),
  ("pages", "train"),
  ("listed pages", "images/train1.png"),
  ("lfw", "peopleDevTrain.txt"),
  ("lfw", "lfw/Ada"),
  ("lfw", "lfw/Cy/Cy_0001.jpg"),
  ("cedar", "full_forg"),
  ("omniglot", "images_background_small1.zip"),
  ("one-shot runs", "all_runs.zip"),
]


@pytest.mark.parametrize(("reader", "place"), STRUCTURE)
@pytest.mark.parametrize("kind", ["missing", "pipe", "empty"])
def test_what_is_missing(tmp_path, capsys, reader, place, kind):
  """Or is a pipe, or an empty folder, where something is needed."""
  root = tmp_path / "data"
  bad_inputs.READERS[reader][0](root)
  path = root / place
  shutil.rmtree(path) if path.is_dir() else path.unlink()
  if kind == "pipe":
    os.mkfifo(path)
  elif kind == "empty":
    path.mkdir()
  if reader == "identities" and place == "train/ada":
    bad_inputs.save_image(root / "train/eve/1.png", 77)
  config = bad_inputs.config_of(reader, root)
  line = bad_inputs.training_is_refused(config, tmp_path / "run", capsys)
  assert str(root) in line or "identity" in line


@pytest.mark.parametrize("reader", bad_inputs.READERS)
@pytest.mark.parametrize("name", ["x" * 5000, "x/" * 3000, "a\n\x1b[31mb", "."])
def test_folders_of_odd_names(tmp_path, capsys, reader, name):
  config = bad_inputs.config_of(reader, tmp_path / name)
  bad_inputs.training_is_refused(config, tmp_path / "run", capsys)


def header(content: bytes, at: int, of_directory: int, number: int, form="<H"):
  """A zip with another number in the first file's headers."""
  content = bytearray(content)
  directory = content.index(b"PK\x01\x02")
  struct.pack_into(form, content, at, number)
  struct.pack_into(form, content, directory + of_directory, number)
  return bytes(content)


def damaged(content: bytes) -> bytes:
  """One byte of the first file's content is another."""
  content = bytearray(content)
  name, extra = struct.unpack_from("<HH", content, 26)
  content[30 + name + extra + 40] ^= 0xFF
  return bytes(content)


def zipped(files, path, **options):
  bad_inputs.write_zip(path, files, **options)
  return path.read_bytes()


ZIPS = {
  "no zip": lambda content: b"no zip",
  "nothing": lambda content: b"",
  "cut": lambda content: content[: len(content) // 2],
  "cut at the end": lambda content: content[:-5],
  "no start": lambda content: content[2000:],
  "checksum": damaged,
  "encrypted": lambda content: header(content, 6, 8, 1),
  "method": lambda content: header(content, 8, 10, 99),
  "deflate": lambda content: header(content, 8, 10, 8),
  "lzma": lambda content: header(content, 8, 10, 14),
  "version": lambda content: header(content, 4, 6, 255),
  "enormous": lambda content: header(content, 22, 24, 2**31 - 1, "<I"),
}
OF_ZIPS = [
  ("omniglot", "images_background_small1.zip"),
  ("one-shot runs", "all_runs.zip"),
]


@pytest.mark.parametrize(("reader", "name"), OF_ZIPS)
@pytest.mark.parametrize("kind", ZIPS)
def test_wrong_zips(tmp_path, capsys, reader, name, kind):
  root = tmp_path / "data"
  bad_inputs.make_omniglot(root)
  content = ZIPS[kind]((root / name).read_bytes())
  (root / name).write_bytes(content)
  config = bad_inputs.config_of(reader, root)
  line = bad_inputs.training_is_refused(config, tmp_path / "run", capsys)
  assert f"{root}/{name}" in line


def without(files, name):
  return {key: content for key, content in files.items() if key != name}


def labels(text):
  return lambda files: files | {"run01/class_labels.txt": text}


GREEK = "images_background/Greek/character01/0001_01.png"
RUN = "run01/test/item01.png run01/training/class01.png\n"
FILES = [
  ("omniglot", lambda files: {}),
  ("omniglot", lambda files: {"../../x.png": files[GREEK]}),
  ("omniglot", lambda files: files | {GREEK: b"no image"}),
  ("omniglot", lambda files: files | {GREEK: b""}),
  ("omniglot", lambda files: files | {GREEK: files[GREEK][:200]}),
  ("omniglot", lambda files: files | {GREEK: bad_inputs.drawing(1, (9, 9))}),
  ("omniglot", lambda files: files | {GREEK[:-6] + "1.png": files[GREEK]}),
  ("one-shot runs", lambda files: {}),
  ("one-shot runs", lambda files: {"../run01/x.png": b""}),
  ("one-shot runs", lambda files: {"run01/x.png": b""}),
  ("one-shot runs", lambda files: without(files, "run01/class_labels.txt")),
  ("one-shot runs", lambda files: without(files, "run01/test/item01.png")),
  ("one-shot runs", lambda files: without(files, "run02/training/class01.png")),
  ("one-shot runs", lambda files: files | {"run01/test/item01.png": b"x"}),
  (
    "one-shot runs",
    lambda files: files | {"run01/training/class03.png": bad_inputs.drawing(9)},
  ),
  ("one-shot runs", labels(b"")),
  ("one-shot runs", labels(b"\n\n")),
  ("one-shot runs", labels(b"run01/test/item01.png\n")),
  ("one-shot runs", labels(b"a b c\n")),
  ("one-shot runs", labels(RUN.replace("class01", "class09").encode())),
  ("one-shot runs", labels(RUN.replace("item01", "item09").encode())),
  ("one-shot runs", labels(RUN.replace("run01/tr", "run02/tr").encode())),
  ("one-shot runs", labels(RUN.replace("run01/tr", "../run01/tr").encode())),
  (
    "one-shot runs",
    labels(RUN.replace("test/item01", "class_labels").encode()),
  ),
  ("one-shot runs", labels((RUN + RUN.replace("s01", "s02")).encode())),
  (
    "one-shot runs",
    labels(RUN.replace("test/item", "training/class").encode()),
  ),
  ("one-shot runs", labels((RUN + "\xe9").encode("latin-1"))),
  ("one-shot runs", labels(RUN.encode("utf-16-le"))),
  ("one-shot runs", labels(b"\x89PNG\r\n\0\0")),
  ("one-shot runs", labels(b"x" * 100_000)),
]


@pytest.mark.parametrize(
  ("reader", "change"),
  FILES,
  ids=[f"{reader}-{n}" for n, (reader, _) in enumerate(FILES)],
)
def test_wrong_files_in_zips(tmp_path, capsys, reader, change):
  root = tmp_path / "data"
  bad_inputs.make_omniglot(root)
  name = dict(OF_ZIPS)[reader]
  if reader == "omniglot":
    files = bad_inputs.omniglot_files("Greek")
  else:
    files = bad_inputs.run_files()
  bad_inputs.write_zip(root / name, change(files))
  config = bad_inputs.config_of(reader, root)
  before = bad_inputs.snapshot(root)
  line = bad_inputs.training_is_refused(config, tmp_path / "run", capsys)
  assert str(root) in line or "run0" in line
  assert bad_inputs.snapshot(root) == before


def test_a_zip_is_written_nowhere(tmp_path):
  """Whatever its files are called; and what belongs to none is not read."""
  root = tmp_path / "a/b/data"
  bad_inputs.make_omniglot(root)
  path = root / "images_background_small1.zip"
  names = (
    "../../x.png",
    "/tmp/x.png",
    "..\\x.png",
    "../A/character01/1_01.png",
  )
  with zipfile.ZipFile(path, "a") as archive:
    for name in names:
      archive.writestr(name, bad_inputs.drawing(5))
  before = bad_inputs.snapshot(tmp_path)
  source = omniglot.OmniglotSource(str(root), "small1")
  omniglot.OneShotRunsSource(str(root))
  assert len(source) == 7 and source.alphabets == ("A", "Greek")
  assert bad_inputs.snapshot(tmp_path) == before


@pytest.mark.parametrize(
  "kind",
  ["missing", "empty", "hidden", "pipe", "device", "others", "long", "nothing"],
)
def test_inputs_of_prediction(tmp_path, capsys, kind):
  folder = tmp_path / "in"
  folder.mkdir()
  inputs = [str(folder)]
  if kind == "missing":
    inputs = [str(folder / "x.png")]
  elif kind == "hidden":
    bad_inputs.save_image(folder / "._x.png")
    bad_inputs.save_image(folder / ".ipynb_checkpoints/x.png")
  elif kind == "pipe":
    os.mkfifo(folder / "x.png")
    inputs = [str(folder / "x.png")]
  elif kind == "device":
    inputs = ["/dev/zero"]
  elif kind == "others":
    (folder / "notes.txt").write_text("x")
    os.mkfifo(folder / "x.png")
  elif kind == "long":
    inputs = ["x" * 5000]
  elif kind == "nothing":
    inputs = []
  config = bad_inputs.config_of("semantic", tmp_path)
  run = tmp_path / "run"
  run.mkdir()

  def call():
    predict.predict(config, str(run), inputs, str(tmp_path / "out"))

  line = bad_inputs.refused(call, capsys)
  assert "--input" in line or inputs[0][:99] in line
  assert not bad_inputs.snapshot(run) and not (tmp_path / "out").exists()
