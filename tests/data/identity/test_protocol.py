"""What cannot be verified is refused before training, by name."""

import numpy as np
import pytest

from segsiam_jax import inputs
from segsiam_jax.data.identity import identities
from segsiam_jax.data.identity.protocol import make_protocol
from segsiam_jax.errors import UserError
from tests.siamese_data import Numbers, make_siamese_config, write_identities


def protocol_of(source, **options):
  defaults = {
    "pairs": 40,
    "folds": 4,
    "ways": 3,
    "shots": (1,),
    "queries": 1,
    "episodes": 4,
    "within_group": False,
    "where": "set 'test'",
  }
  return make_protocol(source, **(defaults | options))


def published(same, fold):
  source = Numbers(np.repeat(np.arange(4), 4))
  same = np.array(same, bool)
  count = len(same)
  source.pairs = identities.Pairs(
    first=np.zeros(count, int),
    second=np.where(same, 1, 4),
    same=same,
    fold=np.array(fold),
    kind=np.zeros(count, int),
  )
  return source


@pytest.mark.parametrize(
  ("source", "message"),
  [
    (Numbers([0, 1, 2, 3]), "no identity has two images"),
    (
      Numbers([0, 0, 1, 1], contents=np.array([0, 0, 1, 1])),
      "no identity has two images .copies not counted",
    ),
    (Numbers([0, 0, 0, 0]), "only one identity"),
    (published([1, 1, 1], [0, 0, 0]), "all 3 pairs are same ones.* different"),
    (published([0, 0], [0, 0]), "all 2 pairs are different ones.* same"),
    (
      published([1, 0, 1, 0, 1, 1], [3, 3, 4, 4, 7, 7]),
      "all 2 pairs of fold 7 are same ones",
    ),
    (
      published([1, 0, 0], [0, 0, 1]),
      "all 1 pairs of fold 1 are different ones",
    ),
  ],
)
def test_both_kinds_of_pairs_are_needed(source, message):
  with pytest.raises(UserError, match=f"^set 'test': .*{message}") as caught:
    protocol_of(source)
  assert "\n" not in str(caught.value)


def test_groups_of_one_identity_have_no_different_pairs():
  source = Numbers([0, 0, 1, 1], groups=[0, 0, 1, 1])
  with pytest.raises(UserError, match="no group has two identities"):
    protocol_of(source, within_group=True)
  assert protocol_of(source).pairs.same.any()


def test_published_folds_with_both_kinds_are_kept():
  source = published([1, 0, 1, 0], [3, 3, 9, 9])
  assert protocol_of(source).pairs is source.pairs


def test_every_random_fold_has_both_kinds(caplog):
  """Seven identities, of which one has a same pair or three."""
  for count, folds in ((2, 1), (3, 3)):
    caplog.clear()
    pairs = protocol_of(Numbers([0] * count + [1, 2, 3, 4, 5])).pairs
    assert np.unique(pairs.fold).tolist() == list(range(folds))
    for fold in range(folds):
      same = pairs.same[pairs.fold == fold]
      assert same.any() and not same.all()
    assert f"config.eval.folds = 4; they are scored in {folds}" in caplog.text


def test_trials_that_cannot_be_made_are_told(caplog):
  protocol = protocol_of(Numbers(np.repeat(np.arange(4), 3)), shots=(1, 5))
  assert list(protocol.trials) == ["3_way_1_shot"]
  assert "set 'test': no 3-way 5-shot trials" in caplog.text


def test_a_set_is_refused_when_it_is_opened(tmp_path):
  write_identities(tmp_path / "test", ["ada", "bob"], 1, seed=0)
  write_identities(tmp_path / "one", ["ada"], 3, seed=0)
  config = make_siamese_config(tmp_path)
  with pytest.raises(
    UserError, match="eval_split = 'test': no identity has two"
  ):
    inputs.open_inputs(config, train=False)
  config.data.eval_split = "one"
  with pytest.raises(UserError, match="eval_split = 'one': there is only one"):
    inputs.open_inputs(config, train=False)
