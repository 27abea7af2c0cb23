import numpy as np
import pytest

from segsiam_jax.data.identity import identities, trial_plans
from segsiam_jax.data.identity import rows as identity_rows
from segsiam_jax.errors import UserError
from tests.siamese_data import Numbers


def strokes(size=(60, 80), center=(30, 40), half=(10, 5)):
  image = np.zeros((*size, 1), np.uint8)
  (y, x), (h, w) = center, half
  image[y - h : y + h, x - w : x + w] = 255
  return image


def test_fits():
  image = np.full((40, 20, 1), 200, np.uint8)
  rows = identity_rows.SiameseRows((10, 10), 3, "resize").image(image)
  assert (rows.shape, rows.dtype) == ((10, 10, 3), np.uint8)
  assert (rows == 200).all()
  padded = identity_rows.SiameseRows((10, 10), 1, "pad").image(image)[..., 0]
  assert padded.any(0).tolist() == [False] * 2 + [True] * 5 + [False] * 3
  with pytest.raises(UserError, match=r"config\.data\.channels = 2"):
    identity_rows.SiameseRows((10, 10), 2, "pad").image(
      np.zeros((4, 4, 3), np.uint8)
    )


def test_crops_are_the_middle():
  image = np.arange(60, dtype=np.uint8).reshape(6, 10, 1)
  rows = identity_rows.SiameseRows((4, 4), 1, "crop").image(image)
  np.testing.assert_array_equal(rows, image[1:5, 3:7])
  rows = identity_rows.SiameseRows((8, 4), 1, "crop").image(image)
  np.testing.assert_array_equal(rows[1:7], image[:, 3:7])
  assert not rows[0].any() and not rows[7].any()


def test_moments_undo_place_and_size():
  rows = identity_rows.SiameseRows((32, 32), 1, "moments")
  one = rows.image(strokes())
  for other in (
    strokes(center=(12, 70)),
    strokes((120, 160), (60, 80), (20, 10)),
  ):
    assert np.abs(rows.image(other).astype(int) - one).mean() < 3
  mass = one[..., 0].astype(float)
  for profile in (mass.sum(0), mass.sum(1)):
    center = np.average(np.arange(32) + 0.5, weights=profile)
    assert abs(center - 16) < 0.3
  # A tall box becomes about as wide as it is tall.
  assert 0.6 < (one.max(0) > 128).sum() / (one.max(1) > 128).sum() < 1
  nothing = rows.image(np.zeros((50, 50, 1), np.uint8))
  assert nothing.shape == (32, 32, 1)
  assert not nothing.any()


def test_window_may_reach_beyond_the_image():
  image = strokes((20, 20), (10, 10), (10, 10))
  out = identity_rows.SiameseRows((16, 16), 1, "moments").image(image)
  assert out[0].max() == 0
  assert out[8, 8] == 255


def test_rows_know_copies_and_are_kept():
  source = Numbers([0, 0, 1, 1], contents=np.array([4, 4, 5, 6]))
  reads = []

  class Counted(Numbers):
    def __getitem__(self, index):
      reads.append(index)
      return super().__getitem__(index)

  source = Counted([0, 0, 1, 1], contents=np.array([4, 4, 5, 6]))
  rows = identity_rows.SiameseRows((2, 2), 1, "resize")
  kept = identity_rows.Kept(identity_rows.Contents(source), rows)
  assert [int(kept[i]["content"]) for i in (0, 1, 2, 1)] == [4, 4, 5, 4]
  assert reads == [0, 1, 2]
  row = identity_rows.AsKept(rows)(kept[3], np.random.default_rng(0))
  for name, spec in identity_rows.AsKept(rows).spec().items():
    assert (row[name].shape, row[name].dtype) == (spec.shape, spec.dtype)
  plain = identity_rows.Contents(Numbers([0, 0, 1]))
  assert [plain[i]["content"] for i in range(3)] == [0, 1, 2]


def test_one_drawer_s_drawings_are_found_among_another_s():
  # Two alphabets of four and of two characters, each drawn by three people.
  labels = np.repeat(np.arange(6), 3)
  drawers = np.tile([1, 2, 3], 6)
  index = identities.Index(labels, groups=labels // 4, drawers=drawers)
  trials = trial_plans.drawers_trials(index, ways=3, episodes=6)
  assert trials.support.shape == (6 * 3, 3, 1)
  assert set(labels[trials.query]) == {0, 1, 2, 3}
  for number in range(6):
    mine = trials.episode == number
    support = trials.support[mine][0, :, 0]
    assert len(set(drawers[support])) == 1
    assert len(set(drawers[trials.query[mine]])) == 1
    assert drawers[support][0] != drawers[trials.query[mine]][0]
    assert (
      labels[support][trials.answer[mine]] == labels[trials.query[mine]]
    ).all()
  assert trial_plans.drawers_trials(index, ways=5, episodes=6) is None
  mixed = trial_plans.drawers_trials(
    index, ways=6, episodes=2, within_group=False
  )
  assert mixed.support.shape == (12, 6, 1)
