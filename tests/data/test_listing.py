"""Which files are images, and whose names are the same."""

import os

import numpy as np
import pytest
from PIL import Image

from segsiam_jax.data import decode, listing
from segsiam_jax.data.identity import documents, image_files, lfw, pair_list
from segsiam_jax.data.instance.label_images import InstanceFolderSource
from segsiam_jax.data.semantic.sources import FolderOptions, FolderSource
from segsiam_jax.errors import UserError


def save(path, value=0):
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.new("L", (4, 4), value).save(path)


def clutter(folder):
  """What programs and mistakes leave in a folder of images."""
  folder.mkdir(parents=True, exist_ok=True)
  for name in ("._1.png", ".DS_Store", ".hidden.jpg", "notes.txt"):
    (folder / name).write_bytes(b"no image")
  save(folder / ".ipynb_checkpoints/1-checkpoint.png")
  (folder / "folder.png").mkdir()
  os.mkfifo(folder / "pipe.png")
  (folder / "nowhere.png").symlink_to(folder / "gone.png")
  (folder / "device.png").symlink_to("/dev/zero")
  save(folder / "old.tga")
  save(folder / "gone.pcx")


def test_images_of_a_folder(tmp_path, caplog):
  clutter(tmp_path)
  save(tmp_path / "b.PNG")
  save(tmp_path / "far/c.png")
  (tmp_path / "a.png").symlink_to(tmp_path / "far/c.png")
  for _ in range(2):
    found = [path.name for path in listing.list_images(tmp_path)]
    assert found == ["a.png", "b.PNG"]
  # Each kind is named, and once.
  said = sorted(message.partition(": ")[2] for message in caplog.messages)
  assert len(said) == 3
  assert said[0].startswith("1 files of .pcx are left out, the first gone.pcx")
  assert said[1].startswith("1 files of .tga are left out, the first old.tga")
  assert said[2].startswith("3 that are not regular files")


def test_every_reader_lists_alike(tmp_path):
  """Clutter beside the images changes no source."""
  for kind, value in (("images", 9), ("masks", 1), ("labels", 3)):
    save(tmp_path / "train" / kind / "1.png", value)
    clutter(tmp_path / "train" / kind)
  for person in ("Ada", "Bob"):
    save(tmp_path / "people" / person / f"{person}_0001.jpg")
    clutter(tmp_path / "people" / person)
  (tmp_path / "people/folder.png").mkdir()
  save(tmp_path / "people/.ipynb_checkpoints/1.png")
  names = ("background", "object")
  assert len(FolderSource(str(tmp_path), "train", FolderOptions(names))) == 1
  assert len(InstanceFolderSource(str(tmp_path), "train", ("object",))) == 1
  (tmp_path / "people/folder.png").rmdir()
  folder = image_files.open_identity_folder(str(tmp_path), "people")
  assert folder.ids == ("Ada/Ada_0001.jpg", "Bob/Bob_0001.jpg")
  pages = documents.PagesSource(str(tmp_path), "people")
  assert pages.class_names == folder.ids
  (tmp_path / "people.txt").write_text("2\nAda\t1\nBob\t1\n")
  (tmp_path / "people").rename(tmp_path / "lfw")
  assert lfw.open_lfw(str(tmp_path), "people").ids == folder.ids


@pytest.mark.parametrize("disk", ["e\u0301", "\xe9"])
def test_partners_are_found_however_letters_are_encoded(tmp_path, disk):
  typed = {"e\u0301": "\xe9", "\xe9": "e\u0301"}[disk]
  save(tmp_path / f"train/images/{disk}.png")
  save(tmp_path / f"train/masks/{typed}.png", 1)
  save(tmp_path / f"train/labels/{typed}.png", 1)
  source = FolderSource(str(tmp_path), "train", FolderOptions(("a", "b")))
  assert source.label(0).all()
  (tmp_path / "train/classes.csv").write_text(
    f"image,label,class\n{disk}.png,1,b\n", encoding="utf-8"
  )
  source = InstanceFolderSource(str(tmp_path), "train", ("a", "b"))
  np.testing.assert_array_equal(source.annotations(0).classes, [2])
  save(tmp_path / f"train/masks/{disk}.png", 1)
  with pytest.raises(UserError, match="a second mask"):
    FolderSource(str(tmp_path), "train", FolderOptions(("a", "b")))


@pytest.mark.parametrize("name", ["x.png", "x.npy", "x.tif"])
def test_pipes_and_folders_are_never_opened(tmp_path, name):
  path = tmp_path / name
  os.mkfifo(path)
  with pytest.raises(ValueError, match="not a regular file"):
    decode.decode(path)
  path.unlink()
  path.mkdir()
  with pytest.raises(ValueError, match="not a regular file"):
    decode.decode(path)
  with pytest.raises(UserError, match=f"{name}: not a readable image"):
    image_files.ImageFiles(tmp_path, [path], [0], ["a"])


def test_names_as_long_as_file_systems_allow(tmp_path):
  long = "\xe9" * 123 + ".png"
  assert len(long.encode()) == 250
  for kind, value in (("images", 9), ("masks", 1), ("labels", 3)):
    save(tmp_path / "train" / kind / long, value)
  for number, person in enumerate(("a", "b" * 250)):
    for image in ("0" + long[:-5] + long[-4:], long):
      save(tmp_path / "people" / person / image, 10 * number + len(image))
  assert (
    len(FolderSource(str(tmp_path), "train", FolderOptions(("a", "b")))) == 1
  )
  assert len(InstanceFolderSource(str(tmp_path), "train", ("object",))) == 1
  names = [f"people/{person}/{long}" for person in ("a", "b" * 250)]
  (tmp_path / "p.csv").write_text(
    f"first,second,same\n{names[0]},{names[1]},0\n", encoding="utf-8"
  )
  assert pair_list.open_pair_list(str(tmp_path), "p").ids == tuple(names)
  assert len(image_files.open_identity_folder(str(tmp_path), "people")) == 4
  assert len(documents.PagesSource(str(tmp_path), "people")) == 20
