"""The foreground-restricted Rand score of the ISBI 2012 EM challenge."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import scipy.ndimage
import scipy.sparse

from segsiam_jax.metrics.checks import check_no_nan
from segsiam_jax.metrics.gather import gather
from segsiam_jax.ops.shapes import check_shapes


class RandScore(NamedTuple):
  """Agreement of two segmentations over all pairs of pixels.

  Attributes:
    score: harmonic mean of `split` and `merge`; 1 is perfect.
    split: low where true segments are broken up.
    merge: low where true segments are joined.
  """

  score: float
  split: float
  merge: float


def foreground_rand_score(segments: np.ndarray, truth: np.ndarray) -> RandScore:
  """Rand F-score over the pixels that belong to a true segment.

  With p_ij the share of those pixels in segment i and true segment j,
  s_i and t_j its sums: `sum p^2 / (0.5 sum s^2 + 0.5 sum t^2)`. Pixels that
  the prediction calls border (0) count for the nearest predicted segment,
  the limit of thinning the borders: only the place of a border can be wrong,
  not its width.

  Args:
    segments: `(*S)` integers, predicted; 0 for borders.
    truth: `(*S)` integers, true; 0 for borders, which do not count.

  Returns:
    The score; NaN if `truth` has no segment.

  Raises:
    ValueError: shapes that differ, an axis of length 0, or NaN.

  References:
    Arganda-Carreras et al., Crowdsourcing the creation of image segmentation
    algorithms for connectomics, Frontiers in Neuroanatomy 9:142, 2015.

  >>> truth = np.array([[1, 1, 0, 2, 2]])
  >>> foreground_rand_score(truth, truth).score
  1.0
  >>> print(round(foreground_rand_score(np.ones((1, 5)), truth).score, 4))
  0.6667
  """
  truth, segments = np.asarray(truth), np.asarray(segments)
  check_shapes(segments=(segments, "*S+"), truth=(truth, "*S+"))
  check_no_nan("row", segments=segments, truth=truth)
  inside = truth != 0
  if not inside.any():
    return RandScore(np.nan, np.nan, np.nan)
  segments = _without_borders(segments)[inside]
  _, rows = np.unique(segments, return_inverse=True)
  _, columns = np.unique(truth[inside], return_inverse=True)
  counts = scipy.sparse.coo_matrix(
    (np.ones(rows.size), (rows.ravel(), columns.ravel()))
  ).tocsr()
  both = float(counts.power(2).sum())
  of_segments = float(np.square(counts.sum(axis=1)).sum())
  of_truth = float(np.square(counts.sum(axis=0)).sum())
  return RandScore(
    score=both / (0.5 * of_segments + 0.5 * of_truth),
    split=both / of_truth,
    merge=both / of_segments,
  )


def _without_borders(segments: np.ndarray) -> np.ndarray:
  """Borders (0) get the number of the nearest segment."""
  borders = segments == 0
  if borders.all() or not borders.any():
    return segments
  nearest = scipy.ndimage.distance_transform_edt(
    borders, return_distances=False, return_indices=True
  )
  return segments[tuple(nearest)]


class RandScores:
  """Mean foreground-restricted Rand score of images, on the host.

  Segments are the connected parts (by edges, not corners) of one class; the
  prediction's are those of its probability above a threshold. The score at a
  threshold of one half is `rand`, that at the best one, chosen on the same
  images as the challenge does, `rand_best`.
  """

  THRESHOLDS = tuple(round(0.1 * step, 1) for step in range(1, 10))

  def __init__(self, class_index: int):
    """`class_index`: of the class whose connected parts are the segments."""
    self._class_index = class_index
    self._scores: list[list[RandScore]] = []

  def add(
    self,
    batch: Mapping[str, np.ndarray],
    predictions: Mapping[str, np.ndarray],
  ) -> None:
    """Takes rows with `label (B, *S)` and `probabilities (B, *S, K)`.

    Args:
      batch: `label`, and `mask (B,)`, nonzero for rows that count.
      predictions: `probabilities`.

    Raises:
      ValueError: shapes that do not fit, or NaN in a row that counts.
    """
    mask, label = np.asarray(batch["mask"]), np.asarray(batch["label"])
    probabilities = np.asarray(predictions["probabilities"])
    check_shapes(
      label=(label, "B *S+"),
      mask=(mask, "B"),
      probabilities=(probabilities, "B *S+ K+"),
    )
    if not 0 <= self._class_index < probabilities.shape[-1]:
      raise ValueError(
        f"probabilities: shape {probabilities.shape} has no class "
        f"{self._class_index}"
      )
    check_no_nan("image", probabilities=probabilities[mask != 0])
    for row in np.flatnonzero(mask):
      self.add_image(
        label[row] == self._class_index,
        probabilities[row][..., self._class_index],
      )

  def add_image(self, wanted: np.ndarray, likely: np.ndarray) -> None:
    """Takes one image.

    Args:
      wanted: (*S) bool, the pixels of the class.
      likely: (*S) float32, the probability that they are.

    Raises:
      ValueError: shapes that do not fit, or NaN.
    """
    check_shapes(wanted=(wanted, "*S+"), likely=(likely, "*S+"))
    check_no_nan(likely=likely)
    truth, _ = scipy.ndimage.label(wanted)
    self._scores.append(
      [
        foreground_rand_score(scipy.ndimage.label(likely > level)[0], truth)
        for level in self.THRESHOLDS
      ]
    )

  def gather(self) -> "RandScores":
    """Those of all processes together, on every process."""
    merged = RandScores(self._class_index)
    merged._scores = gather(self._scores)
    return merged

  def compute(self) -> dict[str, float]:
    """`rand`, its `rand_split` and `rand_merge`, `rand_best` and where."""
    scores = np.asarray(self._scores).reshape(-1, len(self.THRESHOLDS), 3)
    scores = scores[~np.isnan(scores).any(axis=(1, 2))]
    if not len(scores):
      return {}
    means = scores.mean(axis=0)
    best = int(means[:, 0].argmax())
    half = self.THRESHOLDS.index(0.5)
    return {
      "rand": float(means[half, 0]),
      "rand_split": float(means[half, 1]),
      "rand_merge": float(means[half, 2]),
      "rand_best": float(means[best, 0]),
      "rand_best_threshold": self.THRESHOLDS[best],
    }
