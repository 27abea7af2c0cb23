"""Rows of semantic examples: sizes, crops and pixel weights."""

import numpy as np
import pytest
from PIL import Image

from segsiam_jax.data.semantic.rows import SemanticRows, connected_parts
from segsiam_jax.data.semantic.sources import FolderOptions, FolderSource
from segsiam_jax.errors import UserError
from segsiam_jax.losses import unet_weight_map


def rows(**changes):
  settings = {"image_size": (16, 16), "channels": 1, "fit": "crop"}
  return SemanticRows(**(settings | {"train": True} | changes))


def example(label):
  return {"image": np.zeros((*label.shape, 1), np.uint8), "label": label}


@pytest.mark.parametrize("fit", ["crop", "pad", "resize"])
@pytest.mark.parametrize("size", [(7, 40), (40, 7), (16, 16), (64, 50)])
def test_rows_are_of_one_size_and_as_promised(fit, size, rng):
  made = rows(fit=fit, weight_map=10.0)
  row = made(example(rng.integers(0, 3, size).astype(np.uint8)), rng)
  for name, spec in made.spec().items():
    assert row[name].shape == spec.shape and row[name].dtype == spec.dtype
  if fit == "crop" and min(size) < 16:
    assert (row["label"] == 255).any()
    assert (row["weights"][row["label"] == 255] == 0).all()


def test_foreground_crops_hold_rare_classes(rng):
  label = np.zeros((128, 128), np.uint8)
  label[5, 5], label[100:110, 90:120], label[0, :] = 1, 2, 255

  def found(share):
    made = rows(foreground_crops=share)
    labels = [made(example(label), rng)["label"] for _ in range(200)]
    return [np.mean([(x == k).any() for x in labels]) for k in (1, 2)]

  assert found(0.0)[0] < 0.1
  both = found(1.0)
  assert both[0] > 0.35 and both[1] > 0.35
  empty = np.zeros((32, 32), np.uint8)
  assert (rows(foreground_crops=1.0)(example(empty), rng)["label"] == 0).all()


def test_every_pixel_can_lie_anywhere_in_a_foreground_crop(rng):
  label = np.zeros((64, 64), np.uint8)
  label[32, 32] = 1
  places = [
    np.argwhere(rows(foreground_crops=1.0)(example(label), rng)["label"])[0]
    for _ in range(300)
  ]
  assert np.ptp(places, axis=0).tolist() == [15, 15]


def test_connected_parts():
  label = np.array([[1, 1, 0, 1], [2, 2, 0, 1], [255, 0, 2, 2]], np.uint8)
  parts = connected_parts(label)
  assert len(np.unique(parts)) == 5
  assert ((parts > 0) == np.isin(label, (1, 2))).all()


def test_weights_come_from_instances_where_there_are_some(rng):
  label = np.ones((16, 16), np.uint8)
  label[:, 8] = 0
  instances = np.where(label, 1 + (np.arange(16) > 8), 0).astype(np.int32)
  made = rows(weight_map=10.0)
  by_parts = made(example(label), rng)["weights"]
  np.testing.assert_array_equal(by_parts, unet_weight_map(instances))
  one = made(example(label) | {"instances": (label > 0).astype(int)}, rng)
  assert (one["weights"] == 1).all()


def test_weight_map_looks_no_further_than_it_must(rng):
  instances = np.zeros((40, 90), int)
  for number in range(1, 9):
    y, x = rng.integers(0, (34, 84))
    instances[y : y + 6, x : x + 6] = number
  for sigma in (1.0, 4.0):
    distances = [
      np.min(
        [
          np.hypot(*(np.indices((40, 90)) - np.reshape(pixel, (2, 1, 1))))
          for pixel in np.argwhere(instances == number)
        ],
        axis=0,
      )
      for number in np.unique(instances[instances > 0])
    ]
    d1, d2 = np.sort(distances, axis=0)[:2]
    ridge = 10 * np.exp(-((d1 + d2) ** 2) / (2 * sigma**2))
    wanted = np.where(instances == 0, 1 + ridge, 1)
    got = unet_weight_map(instances, sigma=sigma)
    np.testing.assert_allclose(got, wanted, atol=1e-5)


def test_a_folder_of_instances(tmp_path):
  for name in ("images", "labels"):
    (tmp_path / "train" / name).mkdir(parents=True)
  ids = np.zeros((8, 8), np.uint16)
  ids[2, 2], ids[5:, 5:] = 300, 7
  Image.fromarray(np.zeros((8, 8), np.uint8)).save(
    tmp_path / "train/images/a.png"
  )
  Image.fromarray(ids).save(tmp_path / "train/labels/a.png")
  source = FolderSource(
    str(tmp_path),
    "train",
    FolderOptions(("background", "cell"), instances=True),
  )
  got = source[0]
  assert (got["instances"] == ids).all()
  assert (got["label"] == (ids > 0)).all()
  with pytest.raises(UserError, match="masks"):
    FolderSource(str(tmp_path), "train", FolderOptions(("background", "cell")))


def test_crops_of_volumes_lie_anywhere_along_every_axis(rng):
  label = np.arange(8 * 9 * 10).reshape(8, 9, 10)
  volume = {
    "image": np.repeat(label[..., None], 2, axis=-1).astype(">u2"),
    "label": (label % 250).astype(np.uint8),
  }
  settings = {"image_size": (3, 4, 12), "channels": 2}
  made = rows(**settings, image_dtype="uint16")
  starts = set()
  for _ in range(300):
    row = made(volume, rng)
    assert row["image"].dtype == np.uint16
    assert row["image"].shape == (3, 4, 12, 2)
    inside = row["image"][..., :10, 0]
    np.testing.assert_array_equal(row["label"][..., :10], inside % 250)
    assert (row["label"][..., 10:] == 255).all()
    starts.add(np.unravel_index(inside[0, 0, 0], (8, 9, 10)))
  assert len(starts) == 6 * 6
  middle = rows(**settings, image_dtype="uint16", train=False)(volume, rng)
  assert middle["image"][0, 0, 0, 0] == label[2, 2, 0]
  for name, spec in made.spec().items():
    assert row[name].shape == spec.shape and row[name].dtype == spec.dtype


def test_foreground_crops_of_volumes(rng):
  label = np.zeros((20, 40, 40), np.uint8)
  label[19, 39, 0] = 1
  made = rows(image_size=(4, 8, 8), foreground_crops=1.0)
  for _ in range(20):
    assert (made(example(label), rng)["label"] == 1).sum() == 1
