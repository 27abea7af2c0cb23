"""A few random kills; `kill_campaign` has more."""

import pytest

from tests import kill_campaign


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Sharding info not provided")
def test_killed_runs_come_to_what_a_calm_one_does(blobs, tmp_path):
  counts = kill_campaign.campaign(blobs, tmp_path, kills=8, seed=3)
  assert counts["kills"] == 8 and counts["runs"] >= 1
