"""Probabilities of whole images and of windows."""

import json

import numpy as np
import pytest

from segsiam_jax.engine import checkpoint
from segsiam_jax.prediction.probabilities import Probabilities, resized_bands
from segsiam_jax.tasks.flips import flip_masks


@pytest.fixture
def predictor(trained, config):
  """Opens a predictor with fields changed: (name=value, ...) -> function."""
  folder = checkpoint.find(str(trained[1]), "latest", "", "max")

  def make(fit="crop", **settings):
    config.data.fit = fit
    for name, value in settings.items():
      config.predict[name] = value
    probabilities = Probabilities(config, folder)

    def predict(image):
      bands = list(probabilities(image))
      assert [first for first, _ in bands] == list(
        np.cumsum([0] + [len(band) for _, band in bands[:-1]])
      )
      return np.concatenate([band for _, band in bands])

    predict.probabilities = probabilities
    return predict

  return make


@pytest.fixture
def image(rng):
  """Of sizes that whole images are not padded to reach."""
  return rng.integers(0, 256, (64, 128, 3), np.uint8)


@pytest.mark.slow
def test_centers_of_windows_equal_the_whole_image(predictor, image):
  """This U-Net sees 9 pixels around one; windows overlap by 24."""
  whole = predictor()(image)
  centers = predictor(window=(32, 32), overlap=0.75, blend="center")(image)
  np.testing.assert_allclose(centers, whole, atol=1e-6)
  # With less context than the model sees, pixels at seams differ.
  narrow = predictor(window=(32, 32), overlap=0.0, blend="center")(image)
  assert np.abs(narrow - whole).max() > 1e-4
  np.testing.assert_allclose(narrow[:22, :22], whole[:22, :22], atol=1e-6)


@pytest.mark.parametrize("blend", ["gaussian", "constant"])
def test_blended_windows_equal_it_away_from_their_borders(
  predictor, rng, blend
):
  """Where no window's border lies within the 9 pixels that the U-Net sees."""
  image = rng.integers(0, 256, (64, 192, 3), np.uint8)
  whole = predictor()(image)
  blended = predictor(window=(64, 64), overlap=0.5, blend=blend)(image)
  np.testing.assert_allclose(blended.sum(-1), 1, rtol=1e-5)
  borders = np.arange(32, 192, 32)
  away = np.abs(np.arange(192)[:, None] + 0.5 - borders).min(1) > 9
  assert away.sum() > 80
  np.testing.assert_allclose(blended[:, away], whole[:, away], atol=1e-6)
  # At a border the Gaussian hardly counts, and a mean counts half.
  at_border = np.abs(blended - whole)[:, ~away].max()
  assert at_border < (0.02 if blend == "gaussian" else 0.5)


def test_one_compilation_for_all_sizes(predictor, rng):
  predict = predictor(window=(32, 32), batch_size=3)
  # Four devices share a batch of windows.
  assert predict.probabilities._predictor.rows == 4
  for size in ((40, 60), (32, 32), (1, 1), (3, 500), (33, 31)):
    out = predict(rng.integers(0, 256, (*size, 3), np.uint8))
    assert out.shape == (*size, 2)
    assert np.isfinite(out).all()
  assert predict.probabilities._predictor.step._cache_size() == 1


@pytest.mark.parametrize("fit", ["crop", "pad", "resize"])
def test_any_size_comes_back_at_its_own(predictor, rng, fit):
  predict = predictor(fit)
  for size in ((1, 1), (3, 90), (33, 31), (64, 64)):
    out = predict(rng.integers(0, 256, (*size, 3), np.uint8))
    assert out.shape == (*size, 2)
    np.testing.assert_allclose(out.sum(-1), 1, rtol=1e-4)


def test_flips_are_averaged(predictor, image):
  image = image[:32, :64]
  plain = predictor()
  out = predictor(flips="horizontal")(image)
  expected = (plain(image) + plain(image[:, ::-1])[:, ::-1]) / 2
  np.testing.assert_allclose(out, expected, atol=1e-6)
  every = predictor(flips="all", window=(32, 32), blend="constant")(image)
  windows = predictor(flips="")
  expected = np.mean(
    [windows(image[::y, ::x])[::y, ::x] for y in (1, -1) for x in (1, -1)],
    axis=0,
  )
  np.testing.assert_allclose(every, expected, atol=1e-6)


def test_pmap_predicts_the_same(predictor, config, image):
  expected = predictor(window=(32, 32))(image)
  config.backend = "pmap"
  np.testing.assert_allclose(predictor()(image), expected, atol=1e-6)


def test_flip_masks():
  assert flip_masks("", 2).tolist() == [[False, False]]
  assert flip_masks("horizontal", 3).tolist() == [
    [False] * 3,
    [False, False, True],
  ]
  masks = flip_masks("all", 3)
  assert len(np.unique(masks, axis=0)) == len(masks) == 8
  assert not masks[0].any()


def test_bands_are_those_of_one_resize(rng):
  from PIL import Image

  plane = rng.random((37, 20), np.float32)
  bands = list(resized_bands(plane[..., None], (301, 55)))
  assert len(bands) > 2
  whole = Image.fromarray(plane).resize((55, 301), Image.Resampling.BILINEAR)
  np.testing.assert_allclose(
    np.concatenate([band for _, band in bands])[..., 0],
    np.asarray(whole),
    atol=1e-5,
  )


def test_lines_say_what_the_labels_hold(trained, config, tmp_path, image):
  from PIL import Image

  from segsiam_jax import predict

  Image.fromarray(image).save(tmp_path / "a.png")
  config.predict.window = (32, 32)
  out = tmp_path / "out"
  predict.predict(config, str(trained[1]), [str(tmp_path / "a.png")], str(out))
  line = json.loads((out / "predictions.jsonl").read_text())
  label = np.asarray(Image.open(out / "labels/a.png"))
  assert label.shape == (64, 128)
  assert (line["height"], line["width"]) == label.shape
  assert line["pixels"]["disc"] == (label == 1).sum()
  assert line["pixels"]["background"] == (label == 0).sum()
  assert 0.5 <= line["mean_confidence"] <= 1
