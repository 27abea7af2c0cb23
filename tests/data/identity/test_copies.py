"""Exact copies never meet in a trial or an episode, by whatever plan."""

import numpy as np
import pytest

from segsiam_jax.data.identity import identities, sampling, trial_plans
from segsiam_jax.data.identity.protocol import make_protocol
from segsiam_jax.errors import UserError
from tests.siamese_data import Numbers, scores_of


def stored_four_times(identity_count=12, images=3):
  """Labels, and contents of `images` different images, four copies each."""
  labels = np.repeat(np.arange(identity_count), 4 * images)
  contents = np.arange(len(labels)) // 4
  return labels, contents


def assert_no_copies(contents, trials):
  """No query is in its support set, and no image there twice."""
  for query, support in zip(trials.query, trials.support, strict=True):
    shown = contents[np.append(support.ravel(), query)]
    assert len(np.unique(shown)) == len(shown)


def test_noise_scores_as_chance():
  """Images without any likeness, each stored four times."""
  labels, contents = stored_four_times(images=6)
  source = Numbers(labels, contents=contents)
  protocol = make_protocol(
    source,
    pairs=40,
    folds=4,
    ways=3,
    shots=(1,),
    queries=3,
    episodes=300,
    within_group=False,
  )
  assert_no_copies(contents, protocol.trials["3_way_1_shot"])
  noise = np.random.default_rng(0).normal(size=(contents.max() + 1, 16))
  accuracy = scores_of(protocol, noise[contents])["3_way_1_shot"]
  assert accuracy == pytest.approx(1 / 3, abs=0.05)


@pytest.mark.parametrize("within_group", [False, True])
def test_trials(within_group):
  labels, contents = stored_four_times()
  # An image that two identities have is no one's.
  contents[0] = contents[-1] = contents.max() + 1
  index = identities.Index(labels, labels // 6, contents)
  trials = trial_plans.random_trials(
    index, ways=5, shots=2, queries=1, episodes=40, within_group=within_group
  )
  assert_no_copies(contents, trials)
  assert not np.isin(trials.support, (0, len(labels) - 1)).any()
  # Four copies of three images are no four images.
  assert (
    trial_plans.random_trials(index, ways=5, shots=3, queries=1, episodes=1)
    is None
  )


def drawings():
  """Ten identities drawn by three people; some drawings are equal."""
  labels, drawers = np.repeat(np.arange(10), 3), np.tile([1, 2, 3], 10)
  contents = np.arange(30)
  contents[1] = contents[0]  # Of identity 0 by drawers 1 and 2.
  contents[28] = contents[5]  # Of identities 9 and 1.
  return identities.Index(labels, np.zeros(30, int), contents, drawers=drawers)


def test_drawers_trials():
  index = drawings()
  trials = trial_plans.drawers_trials(index, ways=8, episodes=60)
  assert_no_copies(index.contents, trials)
  assert not np.isin(trials.support, (5, 28)).any()
  # Drawer 3's own drawing of it is still asked for.
  assert 2 in trials.query and 0 in trials.query


def test_drawers_trials_need_ways_that_are_no_copies():
  labels, drawers = np.repeat(np.arange(4), 2), np.tile([1, 2], 4)
  index = identities.Index(labels, None, labels, drawers=drawers)
  assert trial_plans.drawers_trials(index, ways=2, episodes=9) is None


def episodes_of(index, by_drawer=False, **options):
  options = {"ways": 4, "shots": 1, "queries": 1} | options
  each = options["shots"] + options["queries"]
  plan = sampling.make_plan(
    index,
    sampling.Sampling(
      kind="episodes",
      batch_size=options["ways"] * each,
      by_drawer=by_drawer,
      **options,
    ),
  )
  return [plan[number]["image"] for number in range(60)]


def test_training_episodes():
  labels, contents = stored_four_times()
  contents[0] = contents[-1] = contents.max() + 1
  index = identities.Index(labels, None, contents)
  for rows in episodes_of(index, shots=2):
    assert len(np.unique(contents[rows])) == len(rows)
    assert (labels[rows].reshape(4, 3) == labels[rows[::3], None]).all()
  with pytest.raises(UserError, match="4 images each, copies not counted"):
    episodes_of(index, shots=2, queries=2)


def test_training_episodes_by_drawer():
  index = drawings()
  for rows in episodes_of(index, by_drawer=True):
    assert len(np.unique(index.contents[rows])) == len(rows)


def test_without_copies_trials_are_those_of_before():
  """Nothing else is drawn where there are no copies."""
  labels = np.repeat(np.arange(6), 5)
  index = identities.Index(labels)
  trials = trial_plans.random_trials(
    index, ways=3, shots=1, queries=2, episodes=1, seed=4
  )
  rng = np.random.default_rng((4, 3, 1))
  chosen = rng.choice(np.arange(6), 3, replace=False)
  drawn = [
    rng.choice(np.flatnonzero(labels == identity), 3, replace=False)
    for identity in chosen
  ]
  np.testing.assert_array_equal(
    trials.support[0, :, 0], [rows[0] for rows in drawn]
  )
  np.testing.assert_array_equal(
    trials.query, np.concatenate([rows[1:] for rows in drawn])
  )
