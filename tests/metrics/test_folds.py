"""The k-fold protocol, and that nothing can be dropped from it."""

import numpy as np
import pytest

from segsiam_jax.metrics import k_fold_verification, pair_scores

PAIRS, FOLDS = 200, 10


@pytest.fixture
def protocol(rng):
  same = np.arange(PAIRS) % 2
  scores = rng.normal(0.8 * same, 1.0)
  return scores, same, np.repeat(np.arange(FOLDS), PAIRS // FOLDS)


def test_threshold_of_the_other_folds(protocol):
  """A grid of thresholds, chosen and applied by loops."""
  scores, same, folds = protocol
  grid = np.arange(-3, 3, 0.05)
  accuracies, thresholds = [], []
  for fold in range(FOLDS):
    test = folds == fold
    right = [((scores[~test] >= t) == same[~test]).mean() for t in grid]
    thresholds.append(grid[int(np.argmax(right))])
    accepted = scores[test] >= thresholds[-1]
    accuracies.append((accepted == same[test]).mean())
  result = k_fold_verification(
    scores, same, folds, candidates=grid, num_pairs=PAIRS
  )
  np.testing.assert_allclose(result.thresholds, thresholds)
  np.testing.assert_allclose(result.accuracies, accuracies)
  assert result.mean == pytest.approx(np.mean(accuracies))
  assert result.std == pytest.approx(np.std(accuracies, ddof=1))
  assert result.standard_error == pytest.approx(result.std / np.sqrt(FOLDS))
  assert result.tars is None and result.fars is None


def test_all_thresholds_and_far(protocol):
  scores, same, folds = protocol
  result = k_fold_verification(
    scores, same, folds, criterion="balanced_accuracy", far=0.1
  )
  test = folds == 3
  others = np.sort(scores[~test & (same == 0)])[::-1]
  threshold = min(scores[~test][scores[~test] > others[9]])
  accepted = scores[test] >= threshold
  assert result.tars[3] == accepted[same[test] == 1].mean()
  assert result.fars[3] == accepted[same[test] == 0].mean()
  assert 0.5 < result.mean < 0.9


def test_order_of_pairs_does_not_matter(protocol, rng):
  scores, same, folds = protocol
  order = rng.permutation(PAIRS)
  np.testing.assert_allclose(
    k_fold_verification(scores[order], same[order], folds[order]).accuracies,
    k_fold_verification(scores, same, folds).accuracies,
  )


def test_missing_pairs_are_errors(protocol):
  scores, same, folds = protocol
  dropped = np.delete(np.arange(PAIRS), 45)
  with pytest.raises(ValueError, match="has 200 pairs; got scores for 199"):
    k_fold_verification(
      scores[dropped], same[dropped], folds[dropped], num_pairs=PAIRS
    )
  scores[45] = np.nan
  with pytest.raises(ValueError, match=r"1 of 200 .*pair 45 of fold 2"):
    k_fold_verification(scores, same, folds)
  with pytest.raises(ValueError, match="needs two folds; got 1"):
    k_fold_verification(np.ones(4), np.ones(4), np.zeros(4))
  with pytest.raises(ValueError, match="one length"):
    k_fold_verification(np.ones(4), np.ones(4), np.zeros(3))


def test_pair_scores(rng):
  embeddings = rng.normal(size=(3, 5)).astype(np.float32)
  ids = ["ann/1", "ann/2", "bob/1"]
  scores = pair_scores(
    embeddings, ids, [("ann/1", "bob/1"), ("ann/2", "ann/2")], metric="l1"
  )
  expected = -np.abs(embeddings[0] - embeddings[2]).sum()
  np.testing.assert_allclose(scores, [expected, 0.0], rtol=1e-6)
  assert pair_scores(embeddings, ids, []).shape == (0,)
  with pytest.raises(ValueError, match=r"1 examples .* not embedded: eve/1;"):
    pair_scores(embeddings, ids, [("ann/1", "eve/1")])
  with pytest.raises(ValueError, match="ids must be unique"):
    pair_scores(embeddings, ["a", "a", "b"], [])
