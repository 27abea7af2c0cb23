"""data.skip_broken: what is broken is left out and named, by every reader."""

import io
import json
import shutil
import zipfile

import numpy as np
import pytest
from PIL import Image

from segsiam_jax import inputs
from segsiam_jax.config import default_config, validate
from segsiam_jax.data.identity import sets
from segsiam_jax.data.instance.coco import CocoSource
from segsiam_jax.data.instance.label_images import InstanceFolderSource
from segsiam_jax.data.semantic.sources import FolderOptions, FolderSource
from segsiam_jax.errors import UserError
from tests import bad_inputs
from tests.data.instance.coco_files import make_coco

HINT = "leave out what is broken with --config.data.skip_broken=True"


def noise(path, seed=0, size=(32, 24), values=256):
  path.parent.mkdir(parents=True, exist_ok=True)
  rng = np.random.default_rng(seed)
  pixels = rng.integers(0, values, size[::-1], np.uint8)
  Image.fromarray(pixels).save(path)
  return path


def truncate(path):
  content = path.read_bytes()
  path.write_bytes(content[: len(content) * 2 // 3])


def opens(kind, root, skip):
  if kind == "semantic":
    options = FolderOptions(("a", "b"), skip_broken=skip)
    return FolderSource(str(root), "train", options)
  if kind == "instance":
    return InstanceFolderSource(str(root), "train", ("a",), skip_broken=skip)
  return sets.open_identities(kind, "train", str(root), skip)


def make_folder(root, kind):
  """Six examples, two of each of three faults that a folder can have."""
  labels = {"semantic": "masks", "instance": "labels"}[kind]
  folder = root / "train"
  for number in range(6):
    noise(folder / f"images/{number}.jpg", number)
    noise(folder / f"{labels}/{number}.png", number, values=2)
  truncate(folder / "images/1.jpg")
  noise(folder / f"{labels}/3.png", size=(31, 24), values=2)
  (folder / f"{labels}/5.png").unlink()


@pytest.mark.parametrize("kind", ["semantic", "instance"])
def test_folders_of_labels(tmp_path, kind, caplog):
  make_folder(tmp_path, kind)
  for name, message in (
    ("5", "no mask for 1 of 6 images, the first 5.jpg"),
    ("1", "1.jpg: not a readable image"),
    ("3", "3.png: the mask is 24x31, but its image 3.jpg is 24x32"),
  ):
    with pytest.raises(UserError, match=message) as caught:
      opens(kind, tmp_path, False)
    assert HINT in str(caught.value)
    for file in (tmp_path / "train").rglob(f"{name}.*"):
      file.unlink()
  assert len(opens(kind, tmp_path, False)) == 3
  assert not caplog.messages
  make_folder(tmp_path, kind)
  source = opens(kind, tmp_path, True)
  assert source.ids == ("0.jpg", "2.jpg", "4.jpg")
  assert [source[n]["image"].shape for n in range(3)] == [(24, 32, 1)] * 3
  (message,) = caplog.messages
  assert "3 of 6 examples are broken and left out" in message
  for name in ("1.jpg", "3.png", "5.jpg"):
    assert name in message


def test_nothing_that_can_be_used_is_an_error(tmp_path):
  make_folder(tmp_path, "semantic")
  for number in (0, 2, 4):
    truncate(tmp_path / f"train/images/{number}.jpg")
  with pytest.raises(UserError, match="all of 6 examples are broken, the fi"):
    opens("semantic", tmp_path, True)


def make_people(root):
  for person in ("Ada", "Bob", "Cy"):
    for number in range(3):
      seed = 10 * ord(person[0]) + number
      noise(root / f"train/{person}/{number}.jpg", seed)


@pytest.mark.parametrize("kind", ["folder", "pages", "pairs"])
def test_truncated_images_of_identities(tmp_path, kind, caplog):
  """Found only by decoding: at opening where that is asked for."""
  make_people(tmp_path)
  names = ("Ada/0", "Ada/1", "Ada/2", "Bob/0")
  rows = [(0, 1, 1), (1, 2, 1), (0, 3, 0), (1, 3, 0)]
  lines = [f"train/{names[a]}.jpg,train/{names[b]}.jpg,{s}" for a, b, s in rows]
  (tmp_path / "train.csv").write_text(
    "\n".join(["first,second,same", *lines, lines[0]])
  )
  whole = opens(kind, tmp_path, False)
  truncate(tmp_path / "train/Ada/1.jpg")
  source = opens(kind, tmp_path, False)
  with pytest.raises(UserError, match=r"1\.jpg: not a readable image") as e:
    for index in range(len(source)):
      source[index]
  assert HINT in str(e.value)
  source = opens(kind, tmp_path, True)
  copies = 5 if kind == "pages" else 1
  assert len(source) == len(whole) - copies
  for index in range(len(source)):
    assert source[index]["label"] == source.labels[index]
  (message,) = caplog.messages
  assert "1 of " in message and "Ada/1.jpg: not a readable" in message
  if kind == "pairs":
    pairs = source.pairs
    assert pairs.same.tolist() == [False]
    named = [source.ids[n] for n in (pairs.first[0], pairs.second[0])]
    assert named == ["train/Ada/0.jpg", "train/Bob/0.jpg"]


def test_identities_of_which_nothing_is_left(tmp_path, caplog):
  make_people(tmp_path)
  shutil.rmtree(tmp_path / "train/Ada")
  (tmp_path / "train/Ada").mkdir()
  for path in (tmp_path / "train/Bob").iterdir():
    truncate(path)
  noise(tmp_path / "train/Dan/1.png", 7)
  with pytest.raises(UserError, match=rf"Ada: no image files.*{HINT}"):
    opens("folder", tmp_path, False)
  source = opens("folder", tmp_path, True)
  assert source.class_names == ("Cy", "Dan")
  assert source.labels.tolist() == [0, 0, 0, 1]
  assert source.ids[3] == "Dan/1.png"
  assert "4 of 8 examples are broken" in caplog.text


def test_images_that_a_list_names(tmp_path, caplog):
  make_people(tmp_path)
  lines = "first,second,same\ntrain/Ada/0.jpg,train/Ada/9.jpg,1\n"
  lines += "train/Ada/0.jpg,train/Ada/1.jpg,1\n"
  (tmp_path / "train.csv").write_text(lines)
  with pytest.raises(UserError, match=rf"line 2: no image .*9.jpg.*{HINT}"):
    opens("pairs", tmp_path, False)
  assert opens("pairs", tmp_path, True).pairs.same.tolist() == [True]
  (tmp_path / "labels").mkdir()
  (tmp_path / "train").rename(tmp_path / "images")
  (tmp_path / "labels/train.txt").write_text("Ada/0.jpg 3\nAda/8.jpg 1\n")
  with pytest.raises(UserError, match=rf"line 2: no image .*8.jpg.*{HINT}"):
    opens("pages", tmp_path, False)
  assert opens("pages", tmp_path, True).class_names == ("Ada/0.jpg",)
  assert len(caplog.messages) == 2


def test_lfw(tmp_path, caplog):
  for person in ("Ada", "Bob"):
    for number in (1, 2, 3):
      name = f"lfw/{person}/{person}_000{number}.jpg"
      noise(tmp_path / name, 10 * ord(person[0]) + number)
  (tmp_path / "people.txt").write_text("2\nAda\t3\nBob\t3\n")
  (tmp_path / "pairs.txt").write_text(
    "2\nAda 1 2\nAda 1 3\nAda 2 Bob 1\nAda 3 Bob 2\n"
  )
  truncate(tmp_path / "lfw/Ada/Ada_0002.jpg")
  people = sets.open_identities("lfw", "people", str(tmp_path), True)
  assert len(people) == 5
  (tmp_path / "lfw/Bob/Bob_0002.jpg").unlink()
  for split in ("people", "pairs"):
    with pytest.raises(UserError, match=f"Bob.*{HINT}"):
      sets.open_identities("lfw", split, str(tmp_path))
  pairs = sets.open_identities("lfw", "pairs", str(tmp_path), True)
  assert pairs.pairs.same.tolist() == [True]
  assert len(caplog.messages) == 2


def test_cedar(tmp_path, caplog):
  for folder, name in (("full_org", "original"), ("full_forg", "forgeries")):
    for writer in (1, 2):
      for number in (1, 2, 3):
        path = tmp_path / folder / f"{name}_{writer}_{number}.png"
        noise(path, 100 * len(name) + 10 * writer + number)
  truncate(tmp_path / "full_forg/forgeries_2_2.png")
  source = sets.open_identities("cedar", "all", str(tmp_path), True)
  assert len(source) == 11 and len(source.class_names) == 7
  assert "forgeries_2_2.png: not a readable" in caplog.text
  for first, second, same in zip(*source.pairs[:3], strict=True):
    assert (source.labels[first] == source.labels[second]) == same


def png(seed, size=(105, 105)):
  buffer = io.BytesIO()
  rng = np.random.default_rng(seed)
  Image.fromarray(rng.random(size[::-1]) < 0.5).save(buffer, "PNG")
  return buffer.getvalue()


def make_omniglot(path, bad):
  with zipfile.ZipFile(path, "w") as archive:
    for number in range(1, 5):
      name = f"images_background/Greek/character0{number % 2}/1_{number}.png"
      archive.writestr(name, bad.get(number, png(number)))


def test_omniglot(tmp_path, caplog):
  path = tmp_path / "images_background.zip"
  make_omniglot(path, {2: png(2)[:60], 3: png(3, (105, 99))})
  with pytest.raises(UserError, match=rf"1_2.png: not a .*{HINT}"):
    sets.open_identities("omniglot", "background", str(tmp_path))
  source = sets.open_identities("omniglot", "background", str(tmp_path), True)
  assert source.drawers.tolist() == [4, 1]
  assert source.class_names == ("Greek/character00", "Greek/character01")
  assert "2 of 4 drawings are broken and left out" in caplog.text


def test_one_shot_runs(tmp_path, caplog):
  with zipfile.ZipFile(tmp_path / "all_runs.zip", "w") as archive:
    for run in ("run01", "run02", "run03"):
      for number in (1, 2):
        archive.writestr(f"{run}/training/class{number}.png", png(number))
        archive.writestr(f"{run}/test/item{number}.png", png(9 + number))
      lines = [
        f"{run}/test/item{n}.png {run}/training/class{n}.png" for n in "12"
      ]
      text = "\n".join(lines) if run != "run02" else lines[0] + "9"
      archive.writestr(f"{run}/class_labels.txt", text)
  with pytest.raises(UserError, match=rf"run02.*, line 1: .*{HINT}"):
    sets.open_identities("omniglot", "one_shot_runs", str(tmp_path))
  source = sets.open_identities(
    "omniglot", "one_shot_runs", str(tmp_path), True
  )
  assert len(source) == 8 and len(source.episodes.query) == 4
  assert "1 of 3 runs are broken and left out" in caplog.text


def test_coco(tmp_path, caplog):
  file, content = make_coco(tmp_path)
  (a, b, *_), images = content["annotations"], content["images"]
  for number, name in enumerate("defg", 20):
    shutil.copy(tmp_path / "val/a.png", tmp_path / f"val/{name}.png")
    images.append(images[0] | {"id": number, "file_name": f"{name}.png"})
    content["annotations"].append(a | {"id": number, "image_id": number})
  total = len(content["annotations"])
  content["annotations"] += [
    a | {"id": 100, "segmentation": [[1, 2, 3, 4]]},
    a | {"id": 101, "bbox": [1, 2, float("nan"), 4]},
    b | {"id": 102, "image_id": 4242},
  ]
  file.write_text(json.dumps(content))
  with pytest.raises(UserError, match=f"annotation 100: a polygon.*{HINT}"):
    CocoSource(str(tmp_path), "val")
  truncate(tmp_path / "val/d.png")
  (tmp_path / "val/e.png").unlink()
  Image.new("L", (3, 4)).save(tmp_path / "val/f.png")
  images[-1]["height"] = -5
  file.write_text(json.dumps(content))
  source = CocoSource(str(tmp_path), "val", skip_broken=True)
  assert source.ids == ("b.png", "c.png", "a.png")
  assert [len(source[n]["objects"].boxes) for n in range(3)] == [1, 0, 2]
  said = [text for text in caplog.messages if "broken and left" in text]
  assert len(said) == 2
  assert f"3 of {total + 3} annotations are broken" in said[0]
  for number in ("100", "101", "102"):
    assert f"annotation {number}: " in said[0]
  assert "4 of 7 images are broken" in said[1]
  for name in ("d.png", "e.png", "f.png", "height -5"):
    assert name in said[1]


def test_coco_decodes_nothing_unless_it_is_asked_to(tmp_path):
  make_coco(tmp_path)
  truncate(tmp_path / "val/b.png")
  source = CocoSource(str(tmp_path), "val")
  with pytest.raises(UserError, match=rf"b\.png: not a readable.*{HINT}"):
    source[0]


@pytest.mark.parametrize("reader", ["coco", "identities"])
def test_a_run_that_comes_to_a_broken_file_says_how_to_go_on(tmp_path, reader):
  bad_inputs.READERS[reader][0](tmp_path)
  paths = (tmp_path / "test").rglob("*.png")
  truncate(min(paths))
  config = bad_inputs.config_of(reader, tmp_path)
  batches = inputs.open_inputs(config, train=False).batches
  with pytest.raises(UserError, match=rf"\.png: not a readable.*{HINT}") as e:
    list(batches)
  assert "\n" not in str(e.value)
  config.data.skip_broken = True
  list(inputs.open_inputs(config, train=False).batches)


@pytest.mark.parametrize(
  ("task", "model"),
  [("semantic", "unet"), ("instance", "mask_rcnn"), ("siamese", "koch")],
)
def test_only_files_can_be_left_out(task, model):
  config = default_config(task, model)
  config.data.skip_broken = True
  with pytest.raises(UserError, match="skip_broken.*: only data sets of files"):
    validate(config)
