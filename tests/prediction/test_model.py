"""`segsiam_jax.load`: what it says is what the command line writes."""

import concurrent.futures
import json

import numpy as np
import pytest
from PIL import Image

import segsiam_jax
from segsiam_jax import predict, train
from segsiam_jax.config import of_workdir
from segsiam_jax.errors import UserError
from segsiam_jax.prediction.model import Segmentation


@pytest.fixture(scope="module")
def run(blobs, tmp_path_factory):
  """A workdir of a tiny U-Net."""
  from configs import semantic

  workdir = tmp_path_factory.mktemp("run")
  config = semantic.get_config("unet,encoder=plain,depth=1,base_width=4")
  config.data.dir = str(blobs)
  config.predict.window = (0, 0)
  config.train.update(epochs=1.0, batch_size=4)
  train.train_and_evaluate(config, str(workdir))
  return workdir


def test_labels_are_those_that_are_written(run, blobs, tmp_path):
  folder = blobs / "test" / "images"
  paths = sorted(folder.iterdir())[:2]
  config = of_workdir.get_config(str(run))
  predict.predict(config, str(run), [str(folder)], str(tmp_path / "out"))
  model = segsiam_jax.load(run)
  assert model.classes == ("class 0", "class 1")
  found = model.predict(list(paths))
  for path, one in zip(paths, found, strict=True):
    assert isinstance(one, Segmentation) and one.probabilities is None
    written = Image.open(tmp_path / "out" / "labels" / f"{path.stem}.png")
    np.testing.assert_array_equal(one.labels, np.asarray(written))
  array = np.asarray(Image.open(paths[0]))
  again = model.predict(array, probabilities=True)
  np.testing.assert_array_equal(again.labels, found[0].labels)
  assert again.probabilities.shape == (*again.labels.shape, 2)
  np.testing.assert_array_equal(again.probabilities.argmax(-1), again.labels)
  with concurrent.futures.ThreadPoolExecutor(4) as pool:
    for one in pool.map(model.predict, [array] * 8):
      np.testing.assert_array_equal(one.labels, again.labels)


@pytest.mark.parametrize(
  ("array", "words"),
  [
    (np.zeros((8, 8, 3), np.float32), r"expected uint8.*\(image \* 255\)"),
    (np.zeros((2, 8, 8, 3), np.uint8), "For several images pass a list"),
    (np.zeros((8, 8, 5), np.uint8), "takes 3 channels, last"),
    (np.zeros((0, 8, 3), np.uint8), "got shape"),
  ],
)
def test_arrays_of_another_kind(run, array, words):
  with pytest.raises(ValueError, match=words):
    segsiam_jax.load(run).predict(array)


def test_what_cannot_be_loaded(run, tmp_path):
  model = segsiam_jax.load(run, "latest")
  assert model.predict(np.zeros((8, 8), np.uint8)).labels.shape == (8, 8)
  with pytest.raises(UserError, match="nothing.png"):
    model.predict(tmp_path / "nothing.png")
  with pytest.raises(UserError, match="not found"):
    segsiam_jax.load(tmp_path)
  with pytest.raises(UserError, match="no such field"):
    segsiam_jax.load(run, flip="all")


@pytest.mark.slow
def test_objects_and_matches(tmp_path):
  from configs import instance, siamese

  for module, task in ((instance, "instance"), (siamese, "siamese")):
    config = module.get_config("debug")
    config.train.update(batch_size=8, eval_batch_size=8)
    if task == "instance":
      config.train.update(batch_size=4, eval_batch_size=4)
      config.predict.min_score = 0.0
    workdir = tmp_path / task
    train.train_and_evaluate(config, str(workdir))
    model = segsiam_jax.load(workdir)
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (64, 80, 3), np.uint8)
    path = tmp_path / "one.png"
    Image.fromarray(image).save(path)
    out = tmp_path / f"{task}_out"
    config = of_workdir.get_config(str(workdir))
    predict.predict(config, str(workdir), [str(path)], str(out))
    found = model.predict(path)
    if task == "instance":
      results = json.loads((out / "results.json").read_text())
      kept = [one["score"] for one in results if one["score"] >= 0]
      np.testing.assert_array_equal(found.scores, np.float32(kept))
      assert found.masks.shape == (len(kept), 64, 80)
    else:
      with np.load(out / "embeddings.npz") as stored:
        np.testing.assert_array_equal(found, stored["embeddings"][0])
      match = model.same(image, path)
      assert match.distance == pytest.approx(0.0, abs=1e-3)
      assert match.same in (True, None)
