"""Class weights: absent and rare classes, and the pixels that are counted."""

import numpy as np
import pytest
from PIL import Image

from segsiam_jax import inputs, runs
from segsiam_jax.config import validate
from segsiam_jax.data import class_balance, sources
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
  assert inputs.class_pixels(config).tolist() == expected
  common, _, rare = runs.with_data(config, names).loss.class_weights
  assert rare / common == pytest.approx(50, rel=1e-3)
  # A part of the training set is counted by itself.
  config.data.train_fraction = 0.5
  source = inputs.open_inputs(config, train=True).source
  slow = np.zeros(3, np.int64)
  for index in range(len(source)):
    label = source[index]["label"]
    slow += [np.count_nonzero(label == value) for value in range(3)]
  assert isinstance(source, sources.Subset) and len(source) == 550
  assert inputs.class_pixels(config, source).tolist() == slow.tolist()


def test_weights_that_are_all_zero_are_refused(tiny_config):
  tiny_config.loss.class_weights = (0.0, 0.0)
  with pytest.raises(UserError, match="every class weighs 0"):
    validate(tiny_config)
