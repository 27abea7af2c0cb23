import numpy as np
import pytest

from segsiam_jax.data import pipeline
from segsiam_jax.data.semantic.rows import SemanticRows


class Numbers:
  """Examples whose every pixel is their index."""

  class_names = ("a", "b")

  def __init__(self, count):
    self._count = count

  def __len__(self):
    return self._count

  def __getitem__(self, index):
    image = np.full((4, 4, 1), index, np.uint8)
    return {"image": image, "label": np.zeros((4, 4), np.uint8)}


ROWS = SemanticRows((4, 4), channels=1, fit="resize", train=True)


def batches(count, **options):
  return pipeline.make_pipeline(Numbers(count), ROWS, **options)


def numbers(batch):
  return batch["image"][:, 0, 0, 0].tolist()


def take(dataset, count):
  iterator = iter(dataset)
  taken = [next(iterator) for _ in range(count)]
  iterator.close()
  return taken


def test_an_epoch_holds_every_example_once_and_epochs_differ():
  taken = take(batches(12, batch_size=4, train=True, seed=3), 6)
  order = [numbers(batch) for batch in taken]
  first, second = np.ravel(order[:3]).tolist(), np.ravel(order[3:]).tolist()
  assert sorted(first) == sorted(second) == list(range(12))
  assert first != second
  again = take(batches(12, batch_size=4, train=True, seed=3), 6)
  assert order == [numbers(batch) for batch in again]
  other = take(batches(12, batch_size=4, train=True, seed=4), 3)
  assert order[:3] != [numbers(batch) for batch in other]


@pytest.mark.parametrize("train", [True, False])
def test_processes_share_the_examples(train):
  shares = [
    take(
      batches(
        12,
        batch_size=4,
        train=train,
        process_index=index,
        process_count=2,
      ),
      3,
    )
    for index in range(2)
  ]
  seen = [
    number for share in shares for batch in share for number in numbers(batch)
  ]
  assert sorted(seen) == list(range(12))
  # The global batches are those of one process, in the same order.
  whole = take(batches(12, batch_size=4, train=train), 3)
  joined = [
    numbers(one) + numbers(other) for one, other in zip(*shares, strict=True)
  ]
  assert joined == [numbers(batch) for batch in whole]
  assert all(len(numbers(batch)) == 2 for share in shares for batch in share)


def test_last_evaluation_batch_is_padded_and_masked():
  for process_count in (1, 2):
    shares = [
      list(
        batches(
          10,
          batch_size=4,
          train=False,
          process_index=index,
          process_count=process_count,
        )
      )
      for index in range(process_count)
    ]
    # The same number of batches everywhere: a collective never waits.
    assert {len(share) for share in shares} == {3}
    rows = [batch for share in shares for batch in share]
    masks = np.concatenate([batch["mask"] for batch in rows])
    values = np.concatenate([numbers(batch) for batch in rows])
    assert masks.sum() == 10
    assert sorted(values[masks > 0]) == list(range(10))


def test_a_batch_may_be_larger_than_the_data_set():
  [batch] = take(batches(3, batch_size=8, train=True), 1)
  assert len(numbers(batch)) == 8
  [batch] = list(batches(3, batch_size=8, train=False))
  assert batch["mask"].tolist() == [1, 1, 1, 0, 0, 0, 0, 0]


@pytest.mark.parametrize(
  "workers", [0, pytest.param(2, marks=pytest.mark.slow)]
)
def test_position_is_saved_and_restored(workers):
  options = {"batch_size": 4, "train": True, "workers": workers}
  iterator = iter(batches(10, **options))
  for _ in range(4):
    next(iterator)
  position = iterator.get_state()
  expected = [numbers(next(iterator)) for _ in range(3)]
  iterator.close()
  other = iter(batches(10, **options))
  other.set_state(position)
  assert [numbers(next(other)) for _ in range(3)] == expected
  other.close()


def test_batches_match_their_spec():
  [batch] = take(batches(5, batch_size=2, train=True), 1)
  spec = pipeline.element_spec(ROWS, 2)
  assert set(batch) == set(spec)
  for name, leaf in spec.items():
    assert batch[name].shape == leaf.shape
    assert batch[name].dtype == leaf.dtype


class Wide(Numbers):
  """Every third example is twice as wide."""

  def __getitem__(self, index):
    width = 8 if index % 3 == 0 else 4
    return {
      "image": np.full((4, width, 1), index, np.uint8),
      "label": np.zeros((4, width), np.uint8),
    }


def bucketed(count, **options):
  rows = [
    SemanticRows((4, width), channels=1, fit="resize", train=True)
    for width in (4, 8, 16)
  ]
  of = np.where(np.arange(count) % 3 == 0, 1, 0)
  return pipeline.make_pipeline(
    Wide(count), pipeline.Buckets(rows, of), **options
  )


def test_a_training_batch_is_of_one_bucket():
  taken = take(bucketed(12, batch_size=4, train=True, seed=3), 30)
  for batch in taken:
    wide = {number % 3 == 0 for number in numbers(batch)}
    assert batch["image"].shape == (4, 4, 8 if wide == {True} else 4, 1)
    assert len(wide) == 1
  # They take turns: ten epochs hold every example ten times.
  seen = np.bincount(np.ravel([numbers(batch) for batch in taken]))
  assert seen.tolist() == [10] * 12
  shapes = [batch["image"].shape[2] for batch in taken]
  assert 8 in shapes[:4] and 4 in shapes[:4]


def test_evaluation_holds_every_example_of_every_bucket_once():
  for process_count in (1, 2):
    shares = [
      list(
        bucketed(
          11,
          batch_size=4,
          train=False,
          process_index=index,
          process_count=process_count,
        )
      )
      for index in range(process_count)
    ]
    # 7 narrow and 4 wide ones; a process may have padding alone.
    assert {len(share) for share in shares} == {3}
    for rows in zip(*shares, strict=True):
      assert len({one["image"].shape[2] for one in rows}) == 1
    rows = [batch for share in shares for batch in share]
    indices = np.concatenate([batch["index"] for batch in rows])
    assert sorted(indices[indices >= 0]) == list(range(11))
    for batch in rows:
      valid = batch["mask"] > 0
      np.testing.assert_array_equal(
        batch["image"][valid, 0, 0, 0], batch["index"][valid]
      )


def test_buckets_do_not_depend_on_processes_and_resume():
  options = {"batch_size": 4, "train": True, "seed": 1}
  whole = take(bucketed(12, **options), 9)
  shares = [
    take(
      bucketed(12, process_index=index, process_count=2, **options),
      9,
    )
    for index in range(2)
  ]
  joined = [
    numbers(one) + numbers(other) for one, other in zip(*shares, strict=True)
  ]
  assert joined == [numbers(batch) for batch in whole]
  iterator = iter(bucketed(12, **options))
  for _ in range(5):
    next(iterator)
  position = iterator.get_state()
  iterator.close()
  other = iter(bucketed(12, **options))
  other.set_state(position)
  rest = [numbers(next(other)) for _ in range(4)]
  other.close()
  assert rest == [numbers(batch) for batch in whole[5:]]


def row(fit, image, label, size=(8, 8), train=False, channels=1):
  rows = SemanticRows(size, channels=channels, fit=fit, train=train)
  example = {"image": image, "label": label}
  return rows(example, np.random.default_rng(0))


@pytest.mark.parametrize("fit", ["resize", "pad", "crop"])
@pytest.mark.parametrize("shape", [(5, 20), (8, 8), (30, 6), (3, 2)])
def test_rows_have_one_shape_and_keep_image_and_label_together(fit, shape, rng):
  # The label is the image: they must stay equal, and padding is ignored.
  label = np.kron(rng.integers(0, 2, shape), np.ones((2, 2))).astype(np.uint8)
  made = row(fit, label[..., None], label, train=True)
  assert made["image"].shape == (8, 8, 1)
  assert made["label"].shape == (8, 8)
  inside = made["label"] != 255
  assert inside.any()
  if fit == "crop":
    np.testing.assert_array_equal(
      made["image"][..., 0][inside], made["label"][inside]
    )
  assert inside.all() or fit != "resize"


def test_pad_keeps_the_shape_of_things():
  image = np.zeros((16, 8, 1), np.uint8)
  made = row("pad", image, image[..., 0])
  assert (made["label"][:, :4] == 0).all()
  assert (made["label"][:, 4:] == 255).all()


def test_evaluation_crops_the_middle():
  image = np.arange(100, dtype=np.uint8).reshape(10, 10)
  made = row("crop", image[..., None], image, size=(4, 4))
  np.testing.assert_array_equal(made["label"], image[3:7, 3:7])
