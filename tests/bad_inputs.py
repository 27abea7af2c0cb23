"""Small data sets of every reader, and the command line run on them."""

import io
import json
import logging
import pathlib
import re
import time
import zipfile
from collections.abc import Callable

import ml_collections
import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from segsiam_jax import command_line, train
from segsiam_jax.config import default_config, validate

SIZE = (20, 30)
SPLITS = ("train", "test")
# What the log prints; everything else on stderr is the error.
_LOGGED = re.compile(r"\d\d:\d\d:\d\d ")


def save_image(path: pathlib.Path, seed: int = 0, size=SIZE, values=256):
  """(height, width) of random grey; each seed is another image."""
  path.parent.mkdir(parents=True, exist_ok=True)
  rng = np.random.default_rng(seed)
  Image.fromarray(rng.integers(0, values, size, np.uint8)).save(path)


def _seed(split: str, number: int) -> int:
  return 100 * SPLITS.index(split) + number


def make_semantic(root, labels="masks"):
  for split in SPLITS:
    for number in range(3):
      seed = _seed(split, number)
      save_image(root / split / f"images/{number}.png", seed)
      save_image(root / split / f"{labels}/{number}.png", seed, values=2)


def make_objects(root):
  make_semantic(root, "labels")


def make_classes(root):
  make_semantic(root, "labels")
  for split in SPLITS:
    lines = [f"{n},1,{'cat' if n else 'dog'}" for n in range(3)]
    text = "\n".join(["image,label,class", *lines])
    (root / split / "classes.csv").write_text(text)


def make_volumes(root):
  for split in SPLITS:
    for kind, most in (("images", 256), ("masks", 2)):
      (root / split / kind).mkdir(parents=True)
      rng = np.random.default_rng(_seed(split, 0))
      volume = rng.integers(0, most, (4, *SIZE), np.uint8)
      np.save(root / split / kind / "0.npy", volume)


def coco_content(split="train"):
  """Three images; polygons, run lengths in a list and compressed, a crowd."""
  pixels = SIZE[0] * SIZE[1]
  images = [
    {
      "id": number,
      "file_name": f"{number}.png",
      "height": SIZE[0],
      "width": SIZE[1],
    }
    for number in (1, 2, 3)
  ]
  one = {"image_id": 1, "category_id": 7, "bbox": [2, 3, 9, 8], "area": 50}
  runs = {"size": list(SIZE), "counts": [40, 10, pixels - 50]}
  packed = coco_mask.frPyObjects(runs, *SIZE)["counts"].decode()
  polygon = [[2, 3, 11, 3, 11, 11, 2, 11]]
  return {
    "images": images,
    "categories": [{"id": 7, "name": "cat"}, {"id": 9, "name": "dog"}],
    "annotations": [
      one | {"id": 1, "segmentation": polygon},
      one | {"id": 2, "image_id": 2, "iscrowd": 1, "segmentation": runs},
      one
      | {"id": 3, "category_id": 9, "segmentation": runs | {"counts": packed}},
    ],
  }


def make_coco(root):
  (root / "annotations").mkdir(parents=True)
  for split in SPLITS:
    content = json.dumps(coco_content(split))
    (root / f"annotations/instances_{split}.json").write_text(content)
    for number in (1, 2, 3):
      save_image(root / split / f"{number}.png", _seed(split, number))


def make_people(root):
  for split, people in zip(
    SPLITS, (("ada", "bob"), ("cy", "dan")), strict=True
  ):
    for number, person in enumerate(people):
      for image in range(3):
        seed = _seed(split, 10 * number + image)
        save_image(root / split / person / f"{image}.png", seed)


def make_pairs(root):
  make_people(root)
  for split, (one, other) in zip(
    SPLITS, (("ada", "bob"), ("cy", "dan")), strict=True
  ):
    rows = [
      (f"{split}/{one}/0.png", f"{split}/{one}/1.png", 1),
      (f"{split}/{other}/0.png", f"{split}/{other}/1.png", 1),
      (f"{split}/{one}/0.png", f"{split}/{other}/0.png", 0),
    ]
    lines = [f"{first},{second},{same},0" for first, second, same in rows]
    text = "\n".join(["first,second,same,fold", *lines])
    (root / f"{split}.csv").write_text(text + "\n")


def make_pages(root):
  for split in SPLITS:
    for number in range(3):
      save_image(root / split / f"{split}/{number}.png", _seed(split, number))


def make_listed_pages(root):
  (root / "labels").mkdir(parents=True)
  for split in SPLITS:
    for number in range(3):
      name = f"images/{split}{number}.png"
      save_image(root / name, _seed(split, number))
    lines = [f"{split}{number}.png {number}" for number in range(3)]
    (root / f"labels/{split}.txt").write_text("\n".join(lines))


def make_lfw(root):
  people = ("Ada", "Bob", "Cy", "Dan")
  for number, person in enumerate(people):
    for image in (1, 2):
      name = f"lfw/{person}/{person}_000{image}.jpg"
      save_image(root / name, 10 * number + image)
  (root / "peopleDevTrain.txt").write_text("2\nAda\t2\nBob\t2\n")
  (root / "people.txt").write_text("2\n1\nAda 2\n1\nBob 2\n")
  (root / "pairsDevTest.txt").write_text(
    "2\nCy\t1\t2\nDan\t1\t2\nCy\t1\tDan\t1\nCy\t2\tDan\t2\n"
  )


def make_cedar(root):
  for folder, name in (("full_org", "original"), ("full_forg", "forgeries")):
    for writer in range(1, 5):
      for number in range(1, 4):
        path = root / folder / f"{name}_{writer}_{number}.png"
        save_image(path, 100 * len(name) + 10 * writer + number)


def drawing(seed: int, size=(105, 105)) -> bytes:
  """The PNG of a drawing of Omniglot."""
  buffer = io.BytesIO()
  rng = np.random.default_rng(seed)
  Image.fromarray(rng.random(size) < 0.5).save(buffer, "PNG")
  return buffer.getvalue()


def omniglot_files(alphabet: str) -> dict[str, bytes]:
  return {
    f"images_background/{alphabet}/character0{c}/000{c}_0{d}.png": drawing(
      100 * len(alphabet) + 10 * c + d
    )
    for c in (1, 2)
    for d in (1, 2, 3)
  }


def run_files() -> dict[str, bytes]:
  files = {}
  for run in ("run01", "run02"):
    for n in (1, 2):
      files[f"{run}/training/class0{n}.png"] = drawing(n)
      files[f"{run}/test/item0{n}.png"] = drawing(10 + n)
    lines = (
      f"{run}/test/item0{n}.png {run}/training/class0{n}.png" for n in (1, 2)
    )
    files[f"{run}/class_labels.txt"] = "\n".join(lines).encode()
  return files


def write_zip(path: pathlib.Path, files: dict[str, bytes], **options):
  with zipfile.ZipFile(path, "w", **options) as archive:
    for name, content in files.items():
      archive.writestr(name, content)


def make_omniglot(root):
  root.mkdir(parents=True, exist_ok=True)
  write_zip(root / "images_background_small1.zip", omniglot_files("Greek"))
  write_zip(root / "images_evaluation.zip", omniglot_files("Angelic"))
  write_zip(root / "all_runs.zip", run_files())


def _semantic(**data):
  config = default_config("semantic", "unet")
  config.data.update(name="folder", class_names=("a", "b"), **data)
  config.data.image_size = (16, 16)
  config.model.update(depth=1, base_width=2)
  return config


def _instance(name, class_names=()):
  config = default_config("instance", "mask_rcnn")
  config.data.update(name=name, class_names=class_names, buckets=("64x64",))
  config.data.eval_buckets = ()
  return config


def _siamese(name, train_split="train", eval_split="test"):
  config = default_config("siamese", "conv4")
  config.data.update(name=name, train_split=train_split, eval_split=eval_split)
  config.batch.per_identity = 2
  config.loss.triplet = 1.0
  return config


# How to make a data set, and the config that reads it.
READERS: dict[str, tuple[Callable, Callable[[], ml_collections.ConfigDict]]] = {
  "semantic": (make_semantic, _semantic),
  "semantic objects": (make_objects, lambda: _semantic(masks="instances")),
  "objects": (make_objects, lambda: _instance("folder", ("cell",))),
  "classes": (make_classes, lambda: _instance("folder", ("cat", "dog"))),
  "coco": (make_coco, lambda: _instance("coco")),
  "identities": (make_people, lambda: _siamese("folder")),
  "pairs": (make_pairs, lambda: _siamese("pairs")),
  "pages": (make_pages, lambda: _siamese("pages")),
  "listed pages": (make_listed_pages, lambda: _siamese("pages")),
  "lfw": (make_lfw, lambda: _siamese("lfw", "peopleDevTrain", "pairsDevTest")),
  "lfw folds": (make_lfw, lambda: _siamese("lfw", "people", "pairsDevTest")),
  "cedar": (
    make_cedar,
    lambda: _siamese("cedar", "genuine[writers=:2]", "all[writers=2:]"),
  ),
  "omniglot": (
    make_omniglot,
    lambda: _siamese("omniglot", "small1", "evaluation"),
  ),
  "one-shot runs": (
    make_omniglot,
    lambda: _siamese("omniglot", "small1", "one_shot_runs"),
  ),
}


def config_of(reader: str, root: pathlib.Path) -> ml_collections.ConfigDict:
  """The config that reads a reader's data set in `root`."""
  config = READERS[reader][1]()
  config.data.dir = str(root)
  config.train.update(batch_size=4, eval_batch_size=4, num_steps=1)
  return config


def snapshot(folder: pathlib.Path) -> dict[str, bytes | None]:
  """Everything below a folder, with the content of its files."""
  return {
    str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
    for path in sorted(folder.rglob("*"))
  }


def refused(function: Callable[[], object], capsys) -> str:
  """Runs a command; it must end as bad input does, at once. Returns the line.

  Args:
    function: what main would run.
    capsys: pytest's.
  """
  logger = logging.getLogger("segsiam_jax")
  before = logger.handlers, logger.propagate, logger.level
  capsys.readouterr()
  start, code = time.monotonic(), 0
  try:
    command_line.run(function, ["main"])
  except SystemExit as end:
    code = end.code
  finally:
    logger.handlers, logger.propagate = before[:2]
    logger.setLevel(before[2])
  seconds = time.monotonic() - start
  out, err = capsys.readouterr()
  assert code == command_line.EXIT_BAD_INPUT, f"exit code {code}: {err}"
  lines = [line for line in err.splitlines() if not _LOGGED.match(line)]
  assert len(lines) == 1, err
  assert lines[0].startswith("error: ") and "Traceback" not in err
  assert not out and seconds < 10
  assert len(lines[0]) < 1500
  return lines[0]


def training_is_refused(config, workdir: pathlib.Path, capsys) -> str:
  """Trains; the data must be refused, and the workdir stay as it is."""
  workdir.mkdir()
  (workdir / "kept.txt").write_text("mine")
  before = snapshot(workdir)

  def run():
    validate(config)
    train.train_and_evaluate(config, str(workdir))

  line = refused(run, capsys)
  assert snapshot(workdir) == before
  return line
