"""Seconds by cause, over restarts."""

import pytest

from segsiam_jax.report import goodput
from segsiam_jax.report.goodput import Goodput


@pytest.fixture
def clock(monkeypatch):
  """A clock that a test sets."""
  now = [0.0]
  monkeypatch.setattr(goodput.time, "perf_counter", lambda: now[0])

  def advance(seconds):
    now[0] += seconds

  return advance


def test_each_second_has_one_cause(clock):
  good = Goodput()
  for cause, seconds in (("steps", 3), ("input", 1), ("steps", 5)):
    clock(1 if cause == "steps" and seconds == 3 else 0)
    good.now(cause)
    clock(seconds)
  assert good.seconds() == {"start": 1, "steps": 8, "input": 1}
  assert good.summary() == "goodput 80 % of 10 s: start 10 %, input 10 %"


def test_what_was_not_saved_is_lost(clock):
  lines = [
    {"step": 5, "split": "train", "seconds": {"start": 2.0, "steps": 10.0}},
    {"step": 7, "split": "train", "loss": 1.0},
    {"step": 10, "split": "train", "seconds": {"start": 2.0, "steps": 21.5}},
  ]
  good = Goodput()
  good.resume(lines, 5)
  clock(1)
  good.now("steps")
  clock(10)
  seconds = good.seconds()
  assert seconds == {"start": 3, "steps": 20, "lost": 11.5}
  # Killed again, before anything new was saved.
  again = Goodput()
  again.resume([lines[0], {"step": 6, "split": "eval", "seconds": seconds}], 5)
  assert again.seconds() == {"start": 2, "steps": 10, "lost": 22.5}
  first = Goodput()
  first.resume(lines, 0)
  assert first.seconds() == {"lost": 23.5}
