"""Class weights: absent and rare classes, and the pixels that are counted."""

import numpy as np
import pytest
from PIL import Image

from segsiam_jax import inputs
from segsiam_jax.config import validate
from segsiam_jax.data.semantic import class_balance, sources
from segsiam_jax.errors import UserError


def test_an_absent_class_has_no_say():
  pixels = np.array([900, 100, 0])
  with_absent = class_balance.class_weights(pixels, "inverse")
  assert with_absent == (0.2, 1.8, 0.0)
  assert class_balance.class_weights(pixels[:2], "inverse") == with_absent[:2]
  assert class_balance.class_weights(pixels, "inverse_sqrt") == (0.5, 1.5, 0.0)


@pytest.mark.parametrize("rule", ["inverse", "inverse_sqrt"])
def test_a_rare_class_does_not_silence_the_others(rule):
  pixels = np.array([6_000_000, 4_000_000 - 20, 20, 0])
  weights = np.array(class_balance.class_weights(pixels, rule))
  assert weights[3] == 0 and (weights[:3] > 0).all()
  assert weights[2] / weights[0] == pytest.approx(50, rel=1e-3)
  power = {"inverse": 1, "inverse_sqrt": 0.5}[rule]
  assert weights[1] / weights[0] == pytest.approx(1.5**power, rel=2e-3)
  assert weights[:3].mean() == pytest.approx(1, rel=1e-3)


def test_weights_of_any_counts_are_in_range(rng):
  for _ in range(20):
    pixels = (10 ** rng.uniform(0, 12, rng.integers(2, 40))).astype(np.int64)
    weights = np.array(class_balance.class_weights(pixels, "inverse"))
    assert weights.min() >= 1 / 50 and weights.max() <= 50
    assert weights[pixels.argmax()] == weights.min()


def _write(root, labels):
  for kind in ("images", "masks"):
    (root / "train" / kind).mkdir(parents=True)
  for number, label in enumerate(labels):
    for kind in ("images", "masks"):
      Image.fromarray(label).save(root / "train" / kind / f"{number:04d}.png")


def test_every_example_is_counted(tmp_path, tiny_config):
  """One image of 1,100 has the rare class; a sample of 1,000 missed it."""
  labels = [np.full((2, 2), index % 2, np.uint8) for index in range(1100)]
  labels[1] = np.array([[2, 1], [255, 255]], np.uint8)
  _write(tmp_path, labels)
  config = tiny_config
  names = ("background", "disc", "speck")
  config.data.update(dir=str(tmp_path), class_names=names)
  config.loss.balance = "inverse"
  expected = [550 * 4, 549 * 4 + 1, 1]
  source = inputs.open_inputs(config, train=True).source
  assert class_balance.class_pixels(source).tolist() == expected
  common, _, rare = inputs.of_training(config, source).loss.class_weights
  assert rare / common == pytest.approx(50, rel=1e-3)
  # A part of the training set is counted by itself.
  config.data.train_fraction = 0.5
  source = inputs.open_inputs(config, train=True).source
  slow = np.zeros(3, np.int64)
  for index in range(len(source)):
    label = source[index]["label"]
    slow += [np.count_nonzero(label == value) for value in range(3)]
  assert isinstance(source, sources.Subset) and len(source) == 550
  assert class_balance.class_pixels(source).tolist() == slow.tolist()


def test_weights_that_are_all_zero_are_refused(tiny_config):
  tiny_config.loss.class_weights = (0.0, 0.0)
  with pytest.raises(UserError, match="every class weighs 0"):
    validate(tiny_config)


@pytest.mark.parametrize(
  ("value", "problem"),
  [
    (0, "all pixels are of class 'background'"),
    (1, "all pixels are of class 'disc'"),
    (255, "all pixels are ignored"),
  ],
)
def test_masks_of_one_class_teach_nothing(
  tmp_path, tiny_config, value, problem
):
  _write(tmp_path, [np.full((4, 4), value, np.uint8)] * 3)
  config = tiny_config
  config.data.dir = str(tmp_path)
  if value == 255:
    # Who says which values there are means 'ignore'.
    config.data.label_values = (0, 1)
  with pytest.raises(UserError, match=f"train_split = 'train': {problem}"):
    inputs.open_inputs(config, train=True)


def test_evaluation_of_one_class_is_told(tmp_path, tiny_config, caplog):
  _write(tmp_path, [np.zeros((4, 4), np.uint8)] * 3)
  tiny_config.data.update(dir=str(tmp_path), eval_split="train")
  inputs.open_inputs(tiny_config, train=False)
  assert "eval_split = 'train': all pixels are of class 'back" in caplog.text


def test_classes_without_a_pixel_are_told(tmp_path, tiny_config, caplog):
  _write(tmp_path, [np.eye(4, dtype=np.uint8)] * 3)
  tiny_config.data.update(
    dir=str(tmp_path), class_names=("ground", "line", "moss", "fern")
  )
  inputs.open_inputs(tiny_config, train=True)
  assert "no pixel is of class moss, fern" in caplog.text


def test_a_part_without_foreground_is_refused(tmp_path, tiny_config):
  """Of a source that has counted nothing, labels are looked at."""
  labels = [np.zeros((4, 4), np.uint8)] * 20
  labels[7] = np.eye(4, dtype=np.uint8)
  _write(tmp_path, labels)
  config = tiny_config
  config.data.dir = str(tmp_path)
  assert len(inputs.open_inputs(config, train=True).source) == 20
  config.data.train_fraction = 0.05
  seen = set()
  for seed in range(40):
    config.seed = seed
    try:
      (index,) = inputs.open_inputs(config, train=True).source.indices
      seen.add(int(index))
    except UserError as error:
      assert "all pixels are of class 'background'" in str(error)
  assert seen <= {7}


@pytest.mark.slow
def test_a_tfds_set_is_looked_at_until_two_classes_are_seen(tiny_config):
  source = sources.open_source("digit_scenes/trimap", "test[:3]")
  assert len(class_balance.classes_seen(source)) >= 2
  slow = np.zeros(3, np.int64)
  for index in range(3):
    label = source[index]["label"]
    slow += [np.count_nonzero(label == value) for value in range(3)]
  assert class_balance.class_pixels(source).tolist() == slow.tolist()
