"""Every public function of losses, metrics and ops: shapes, NaN, dtypes.

What is public is found in the source; a function without an entry in a table
fails. The tables are the modules `cases/public_functions_*`.
"""

import re

import numpy as np
import pytest

from cases.public_functions import (
  WRONG_SHAPES,
  is_floating,
  public_functions,
  trials,
)
from cases.public_functions_tables import TABLES

TRIALS = [trial for table in TABLES for trial in trials(table.CASES)]
# Numbers that no 32 bits hold apart.
WIDE = {
  "int64": lambda x: x.astype(np.int64) * 2**32 + 7,
  "negative": lambda x: x.astype(np.int64) * 2**32 - 2**40,
  "uint64": lambda x: x.astype(np.uint64) + np.uint64(2**63),
}


@pytest.fixture(scope="module", autouse=True)
def drop_programs():
  """So that `forget_programs` can free them."""
  yield
  for trial in TRIALS:
    vars(trial).pop("_program", None)


def over(trials_):
  return pytest.mark.parametrize("trial", trials_, ids=str)


def test_every_public_function_has_an_entry():
  found = set(public_functions())
  entries = [
    name
    for table in TABLES
    for part in (table.CASES, table.EXEMPT)
    for name in part
  ]
  assert found - set(entries) == set(), "add cases of these to a table"
  assert set(entries) - found == set(), "these are gone"
  assert len(entries) == len(set(entries)), "these have two entries"


@over(TRIALS)
def test_wrong_shapes_name_the_argument(trial):
  """Shapes that do not fit raise, and say of which argument."""
  arrays = trial.case.arrays
  names = "|".join(arrays)
  for name, array in arrays.items():
    for change, shaped in WRONG_SHAPES.items():
      if array.ndim == 0 and change != "extra axis":
        continue
      wrong = shaped(array)
      if wrong.shape == array.shape:
        continue
      if change in trial.case.fits.get(name, ()):
        trial.traced(**{name: wrong})
        continue
      try:
        trial.traced(**{name: wrong})
      except ValueError as error:
        said = str(error)
      else:
        pytest.fail(f"{name}: {array.shape} -> {wrong.shape} is taken")
      assert re.match(rf"({names})\b.*shape", said), (change, said)


@pytest.mark.slow
@over([trial for trial in TRIALS if trial.case.floats])
def test_nan_is_not_hidden(trial):
  """NaN in is NaN out, or an error that names the argument."""
  for name, array in trial.case.floats.items():
    for place in {0, array.size - 1}:
      given = array.copy()
      given.flat[place] = np.nan
      try:
        found = trial.compiled(**{name: given})
      except ValueError as error:
        assert name in str(error) and "NaN" in str(error)
        continue
      if name in trial.case.unseen:
        continue
      seen = [x for x in found if is_floating(x) and np.isnan(x).any()]
      assert seen, f"{name}: NaN at {place} is hidden"


@pytest.mark.slow
@over([trial for trial in TRIALS if "where" in trial.case.arrays])
def test_nan_of_padding_changes_nothing(trial):
  where = trial.case.arrays["where"]
  assert (where == 0).any() and (where != 0).any()
  padded = {}
  for name, array in trial.case.floats.items():
    if name != "where" and array.shape[: where.ndim] == where.shape:
      padded[name] = array.copy()
      padded[name][where == 0] = np.nan
  assert_same(trial, trial.compiled(**padded), trial.expected)


@pytest.mark.slow
@over([trial for trial in TRIALS if trial.case.batch != ()])
def test_batches_of_nothing(trial):
  arrays = trial.case.arrays
  names = trial.case.batch or list(arrays)
  size = len(arrays[names[0]])
  empty = {name: arrays[name][:0] for name in names}
  if trial.case.empty_is_error:
    with pytest.raises(ValueError, match=r"\w+"):
      trial.traced(**empty)
    return
  for found, full in zip(trial.traced(**empty), trial.expected, strict=True):
    assert found.dtype == full.dtype
    if full.ndim and full.shape[0] == size:
      assert found.shape[0] == 0
    else:
      assert found.shape == full.shape


@over([trial for trial in TRIALS if not trial.case.host])
def test_compiled_equals_eager(trial):
  assert_same(trial, trial.compiled(), trial.expected)


@over([trial for trial in TRIALS if trial.case.floats])
def test_narrow_floats_are_computed_in_float32(trial):
  """As the same numbers in float32, to the last digits."""
  for narrow, found in zip(trial.narrow, trial.of_narrow(), strict=True):
    rounded = {
      name: narrow[name].astype(np.float32) for name in trial.case.floats
    }
    assert_same(trial, found, trial.compiled(**rounded))


@pytest.mark.slow
@over(TRIALS)
def test_wide_numbers_change_no_dtype(trial):
  """64-bit arrays and NumPy scalars, whether JAX keeps them or not."""
  assert_same(trial, trial.compiled(**trial.widened), trial.expected)
  assert_same(trial, trial.wide(), trial.expected)


@over([trial for trial in TRIALS if trial.case.ids])
def test_64_bit_ids_stay_apart(trial):
  """On the host; what is compiled has 32 bits before the function sees it."""
  for widen in WIDE.values():
    given = {name: widen(trial.case.arrays[name]) for name in trial.case.ids}
    assert_same(trial, trial.eager(**given), trial.expected)


@over([trial for trial in TRIALS if trial.case.classes])
def test_64_bit_classes_do_not_wrap(trial):
  """Class 2^32 + 1 is unknown, not class 1."""
  for name in trial.case.classes:
    array = trial.case.arrays[name]
    unknown = trial.eager(**{name: np.full_like(array, 10**6)})
    for widen in WIDE.values():
      try:
        found = trial.eager(**{name: widen(array)})
      except ValueError as error:
        assert name in str(error)
      else:
        assert_same(trial, found, unknown)


def assert_same(trial, found, expected):
  for left, right in zip(found, expected, strict=True):
    assert left.dtype == right.dtype
    np.testing.assert_allclose(
      np.asarray(left, np.float64),
      np.asarray(right, np.float64),
      rtol=trial.case.rtol,
      atol=trial.case.rtol,
    )
