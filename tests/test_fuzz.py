"""Readers given spoiled files: the short version of `tests/fuzz.py`."""

import hypothesis
import pytest

from tests import fuzz

TARGETS = fuzz.make_targets()


@pytest.mark.parametrize("name", TARGETS)
def test_spoiled_files(tmp_path, name):
  target = TARGETS[name]
  target.make(tmp_path / "data")
  assert fuzz.fuzz(target, tmp_path / "data", 25) >= 20


def test_a_fault_of_a_reader_is_found(tmp_path):
  def read(root):
    if b"NaN" in (root / "x.json").read_bytes():
      raise ZeroDivisionError

  contents = fuzz.spoiled_json({"a": [1, 2, {"b": "c"}]})
  target = fuzz.Target(lambda root: None, "x.json", contents, read)
  with pytest.raises(ZeroDivisionError):
    fuzz.fuzz(target, tmp_path, 2000)


def test_examples_are_the_same_each_time():
  assert hypothesis.settings().derandomize
  assert hypothesis.settings(max_examples=3).derandomize
