"""Semantic segmentation of classes that may overlap."""

import json

import jax
import numpy as np
import pytest
from PIL import Image

import segsiam_jax
from segsiam_jax import evaluate, inputs, losses, predict, train
from segsiam_jax.config import default_config, of_workdir, validate
from segsiam_jax.engine import runs
from segsiam_jax.metrics import MultilabelCounts
from segsiam_jax.metrics.base import compute_all, widen
from segsiam_jax.ops import multilabel
from segsiam_jax.tasks.pixel_classes import of_config


@pytest.fixture(scope="module")
def overlapping(tmp_path_factory):
  """Discs and bars that cross them: 18 images without folders of splits."""
  root = tmp_path_factory.mktemp("overlapping")
  random = np.random.default_rng(0)
  ys, xs = np.mgrid[:32, :32]
  for index in range(18):
    y, x, row = random.uniform(8, 24, size=3)
    masks = {
      "bar": np.abs(ys - row) < 4,
      "disc": (ys - y) ** 2 + (xs - x) ** 2 < 60,
    }
    image = random.normal(60, 8, (32, 32, 3))
    image[..., 0] += 120 * masks["bar"]
    image[..., 1] += 120 * masks["disc"]
    arrays = {"images": np.clip(image, 0, 255)}
    arrays |= {f"masks/{name}": 255 * mask for name, mask in masks.items()}
    for name, array in arrays.items():
      (root / name).mkdir(parents=True, exist_ok=True)
      picture = Image.fromarray(array.astype(np.uint8))
      picture.save(root / name / f"{index:02d}.png")
  return root


@pytest.fixture
def config(overlapping):
  config = default_config("semantic", "unet")
  config.data.update(
    name="folder",
    dir=str(overlapping),
    multilabel=True,
    class_names=(),
    image_size=(32, 32),
    fit="crop",
    threads=1,
  )
  config.model.update(depth=1, base_width=8)
  config.loss.update(dice=1.0, focal=1.0)
  config.optimizer.learning_rate = 3e-2
  config.augment.update(flip_left_right=True, rotate=10.0)
  config.train.update(
    batch_size=8,
    eval_batch_size=4,
    num_steps=60,
    eval_every=60,
    checkpoint_every=60,
    best_metric="mean_iou",
    num_pictures=2,
  )
  return config


def test_losses_and_scores_are_those_of_each_class(config):
  data = inputs.open_inputs(config, train=False)
  config = inputs.of_training(config, data.source)
  task = runs.make_task(config, data.element_spec)
  params, model_state = jax.jit(task.init)(jax.random.key(0))
  batch = next(iter(data.batches))
  batch["label"][0, :5] = multilabel.IGNORE
  out = jax.jit(task.predict)(params, model_state, batch)
  probabilities = np.asarray(out["probabilities"], np.float64)
  truth = multilabel.unpack(batch["label"], 2)
  np.testing.assert_array_equal(
    multilabel.unpack(np.asarray(out["label"]), 2), probabilities > 0.5
  )
  metrics = compute_all(
    widen(jax.jit(task.eval_step)(params, model_state, batch))
  )
  logits = np.log(probabilities) - np.log1p(-probabilities)
  entropy = losses.sigmoid_cross_entropy(logits, truth).mean()
  assert metrics["cross_entropy"] == pytest.approx(float(entropy), rel=1e-4)
  dice = losses.dice_loss(logits, truth, activation="sigmoid", smooth=1.0)
  assert metrics["dice"] == pytest.approx(float(dice.mean()), rel=1e-4)
  expected = widen(
    MultilabelCounts.of(
      probabilities > 0.5, truth, classes=config.data.class_names
    )
  )
  for name, value in expected.compute().items():
    assert metrics[name] == value or np.isnan(value)
  # The host counts files in the same way.
  classes = of_config(config)
  counts = sum(
    classes.counts_of_file(*pair).counts
    for pair in zip(np.asarray(out["label"]), batch["label"], strict=True)
  )
  np.testing.assert_array_equal(counts, expected.counts)


@pytest.mark.slow
def test_it_learns_and_predicts_masks(config, overlapping, tmp_path):
  validate(config)
  workdir = str(tmp_path / "run")
  train.train_and_evaluate(config, workdir)
  lines = (tmp_path / "run/metrics.jsonl").read_text().splitlines()
  score = json.loads(lines[-1])
  assert score["mean_iou"] > 0.9
  # Windows are predicted on the host, and score the same.
  config.predict.window = (32, 32)
  again = evaluate.evaluate(config, workdir)
  assert again["mean_iou"] == pytest.approx(score["mean_iou"], rel=1e-6)
  predict.predict(
    of_workdir.get_config(workdir),
    workdir,
    [str(overlapping / "images")],
    str(tmp_path / "out"),
  )
  model = segsiam_jax.load(workdir)
  found = model.predict(overlapping / "images/03.png", probabilities=True)
  assert found.labels.shape == (32, 32, 2) and found.labels.dtype == bool
  for index, name in enumerate(model.classes):
    mask = np.asarray(Image.open(tmp_path / f"out/labels/{name}/03.png"))
    assert set(np.unique(mask)) <= {0, 255}
    np.testing.assert_array_equal(mask > 0, found.labels[..., index])
  both = found.labels.all(-1).mean()
  assert 0 < both < 0.5
