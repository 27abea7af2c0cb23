"""A few random kills; `kill_campaign` has more."""

import resource

import pytest

from tests import kill_campaign
from tests.train_runs import Run


@pytest.mark.slow
# Orbax 0.12, of arrays that are read as they are.
@pytest.mark.filterwarnings("ignore:Sharding info not provided")
def test_killed_runs_come_to_what_a_calm_one_does(blobs, tmp_path):
  counts = kill_campaign.campaign(blobs, tmp_path, kills=4, seed=3)
  assert counts["kills"] == 4 and counts["runs"] >= 1


@pytest.mark.slow
# Orbax 0.12, of arrays that are read as they are.
@pytest.mark.filterwarnings("ignore:Sharding info not provided")
def test_a_full_disk_is_one_line_and_loses_nothing(blobs, tmp_path):
  """A limit on the size of files fails saves as a full disk does."""
  steps = kill_campaign.STEPS
  settings = (*kill_campaign.SETTINGS, "model.base_width=16")
  calm = Run(blobs, tmp_path / "calm", steps, *settings)
  assert calm.end() == 0, calm.messages
  killed = tmp_path / "killed"
  for step in (0, 10, 20):
    run = Run(blobs, killed, steps, *settings)
    run.wait_for(lambda step=step, run=run: run.last_step() >= step)
    # The messages are a file, too.
    limits = (20_000, resource.RLIM_INFINITY)
    resource.prlimit(run.process.pid, resource.RLIMIT_FSIZE, limits)
    assert run.end() == 2, run.messages
    told = [line for line in run.messages.splitlines() if "rror" in line]
    assert len(told) == 1 and "File too large" in told[0], run.messages
    assert "Traceback" not in run.messages
  run = Run(blobs, killed, steps, *settings)
  assert run.end() == 0, run.messages
  kill_campaign.check_same(tmp_path / "calm", killed)
