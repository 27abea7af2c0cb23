"""What evaluation reports is what the files say that prediction writes.

Of labels; nothing here uses the package's metrics.
"""

import json

import jax
import numpy as np
import pytest
from PIL import Image

from segsiam_jax import evaluate, inputs, predict, train
from segsiam_jax.config import validate
from segsiam_jax.data.builders.digits import png
from segsiam_jax.engine import checkpoint, meshes, runs
from segsiam_jax.errors import UserError
from segsiam_jax.evaluate import Evaluator
from segsiam_jax.prediction.labels import label_pixels
from segsiam_jax.prediction.probabilities import Probabilities
from segsiam_jax.tasks.pixel_classes import of_config
from tests.data.tfds_fakes import fake, prepare
from tests.scenes import changed, check, read_pages, scores_of_files, trained

VOLUMES = ((5, 40, 33), (4, 32, 32), (3, 24, 40))


@pytest.fixture(scope="module")
def colours(tmp_path_factory):
  return trained(tmp_path_factory.mktemp("colours"))


def last_evaluation(workdir):
  lines = (workdir / "metrics.jsonl").read_text().splitlines()
  lines = [json.loads(line) for line in lines]
  return [line for line in lines if line["split"] == "eval"][-1]


@pytest.mark.parametrize(
  "fields",
  [
    pytest.param({"data__fit": "crop"}, id="crop"),
    pytest.param({"data__fit": "resize"}, id="resize"),
    pytest.param({"data__fit": "pad"}, id="pad"),
    pytest.param(
      {"data__fit": "resize", "data__eval_image_size": (48, 40)},
      id="resize to another size",
    ),
    pytest.param(
      {"data__fit": "pad", "data__eval_image_size": (64, 48)},
      id="pad to another size",
      marks=pytest.mark.slow,
    ),
    pytest.param(
      {"data__fit": "crop", "data__eval_image_size": (70, 52)},
      id="crop, rows as large as one file",
      marks=pytest.mark.slow,
    ),
    pytest.param({"predict__window": (32, 32)}, id="windows"),
    pytest.param(
      {
        "data__fit": "pad",
        "predict__window": (24, 40),
        "predict__overlap": 0.25,
        "predict__blend": "center",
      },
      id="pad, windows",
      marks=pytest.mark.slow,
    ),
    pytest.param(
      {
        "predict__window": (32, 32),
        "predict__blend": "constant",
        "predict__flips": "horizontal",
      },
      id="windows, flips",
      marks=pytest.mark.slow,
    ),
    pytest.param(
      {"data__fit": "resize", "predict__flips": "all"}, id="resize, flips"
    ),
    pytest.param(
      {"data__fit": "crop", "predict__flips": "all"},
      id="crop, flips",
      marks=pytest.mark.slow,
    ),
    pytest.param({"backend": "pmap", "data__fit": "resize"}, id="pmap, resize"),
    pytest.param(
      {"backend": "pmap", "data__fit": "crop"},
      id="pmap, crop",
      marks=pytest.mark.slow,
    ),
    pytest.param(
      {"backend": "pmap", "predict__window": (32, 32)},
      id="pmap, windows",
      marks=pytest.mark.slow,
    ),
  ],
)
def test_labels_of_images(colours, tmp_path, fields):
  config, workdir = colours
  check(changed(config, **fields), workdir, tmp_path / "out")


def test_training_reports_the_same(colours, tmp_path):
  """And so does the best checkpoint, which it chooses."""
  config, workdir = colours
  reported = check(config, workdir, tmp_path / "out")
  last = last_evaluation(workdir)
  assert {name: last[name] for name in reported} == pytest.approx(
    reported, rel=1e-6
  )


@pytest.mark.parametrize("fit", ["resize", "crop"])
def test_weights_that_are_nan_have_no_score(colours, tmp_path, fit):
  config, workdir = colours
  config = changed(config, data__fit=fit)
  data = inputs.open_inputs(config, train=False)
  task = runs.make_task(config, data.element_spec)
  mesh = meshes.make_mesh()
  folder = checkpoint.find(str(workdir), "latest", "", "max")
  state = runs.weights_only(task, folder, mesh)
  spoiled = jax.tree.map(lambda leaf: leaf * np.nan, state.params)
  state = state.replace(params=spoiled)
  with pytest.raises(UserError, match="NaN.*earlier checkpoint"):
    Evaluator(config, task, data, mesh=mesh)(state)
  image = np.zeros((40, 50, 3), np.uint8)
  predictor = Probabilities(config).with_weights(state)
  with pytest.raises(UserError, match="NaN"):
    label_pixels(predictor(image), (40, 50), of_config(config))


@pytest.mark.slow
@pytest.mark.parametrize("fit", ["resize", "crop"])
def test_the_rand_score_is_that_of_the_files(colours, tmp_path, fit):
  """At a threshold of one half, which argmax is, with two classes."""
  from scipy import ndimage

  config, workdir = colours
  root = tmp_path / "data"
  for kind in ("images", "masks"):
    (root / "test" / kind).mkdir(parents=True)
  source = workdir.parent / "test"
  for path in (source / "images").iterdir():
    (root / "test/images" / path.name).write_bytes(path.read_bytes())
    Image.fromarray(read_pages(source / "masks" / path.name) % 2).save(
      root / "test/masks" / path.name
    )
  two = changed(
    config,
    data__dir=str(root),
    data__train_split="test",
    data__allow_overlap=True,
    data__class_names=("ground", "disc"),
    loss__class_weights=(1.0, 1.0),
    data__fit=fit,
    eval__rand_class="disc",
  )
  train.train_and_evaluate(two, str(tmp_path / "run"))
  reported = evaluate.evaluate(two, str(tmp_path / "run"))
  out = tmp_path / "out"
  images = str(root / "test/images")
  predict.predict(two, str(tmp_path / "run"), [images], str(out))
  scores = []
  for path in (root / "test/masks").iterdir():
    truth, _ = ndimage.label(read_pages(path) == 1)
    label = read_pages(out / "labels" / path.name)
    parts, count = ndimage.label(label == 1)
    if count:
      _, nearest = ndimage.distance_transform_edt(
        parts == 0, return_indices=True
      )
      parts = parts[tuple(nearest)]
    inside = truth > 0
    both = np.zeros((count + 1, truth.max() + 1))
    np.add.at(both, (parts[inside], truth[inside]), 1)
    total = (both.sum(0) ** 2).sum() + (both.sum(1) ** 2).sum()
    scores.append(2 * (both**2).sum() / total)
  assert reported["rand"] == pytest.approx(np.mean(scores), rel=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("fit", ["crop", "resize"])
def test_labels_of_grey_images(tmp_path, fit):
  config, workdir = trained(tmp_path, channels=1, fit=fit)
  check(config, workdir, tmp_path / "out")


def test_labels_of_a_tfds_set(colours, tmp_path):
  """Pets of several sizes, and the trimaps 1 pet, 2 background, 3 border."""
  import tensorflow_datasets as tfds

  config, workdir = colours
  examples = []
  for path in sorted((workdir.parent / "test/images").iterdir()):
    mask = read_pages(workdir.parent / "test/masks" / path.name)
    mask = np.where(mask == 255, 0, mask) + np.uint8(1)
    image = read_pages(path)
    examples.append({"image": png(image), "segmentation_mask": png(mask)})
    for kind, array in (("images", image), ("masks", mask - np.uint8(1))):
      (tmp_path / kind).mkdir(exist_ok=True)
      Image.fromarray(array).save(tmp_path / kind / path.name)
  features = {
    "image": tfds.features.Image(shape=(None, None, 3)),
    "segmentation_mask": tfds.features.Image(shape=(None, None, 1)),
  }
  version = str(tfds.builder_cls("oxford_iiit_pet").VERSION)
  cls = fake("oxford_iiit_pet", version, features, examples)
  prepare(tmp_path / "tfds", cls)
  config = config.copy_and_resolve_references()
  config.data.update(
    name="oxford_iiit_pet",
    dir=str(tmp_path / "tfds"),
    train_split="train",
    eval_split="train",
    allow_overlap=True,
    class_names=(),
    fit="resize",
  )
  validate(config)
  train.train_and_evaluate(config, str(tmp_path / "run"))
  reported = evaluate.evaluate(config, str(tmp_path / "run"))
  config.data.class_names = ("pet", "background", "border")
  out = tmp_path / "out"
  images = str(tmp_path / "images")
  predict.predict(config, str(tmp_path / "run"), [images], str(out))
  names = config.data.class_names
  expected = scores_of_files(out / "labels", tmp_path / "masks", names)
  assert {name: reported[name] for name in expected} == pytest.approx(
    expected, rel=1e-9
  )


@pytest.mark.slow
def test_labels_of_five_channels_of_sixteen_bits(tmp_path):
  config, workdir = trained(tmp_path, channels=5, dtype="uint16")
  for name, fields in {
    "crop": {},
    "resize": {"data__fit": "resize"},
    "pad": {"data__fit": "pad"},
    "windows": {"predict__window": (32, 32)},
  }.items():
    check(changed(config, **fields), workdir, tmp_path / name)


@pytest.mark.slow
def test_labels_of_volumes(tmp_path):
  config, workdir = trained(
    tmp_path,
    channels=1,
    dtype="uint16",
    sizes=VOLUMES,
    image_size=(4, 32, 32),
  )
  for name, fields in {
    "crop": {},
    "windows": {"predict__window": (2, 24, 24)},
    "flips": {"predict__flips": "horizontal"},
  }.items():
    check(changed(config, **fields), workdir, tmp_path / name)
