"""Volumes of 16 bits from a folder to labels, and bad input on the way."""

import json

import jax
import numpy as np
import pytest
from PIL import Image

from segsiam_jax import evaluate, predict, train
from segsiam_jax.config import default_config, validate
from segsiam_jax.data import images
from segsiam_jax.engine import runs
from segsiam_jax.errors import UserError
from segsiam_jax.metrics import ConfusionMatrix
from segsiam_jax.metrics.base import compute_all, widen
from segsiam_jax.prediction import files


def write_balls(folder, count, seed):
  """Volumes (10, 40, 36) of bright balls, 12 bits in 16, and their masks."""
  random = np.random.default_rng(seed)
  for kind in ("images", "masks"):
    (folder / kind).mkdir(parents=True)
  zs, ys, xs = np.mgrid[:10, :40, :36]
  for index in range(count):
    z, y, x = random.uniform((3, 10, 10), (7, 30, 26))
    ball = 4 * (zs - z) ** 2 + (ys - y) ** 2 + (xs - x) ** 2 < 90
    volume = random.normal(1000, 100, ball.shape) + 1500 * ball
    pages = [Image.fromarray(page) for page in volume.astype(np.uint16)]
    pages[0].save(
      folder / f"images/{index}.tif", save_all=True, append_images=pages[1:]
    )
    (folder / f"masks/{index}.tif").write_bytes(
      files.pages(ball.astype(np.uint8))
    )


@pytest.fixture(scope="module")
def balls(tmp_path_factory):
  root = tmp_path_factory.mktemp("balls")
  write_balls(root / "train", 4, 0)
  write_balls(root / "test", 2, 1)
  return root


@pytest.fixture(scope="module")
def config(balls):
  config = default_config("semantic", "unet")
  data = config.data
  data.name, data.dir = "folder", str(balls)
  data.class_names = ("background", "ball")
  data.channels, data.image_dtype = 1, "uint16"
  data.mean, data.std = (1500.0,), (700.0,)
  data.fit, data.image_size = "crop", (8, 16, 16)
  data.eval_image_size = (10, 40, 36)
  data.threads = 1
  config.model.depth, config.model.base_width = 1, 4
  config.loss.dice = 1.0
  config.augment.flip_left_right = True
  config.augment.rotate = 20.0
  config.augment.contrast = (0.9, 1.1)
  config.optimizer.learning_rate = 3e-2
  config.train.batch_size, config.train.eval_batch_size = 8, 4
  config.train.num_steps = config.train.eval_every = 40
  config.train.checkpoint_every = 40
  config.train.best_metric = "mean_iou"
  config.train.num_pictures = 2
  validate(config)
  return config


@pytest.fixture(scope="module")
def finished(config, tmp_path_factory):
  workdir = tmp_path_factory.mktemp("volumes") / "run"
  train.train_and_evaluate(config, str(workdir))
  return workdir


@pytest.mark.slow
def test_a_net_learns_volumes_and_predicts_them(
  finished, config, balls, tmp_path
):
  lines = (finished / "metrics.jsonl").read_text().splitlines()
  score = [json.loads(line) for line in lines][-1]
  assert score["iou/ball"] > 0.6
  with Image.open(finished / "images/eval_0000040.png") as picture:
    # The slices, and below them two lines of caption and legend.
    assert picture.size == (240, 40 + 32)
  config = config.copy_and_resolve_references()
  whole = evaluate.evaluate(config, str(finished))
  assert whole["iou/ball"] == pytest.approx(score["iou/ball"], rel=1e-6)

  def labels(name):
    out = tmp_path / name
    source = str(balls / "test/images")
    assert predict.predict(config, str(finished), [source], str(out)) == 2
    line = json.loads((out / "predictions.jsonl").read_text().splitlines()[0])
    assert (line["depth"], line["height"], line["width"]) == (10, 40, 36)
    with Image.open(out / "overlays/0.png") as picture:
      assert picture.size == (240, 40 + 16)
    return np.stack(
      [images.read_label(out / f"labels/{k}.tif", rank=3) for k in (0, 1)]
    )

  truth = np.stack(
    [images.read_label(balls / f"test/masks/{k}.tif", rank=3) for k in (0, 1)]
  )

  def iou(label):
    return (label & truth).sum() / (label | truth).sum()

  assert iou(labels("whole")) > 0.6
  config.predict.window = (8, 16, 16)
  windows = labels("windows")
  assert windows.shape == truth.shape
  assert iou(windows) > 0.6
  config.predict.flips = "all"
  assert iou(labels("flips")) > 0.6


def test_shapes_of_volumes(config):
  spec = {
    "image": jax.ShapeDtypeStruct((2, 8, 16, 16, 1), np.uint16),
    "label": jax.ShapeDtypeStruct((2, 8, 16, 16), np.uint8),
    "mask": jax.ShapeDtypeStruct((2,), np.float32),
  }
  task = runs.make_task(config, spec)
  params, model_state = jax.eval_shape(task.init, jax.random.key(0))
  kernel = params["logits"]["kernel"]
  assert kernel.ndim == 5
  out = jax.eval_shape(
    task.loss_fn, params, model_state, spec, jax.random.key(0)
  )
  assert out.loss.shape == ()
  out = jax.eval_shape(task.predict, params, model_state, spec)
  assert out["label"].shape == (2, 8, 16, 16)
  assert out["probabilities"].shape == (2, 8, 16, 16, 2)


def test_sixteen_bits_are_normalised_by_their_own_range(config, rng):
  """Augmentation works in [0, 1], and so does noise; the model sees units."""
  spec = {
    "image": jax.ShapeDtypeStruct((1, 2, 4, 4, 1), np.uint16),
    "label": jax.ShapeDtypeStruct((1, 2, 4, 4), np.uint8),
  }
  task = runs.make_task(config, spec)
  # Drawn here: to compile the initialisation takes longer than all the rest.
  params, model_state = jax.tree.map(
    lambda leaf: rng.uniform(0.01, 0.1, leaf.shape).astype(leaf.dtype),
    jax.eval_shape(task.init, jax.random.key(0)),
  )
  predict_step = jax.jit(task.predict)

  def probabilities(value):
    image = np.full((1, 2, 4, 4, 1), value, np.uint16)
    return predict_step(params, model_state, {"image": image})["probabilities"]

  assert np.isfinite(probabilities(65535)).all()
  assert (probabilities(65535) != probabilities(255)).any()


def test_pictures_show_the_middle_slice(config):
  spec = {"image": jax.ShapeDtypeStruct((1, 3, 8, 8, 1), np.uint16)}
  task = runs.make_task(config, spec)
  volume = np.zeros((1, 3, 8, 8, 1), np.uint16)
  volume[:, 1, 2] = 1000
  label = np.zeros((1, 3, 8, 8), np.uint8)
  batch = {"image": volume, "label": label, "mask": np.ones(1)}
  [picture] = task.draw(batch, {"label": label})
  assert picture.shape == (8, 24, 3)
  assert picture[2].max() == 255
  assert picture[3].max() == 0


def test_counts_of_volumes_are_those_of_their_slices(rng):
  predicted, label = rng.integers(0, 3, (2, 2, 4, 5, 6))
  classes = ("a", "b", "c")

  @jax.jit
  def counts(predicted, label):
    return (
      ConfusionMatrix.of(
        predicted, label, classes=classes, where=np.array([1, 0])
      ),
      ConfusionMatrix.of(
        predicted[0], label[0], classes=classes, where=np.ones(4)
      ),
    )

  one, other = (
    compute_all(widen({"": each})) for each in counts(predicted, label)
  )
  assert one == other


def test_files_of_another_kind_are_named(config, balls, tmp_path):
  """Among good ones: the good ones are predicted all the same."""
  bad = config.copy_and_resolve_references()
  bad.data.image_dtype = "uint8"
  from segsiam_jax import inputs

  with pytest.raises(UserError, match=r"0\.tif: 16 bits.*image_dtype=uint16"):
    inputs.open_inputs(bad, train=True)
  bad.data.image_dtype, bad.data.channels = "uint16", 2
  source = inputs.open_inputs(bad, train=True).source
  assert source[0]["image"].shape == (10, 40, 36, 2)
