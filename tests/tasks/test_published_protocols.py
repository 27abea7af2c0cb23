"""Readers and metrics together: folds and kinds come out as published."""

import numpy as np
import pytest
from PIL import Image

from segsiam_jax import metrics
from segsiam_jax.data.identity import cedar, lfw, omniglot
from segsiam_jax.data.identity.protocol import make_protocol
from tests.data.identity.omniglot_files import write_runs
from tests.siamese_data import scores_of


def evaluate(source, embeddings, far=0.1):
  """Metrics of embeddings given by example."""
  protocol = make_protocol(
    source,
    pairs=100,
    folds=10,
    ways=5,
    shots=(1,),
    queries=1,
    episodes=10,
    within_group=False,
  )
  return scores_of(protocol, embeddings, far)


@pytest.fixture
def signatures(tmp_path):
  """CEDAR's layout: six writers with four signatures and four forgeries."""
  for folder, kind in (("full_org", "original"), ("full_forg", "forgeries")):
    (tmp_path / folder).mkdir()
    for writer in range(1, 7):
      for number in range(1, 5):
        path = tmp_path / folder / f"{kind}_{writer}_{number}.png"
        pixels = np.full((6, 8), 250, np.uint8)
        pixels[number, :writer] = 10
        Image.fromarray(pixels).save(path)
  return cedar.open_cedar(str(tmp_path), "all")


def test_skilled_and_random_forgeries_are_told_apart(signatures, rng):
  """A network that knows writers, and takes skilled forgeries for genuine."""
  forged = np.array(["forgeries" in name for name in signatures.ids])
  embeddings = np.stack(
    [10.0 * signatures.groups, rng.normal(0, 0.1, len(forged))], axis=1
  )
  out = evaluate(signatures, embeddings)
  assert out["eer/random"] == 0 and out["auc/random"] == 1
  assert out["eer/skilled"] > 0.4 and out["auc/skilled"] < 0.6
  assert out["threshold_far/random"] == 0
  # All forgeries together: half of the different pairs.
  assert out["auc"] == pytest.approx((1 + out["auc/skilled"]) / 2, abs=1e-6)
  # A network that sees every forgery.
  embeddings[forged, 0] += 5.0
  out = evaluate(signatures, embeddings)
  assert out["eer/skilled"] == out["eer/random"] == out["eer"] == 0
  assert out["verification_accuracy"] == 1
  assert not any("genuine" in name for name in out)


def test_forgeries_are_no_queries_of_retrieval(signatures):
  """They are of no writer; among genuine ones they only distract."""
  embeddings = 10.0 * signatures.groups[:, None] + np.zeros((1, 2))
  forged = np.array(["forgeries" in name for name in signatures.ids])
  embeddings[forged] += 3.0
  assert evaluate(signatures, embeddings)["map_at_r"] == 1.0


def test_a_threshold_comes_from_other_folds(tmp_path):
  """Fold 2 has other distances, which its own threshold would know."""
  lines = ["3\t2"]
  for fold in range(3):
    people = [f"P{fold}{letter}" for letter in "ABCD"]
    for person in people:
      (tmp_path / person).mkdir()
      for number in (1, 2):
        Image.new("L", (4, 4), 60 * fold + number).save(
          tmp_path / person / f"{person}_{number:04d}.jpg"
        )
    lines += [f"{people[0]}\t1\t2", f"{people[1]}\t1\t2"]
    lines += [
      f"{people[0]}\t1\t{people[2]}\t1",
      f"{people[1]}\t1\t{people[3]}\t1",
    ]
  (tmp_path / "pairs.txt").write_text("\n".join(lines) + "\n")
  source = lfw.open_lfw(str(tmp_path), "pairs")
  pairs = source.pairs
  # Same pairs 1 apart and different ones 3; in fold 2 everything is 5 apart
  # or more, so that the others' threshold of 2 accepts nothing.
  embeddings = np.zeros((len(source), 1))
  for row in range(len(pairs.same)):
    first, second = pairs.first[row], pairs.second[row]
    apart = 1.0 if pairs.same[row] else 3.0
    embeddings[second] = (
      embeddings[first] + apart + 5.0 * (pairs.fold[row] == 2)
    )
  out = evaluate(source, embeddings, far=0.5)
  scores = -np.abs(embeddings[pairs.first] - embeddings[pairs.second])[:, 0]
  slow = []
  for fold in range(3):
    rest = pairs.fold != fold
    best = metrics.best_threshold(scores[rest], pairs.same[rest]).threshold
    accepted = scores[~rest] >= best
    slow.append((accepted == pairs.same[~rest]).mean())
  assert slow[2] == 0.5
  assert out["verification_accuracy"] == pytest.approx(np.mean(slow))


def test_lake_s_trials_are_scored_run_by_run(tmp_path):
  write_runs(tmp_path, runs=2, ways=4)
  source = omniglot.open_omniglot(str(tmp_path), "one_shot_runs")
  # Only run01 is understood; in run02 all look alike.
  embeddings = np.where(source.groups == 0, 1.0 + source.labels, 0.0)[:, None]
  out = evaluate(source, embeddings)
  assert out["4_way_1_shot"] == pytest.approx((4 * 1.0 + 4 * 0.25) / 8)
