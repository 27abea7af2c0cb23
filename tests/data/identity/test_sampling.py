import collections
import pickle

import numpy as np
import pytest

from segsiam_jax.data import pipeline
from segsiam_jax.data.identity import identities, sampling
from segsiam_jax.errors import UserError
from tests.siamese_data import Numbers

LABELS = np.repeat(np.arange(12), 6)


def make(kind, batch_size, labels=LABELS, groups=None, contents=None, **fields):
  index = identities.Index(labels, groups, contents)
  return sampling.make_plan(
    index, sampling.Sampling(kind, batch_size, seed=3, **fields)
  )


def batches(plan, count, start=0):
  return [plan[number] for number in range(start, start + count)]


@pytest.mark.parametrize("kind", list(sampling.BRANCHES))
def test_a_batch_depends_on_its_number_alone(kind):
  sizes = {"ways": 4, "shots": 1, "queries": 2}
  plan, again = make(kind, 24, **sizes), make(kind, 24, **sizes)
  one = plan[5]
  plan[0], plan[1]
  other = pickle.loads(pickle.dumps(again))[5]
  assert set(one) == set(other) == set(sampling.BRANCHES[kind])
  for name, indices in one.items():
    assert (indices.shape, indices.dtype) == ((24,), np.int64)
    np.testing.assert_array_equal(indices, other[name])
  assert (one["image"] != plan[6]["image"]).any()


def test_every_example_is_an_anchor_once_an_epoch():
  for kind in ("examples", "pairs", "triplets"):
    plan = make(kind, 16)
    seen = np.concatenate([b["image"] for b in batches(plan, 9)])
    np.testing.assert_array_equal(np.bincount(seen), 2)
    np.testing.assert_array_equal(np.sort(seen[:72]), np.arange(72))


@pytest.mark.parametrize("ratio", [0.0, 0.25, 0.5, 1.0])
def test_pairs_have_the_ratio_asked_for(ratio):
  plan = make("pairs", 16, same_ratio=ratio)
  rows = set()
  for batch in batches(plan, 20):
    same = LABELS[batch["image"]] == LABELS[batch["other"]]
    assert same.sum() == 16 * ratio
    assert (batch["image"] != batch["other"]).all()
    rows.update(np.flatnonzero(same).tolist())
  if 0 < ratio < 1:
    assert rows == set(range(16))


def test_copies_make_no_pair():
  # Each identity has two drawings, one of them twice.
  contents = np.arange(36) - (np.arange(36) % 3 == 1)
  labels = np.repeat(np.arange(12), 3)
  plan = make("pairs", 36, labels, contents=contents, same_ratio=1.0)
  for batch in batches(plan, 5):
    assert (contents[batch["image"]] != contents[batch["other"]]).all()
  plan = make("identities", 24, labels, contents=contents, per_identity=2)
  for batch in batches(plan, 5):
    pairs = contents[batch["image"]].reshape(12, 2)
    assert (pairs[:, 0] != pairs[:, 1]).all()


def test_triplets_and_negatives_of_the_group():
  plan = make("triplets", 16, groups=LABELS // 4, within_group=True)
  for batch in batches(plan, 10):
    anchor, positive, negative = (
      LABELS[batch[name]] for name in ("image", "positive", "negative")
    )
    assert (anchor == positive).all()
    assert (batch["image"] != batch["positive"]).all()
    assert (anchor != negative).all()
    assert (anchor // 4 == negative // 4).all()
  # A group of one identity has no negatives of its own.
  plan = make("triplets", 16, groups=LABELS, within_group=True)
  assert (LABELS[plan[0]["negative"]] != LABELS[plan[0]["image"]]).all()


def test_p_times_k():
  plan = make("identities", 12, per_identity=4)
  counts = collections.Counter()
  for batch in batches(plan, 4):
    labels = LABELS[batch["image"]].reshape(3, 4)
    assert (labels == labels[:, :1]).all()
    assert len(set(batch["image"])) == 12
    counts.update(labels[:, 0].tolist())
  # Every identity once an epoch.
  assert set(counts.values()) == {1}
  # Repeated where there are too few.
  few = make("identities", 16, np.repeat(np.arange(4), 2), per_identity=4)
  assert set(np.bincount(few[0]["image"])) == {2}


def test_p_times_k_of_one_group_where_asked():
  plan = make(
    "identities", 8, groups=LABELS // 4, per_identity=2, within_group=True
  )
  groups = [np.unique(LABELS[b["image"]] // 4).size for b in batches(plan, 60)]
  mixed = make("identities", 8, groups=LABELS // 4, per_identity=2)
  others = [np.unique(LABELS[b["image"]] // 4).size for b in batches(mixed, 60)]
  assert np.mean(groups) < np.mean(others) - 0.4


def test_episodes_lie_one_after_the_other():
  plan = make("episodes", 24, ways=4, shots=1, queries=2)
  counts = collections.Counter()
  for batch in batches(plan, 6):
    labels = LABELS[batch["image"]].reshape(2, 4, 3)
    assert (labels == labels[..., :1]).all()
    assert all(len(set(row)) == 4 for row in labels[..., 0].tolist())
    assert len(set(batch["image"][:12])) == 12
    counts.update(labels[..., 0].ravel().tolist())
  assert set(counts.values()) == {4}


def test_episodes_by_drawer_ask_one_person_s_drawings_of_another_s():
  # Three alphabets of 4, 4 and 2 characters, each drawn by three people.
  labels, drawers = np.repeat(np.arange(10), 3), np.tile([1, 2, 3], 10)
  groups = labels // 4
  index = identities.Index(labels, groups, drawers=drawers)
  settings = sampling.Sampling(
    "episodes", 12, ways=3, queries=1, within_group=True, by_drawer=True
  )
  plan = sampling.make_plan(index, settings)
  seen = set()
  for batch in batches(plan, 40):
    known, asked = batch["image"].reshape(2, 3, 2).transpose(2, 0, 1)
    np.testing.assert_array_equal(labels[known], labels[asked])
    for rows in (known, asked):
      assert all(len(set(row)) == 1 for row in drawers[rows])
    assert (drawers[known] != drawers[asked]).all()
    assert all(len(set(row)) == 3 for row in labels[known])
    assert all(len(set(row)) == 1 for row in groups[known])
    seen |= set(known.ravel())
  # All of the alphabets of enough characters.
  assert seen == set(np.flatnonzero(groups < 2))
  with pytest.raises(UserError, match="ask for fewer"):
    sampling.make_plan(index, settings._replace(ways=5))
  nobody = identities.Index(labels, groups)
  with pytest.raises(UserError, match="does not say who"):
    sampling.make_plan(nobody, settings)


def test_mined_negatives_are_taken():
  negatives = ((np.arange(72)[:, None] // 6 + 1) * 6 + [0, 1]) % 72
  negatives[:6] = -1
  for kind, name in (("triplets", "negative"), ("pairs", "other")):
    plan = make(kind, 16, same_ratio=0.0)
    plan.use_negatives(negatives)
    for batch in batches(plan, 5):
      anchor, chosen = batch["image"], batch[name]
      mined = anchor >= 6
      assert (LABELS[chosen] == (LABELS[anchor] + 1) % 12)[mined].all()
      assert (chosen % 6 < 2)[mined].all()
      assert (LABELS[chosen] != 0)[~mined].all()
  plan = make("identities", 16, per_identity=2)
  plan.use_negatives(negatives)
  for batch in batches(plan, 5):
    drawn = LABELS[batch["image"]].reshape(8, 2)[:, 0]
    assert len(set(drawn.tolist())) == 8
    followed = [(i + 1) % 12 in drawn for i in drawn if i != 0]
    assert sum(followed) >= 4


def test_what_cannot_be_drawn_is_told():
  with pytest.raises(UserError, match="needs 13 identities a batch, and .* 12"):
    make("identities", 26, per_identity=2)
  with pytest.raises(UserError, match="12 identities of .* = 7 images each"):
    make("episodes", 84, ways=12, shots=1, queries=6)
  with pytest.raises(UserError, match="only one identity"):
    make("pairs", 2, np.zeros(4, int), same_ratio=0.0)[0]


def read(process_index=0, process_count=1, kind="triplets"):
  source = Numbers(LABELS)

  class Rows:
    def spec(self):
      import jax

      return {
        "image": jax.ShapeDtypeStruct((1, 1, 1), np.uint8),
        "label": jax.ShapeDtypeStruct((), np.int32),
      }

    def __call__(self, example, rng):
      del rng
      return {"image": example["image"], "label": np.int32(example["label"])}

  plan = make(kind, 8)
  data = pipeline.make_pipeline(
    source,
    Rows(),
    batch_size=8,
    train=True,
    plan=plan,
    process_index=process_index,
    process_count=process_count,
    threads=2,
  )
  spec = pipeline.element_spec(Rows(), 8, sampling.BRANCHES[kind])
  return iter(data), spec


def test_processes_read_their_share_of_the_global_batch():
  whole, spec = read()
  halves = [read(part, 2)[0] for part in range(2)]
  for _ in range(3):
    batch = next(whole)
    parts = [next(half) for half in halves]
    assert set(batch) == set(spec)
    for name, rows in batch.items():
      assert (rows.shape, rows.dtype) == (spec[name].shape, spec[name].dtype)
      np.testing.assert_array_equal(
        rows, np.concatenate([part[name] for part in parts])
      )
    images = batch["negative"].ravel().astype(int)
    np.testing.assert_array_equal(batch["negative_label"], LABELS[images])
    np.testing.assert_array_equal(batch["negative_index"], images)


def test_reading_resumes_at_any_batch():
  iterator, _ = read()
  for _ in range(3):
    next(iterator)
  state, expected = iterator.get_state(), next(iterator)
  other, _ = read()
  other.set_state(state)
  for name, rows in next(other).items():
    np.testing.assert_array_equal(rows, expected[name])
