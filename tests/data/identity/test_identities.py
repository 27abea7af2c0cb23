import numpy as np
import pytest

from segsiam_jax.data.identity import checks, identities, trial_plans
from segsiam_jax.errors import UserError
from tests.siamese_data import Numbers


def test_index_knows_members_and_groups():
  index = identities.Index([2, 0, 2, 1], groups=[7, 7, 9, 9])
  assert index.members(2).tolist() == [0, 2]
  assert index.group_names.tolist() == [7, 9]
  assert index.identities_of_group(9).tolist() == [1, 2]
  assert index.with_a_pair().tolist() == [2]


def test_copies_are_never_a_pair(rng):
  # Examples 0 and 1 are copies of one identity, 2 and 3 of two identities.
  labels, contents = [0, 0, 0, 1, 1, 2, 2], [5, 5, 6, 6, 7, 8, 8]
  index = identities.Index(labels, contents=contents)
  assert index.with_a_pair().tolist() == [0, 1]
  for _ in range(50):
    assert index.draw_other_image(0, rng) == 2
    assert index.draw_other_identity(2, rng) != 3
  pairs = trial_plans.random_pairs(index, 1000)
  assert (index.contents[pairs.first] != index.contents[pairs.second]).all()
  same = index.labels[pairs.first] == index.labels[pairs.second]
  np.testing.assert_array_equal(same, pairs.same)
  # All there are, none twice: 2 + 1 same ones, and 12 + 4 - 1 different ones.
  assert (pairs.same.sum(), (~pairs.same).sum()) == (3, 15)


def test_pairs_are_balanced_over_folds_and_within_groups():
  labels = np.repeat(np.arange(12), 6)
  index = identities.Index(labels, groups=labels // 4)
  pairs = trial_plans.random_pairs(index, 200, within_group=True)
  assert len(pairs.first) == 200
  for fold in range(10):
    assert pairs.same[pairs.fold == fold].sum() == 10
    assert (~pairs.same[pairs.fold == fold]).sum() == 10
  assert (index.groups[pairs.first] == index.groups[pairs.second]).all()
  again = trial_plans.random_pairs(index, 200, within_group=True)
  np.testing.assert_array_equal(pairs.first, again.first)


def test_trials_hold_the_answer_and_no_query():
  labels = np.repeat(np.arange(12), 6)
  index = identities.Index(labels, groups=labels // 4)
  trials = trial_plans.random_trials(
    index, ways=3, shots=2, queries=2, episodes=5, within_group=True
  )
  assert trials.support.shape == (5 * 6, 3, 2)
  asked = np.take_along_axis(
    labels[trials.support], trials.answer[:, None, None], axis=1
  )
  assert (asked[:, 0] == labels[trials.query][:, None]).all()
  assert not (trials.support == trials.query[:, None, None]).any()
  groups = index.groups[trials.support]
  assert (groups == index.groups[trials.query][:, None, None]).all()
  assert len(set(trials.answer)) == 3
  assert (
    trial_plans.random_trials(index, ways=3, shots=5, queries=2, episodes=5)
    is None
  )
  assert (
    trial_plans.random_trials(
      index, ways=5, shots=1, queries=1, episodes=5, within_group=True
    )
    is None
  )


def test_mistakes_are_one_line():
  with pytest.raises(UserError, match="^train: identity b has no images"):
    checks.check_identities(
      Numbers([0, 0, 2, 2], names=("a", "b", "c")), "train"
    )
  with pytest.raises(UserError, match="^train: identity n1 has only one image"):
    checks.check_identities(Numbers([0, 0, 1]), "train")
  copies = Numbers([0, 0, 1, 1], contents=np.array([0, 1, 2, 2]))
  with pytest.raises(UserError, match="n1 has only one image .copies"):
    checks.check_identities(copies, "train")
  with pytest.raises(UserError, match="only one identity"):
    checks.check_identities(Numbers([0, 0]), "train")
  checks.check_identities(Numbers([0, 0, 1, 1]), "train")
  # Some may only differ from others, but not all.
  checks.check_identities(Numbers([0, 0, 1]), "train", singles=True)
  with pytest.raises(UserError, match="identities n0, n1 have only one image"):
    checks.check_identities(Numbers([0, 1]), "train", singles=True)
  with pytest.raises(UserError, match=r"share identities: n1 \(1 in all\)"):
    checks.check_disjoint(
      Numbers([0, 0, 1, 1]), Numbers([0, 0], names=("n1", "n5"))
    )
  # A name without examples in a split is not shared.
  checks.check_disjoint(Numbers([0, 0, 1]), Numbers([2, 2]))


def test_without_singles_numbers_identities_anew():
  source = Numbers([0, 1, 1, 2, 2, 2], groups=[1, 2, 2, 3, 3, 3])
  kept = identities.without_singles(source)
  assert kept.labels.tolist() == [0, 0, 1, 1, 1]
  assert kept.class_names == ("n1", "n2")
  assert kept.groups.tolist() == [2, 2, 3, 3, 3]
  example = kept[2]
  assert (example["id"], example["label"]) == ("3", 1)
  assert identities.without_singles(kept) is kept
