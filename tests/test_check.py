"""`--mode=check`: all problems by name, and a config that can be trained."""

import importlib.util
import logging
import shutil

import numpy as np
import pytest
from PIL import Image

from configs import semantic as config_file
from segsiam_jax import check
from segsiam_jax.config import default_config, validate
from segsiam_jax.errors import UserError
from segsiam_jax.inputs import checkup, plan


def no_progress(what, count):
  return lambda: None


@pytest.fixture
def folder(blobs, tmp_path):
  root = tmp_path / "data"
  shutil.copytree(blobs, root)
  return root


def config_of(root):
  config = config_file.get_config("unet,encoder=plain,depth=2,base_width=4")
  config.data.dir = str(root)
  validate(config)
  return config


def kinds(found):
  return {each.kind for each in found.findings}


def test_good_data_have_no_findings_and_a_config(folder, tmp_path):
  config = config_of(folder)
  check.check(config, str(tmp_path / "run"))
  path = tmp_path / "run" / checkup.CONFIG_FILE
  spec = importlib.util.spec_from_file_location("checked", path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  suited = module.get_config()
  validate(suited)
  assert suited.data.image_size == (32, 32) and not suited.data.auto
  assert suited.data.class_names == ("class 0", "class 1")
  assert len(suited.data.mean) == suited.data.channels == 3
  assert "train: 12 examples" in module.__doc__
  assert config.data.auto and config.data.image_size == (64, 64)


def spoil_image(root):
  (root / "train/images/003.png").write_bytes(b"not an image")


def spoil_size(root):
  Image.fromarray(np.zeros((9, 9), np.uint8)).save(root / "train/masks/004.png")


def spoil_mask(root):
  (root / "test/masks/001.png").unlink()


def copy_within(root):
  shutil.copy(root / "train/images/000.png", root / "train/images/001.png")


def copy_across(root):
  shutil.copy(root / "train/images/000.png", root / "test/images/000.png")


def spoil_all(root):
  shutil.rmtree(root / "test")


@pytest.mark.parametrize(
  ("spoil", "kind", "name", "fatal"),
  [
    (spoil_image, "unusable", "train/images/003.png", True),
    (spoil_size, "unusable", "train/masks/004.png", True),
    (spoil_mask, "unusable", "test/images/001.png", True),
    (copy_within, "copies in a split", "train/images/001.png", False),
    (copy_across, "copies in both splits", "test/images/000.png", False),
    (spoil_all, "cannot be opened", "test/images", True),
  ],
)
def test_problems_are_named_and_none_invented(
  folder, tmp_path, spoil, kind, name, fatal
):
  spoil(folder)
  found = checkup.check(config_of(folder), str(tmp_path), no_progress)
  assert kinds(found) == {kind}
  [finding] = found.findings
  assert name in finding.what and finding.fatal == fatal


def test_all_problems_come_together(folder, tmp_path, caplog):
  for spoil in (spoil_image, spoil_size, spoil_mask, copy_within):
    spoil(folder)
  caplog.set_level(logging.INFO, logger="segsiam_jax")
  with pytest.raises(UserError, match="3 problems.*the first: .*003"):
    check.check(config_of(folder), str(tmp_path / "run"))
  for line in ("ERROR: unusable (3)", "warning: copies in a split"):
    assert line in caplog.text
  assert (tmp_path / "run" / checkup.CONFIG_FILE).exists()


def test_identities_of_a_folder_without_splits(tmp_path, rng):
  for person in "abcdefghij":
    (tmp_path / person).mkdir()
    for number in range(2 if person == "a" else 3):
      pixels = rng.integers(0, 256, (40, 40), np.uint8)
      Image.fromarray(pixels).save(tmp_path / person / f"{number}.pgm")
  config = default_config("siamese", "encoder")
  config.data.update(name="folder", dir=str(tmp_path), auto=True)
  config.data.singles = "drop"
  found = checkup.check(config, str(tmp_path / "run"), no_progress)
  lines = found.facts["train"] + found.facts["eval"]
  assert "8 identities" in lines and "2 identities" in lines
  assert found.config.data.channels == 1
  assert found.config.data.image_size == (32, 32)


def test_what_is_chosen_by_the_data(tmp_path):
  rng = np.random.default_rng(0)
  arrays = [rng.integers(0, 4000, (40, 70, 1)).astype(np.uint16) for _ in "ab"]
  paths = [tmp_path / f"{number}.npy" for number in range(2)]
  for path, array in zip(paths, arrays, strict=True):
    np.save(path, array)
  found = plan.survey(paths)
  both = np.concatenate(arrays).astype(np.float64)
  assert found.dtype == "uint16" and found.channels == 1
  assert found.mean[0] == pytest.approx(both.mean(), abs=0.01)
  assert found.std[0] == pytest.approx(both.std(), abs=0.01)
  assert plan.crop_size(found.sizes) == (32, 64)
  np.save(paths[1], arrays[1].astype(np.uint8))
  with pytest.raises(UserError, match="convert them to one type"):
    plan.survey(paths)


def test_a_run_keeps_what_was_chosen_when_it_began(folder, tmp_path):
  from segsiam_jax.engine import runs

  config = config_of(folder)
  first = plan.planned(config, str(tmp_path))
  runs.save_config(first, str(tmp_path))
  white = np.full((32, 32, 3), 255, np.uint8)
  Image.fromarray(white).save(folder / "train/images/000.png")
  assert plan.planned(config, str(tmp_path)).data.mean == first.data.mean
  assert plan.planned(config, str(tmp_path / "x")).data.mean != first.data.mean
  config.data.mean = (1.0, 2.0, 3.0)
  assert plan.planned(config, str(tmp_path)).data.mean == (1.0, 2.0, 3.0)
