"""Plots of pairs and embeddings show what they were given."""

import numpy as np
import pytest

from segsiam_jax.report import overlays
from segsiam_jax.tasks import pair_plots

RED, BLUE, GREEN = overlays.palette(4)[1:4]


class Greys:
  """Example i is a grey image of level i."""

  def __getitem__(self, index):
    return {"image": np.full((8, 8, 1), index, np.uint8)}


def shows(picture, color):
  return (np.abs(picture.astype(int) - color).max(axis=-1) < 12).any()


@pytest.fixture
def pairs():
  """Pairs (10, 11), (20, 21) ... of which two are wrong."""
  first = np.array([10, 20, 30, 40, 50, 60])
  return pair_plots.ScoredPairs(
    first,
    first + 1,
    same=np.array([1, 1, 1, 0, 0, 0]),
    scores=np.array([-0.1, -0.2, -0.9, -0.8, -0.7, -0.15]),
    kind=np.array([0, 0, 0, 1, 2, 2]),
    kinds=("genuine", "random", "skilled"),
  )


def test_the_hardest_pairs_are_shown_worst_first(pairs):
  picture = pairs.hardest(Greys(), count=1, size=16)
  # Two cells side by side, two images each, below a caption.
  middle = picture[18 + 8]
  levels = [int(middle[x, 0]) for x in (8, 24)]
  assert levels == [30, 31]
  right = picture.shape[1] // 2
  assert [int(middle[right + x, 0]) for x in (8, 24)] == [60, 61]
  second = pairs.hardest(Greys(), count=2, size=16)[18 + 8]
  assert [int(second[32 + x, 0]) for x in (8, 24)] == [20, 21]


def test_every_sort_of_forgery_has_its_curve(pairs):
  picture = pairs.roc()
  assert shows(picture, RED) and shows(picture, BLUE)
  assert not shows(picture, GREEN)
  one = pair_plots.ScoredPairs(
    pairs.first, pairs.second, pairs.same, pairs.scores
  ).roc()
  assert shows(one, RED) and not shows(one, BLUE)


def test_distances_have_a_histogram_a_sort_and_a_threshold(pairs):
  picture = pairs.distances(threshold=-0.5)
  assert all(shows(picture, color) for color in (RED, BLUE, GREEN))
  assert (picture != pairs.distances()).any()


@pytest.mark.parametrize("method", ["pca", "tsne"])
def test_clusters_stay_apart_in_the_plane(method, rng):
  labels = np.repeat([0, 1], 10)
  embeddings = rng.normal(0, 0.01, (20, 6)) + labels[:, None]
  picture = pair_plots.projection(embeddings, labels, ("a", "b"), method)
  plain = pair_plots.projection(embeddings, labels, (), method)
  # Without the legend; the columns or rows of the colours do not mix.
  places = [
    np.argwhere(np.abs(plain.astype(int) - color).max(axis=-1) < 12)
    for color in (RED, BLUE)
  ]
  gap = np.abs(places[0].mean(0) - places[1].mean(0)).max()
  assert gap > 100
  assert (picture != plain).any()


@pytest.mark.parametrize("count", [1, 2, 30])
def test_constant_embeddings_are_one_point(count):
  picture = pair_plots.projection(np.ones((count, 4)), np.zeros(count, int))
  at = np.argwhere(np.abs(picture.astype(int) - RED).max(axis=-1) < 12)
  assert len(at) and np.ptp(at, axis=0).max() < 10


def test_thumbnails_keep_the_shape():
  wide = np.zeros((4, 16, 1), np.uint8)
  square = overlays.thumbnail(wide, 32)
  assert square.shape == (32, 32, 3)
  rows = (square == 0).all(axis=(1, 2))
  assert rows.sum() == 8 and rows[12:20].all()
