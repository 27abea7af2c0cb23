"""Pictures of a Siamese network's results: pairs and embeddings.

Scores are larger for more similar pairs, as in `metrics.verification`.
"""

import warnings
from collections.abc import Sequence
from typing import Any, Literal, Protocol

import numpy as np

from segsiam_jax.metrics import verification
from segsiam_jax.report import overlays, plots

# Of more examples some are drawn; t-SNE takes three seconds for so many.
_MOST_POINTS = {"pca": 5000, "tsne": 500}
_LEGEND = 12


class Images(Protocol):
  """What pictures are taken from; data sources are such."""

  def __getitem__(self, index: int) -> dict[str, Any]: ...


class ScoredPairs:
  """Pairs with their scores, and the plots of them.

  Attributes:
    first: (P,) int index of an example.
    second: likewise.
    same: (P,) bool.
    scores: (P,) float.
    kind: (P,) int index into `kinds`.
    kinds: names of sorts of pairs; () for one sort.
  """

  def __init__(
    self,
    first: np.ndarray,
    second: np.ndarray,
    same: np.ndarray,
    scores: np.ndarray,
    kind: np.ndarray | None = None,
    kinds: Sequence[str] = (),
  ):
    self.first, self.second = np.asarray(first), np.asarray(second)
    self.same = np.asarray(same) != 0
    self.scores = np.asarray(scores, np.float64)
    self.kind = np.zeros(len(self.same), int) if kind is None else kind
    self.kinds = tuple(kinds)

  def _sorts(self) -> list[tuple[str, np.ndarray]]:
    """(name, mask) of same pairs and of every sort of different ones."""
    sorts = [("same", self.same)]
    different = [
      (name, ~self.same & (self.kind == number))
      for number, name in enumerate(self.kinds)
    ]
    different = [(name, mask) for name, mask in different if mask.any()]
    return sorts + (different or [("different", ~self.same)])

  def roc(self) -> np.ndarray:
    """ROC curves, one for every sort of different pairs: (H, W, 3) uint8.

    The axis of the false accept rate is logarithmic: systems are run at its
    left end.
    """
    lines = []
    lowest = 1.0
    for name, mask in self._sorts()[1:]:
      chosen = self.same | mask
      curve = verification.roc(self.scores[chosen], self.same[chosen])
      area = verification.roc_auc(self.scores[chosen], self.same[chosen])
      lowest = min(lowest, 1 / mask.sum())
      lines.append(plots.Line(curve.far, curve.tar, f"{name}: AUC {area:.4f}"))
    # Below one in the number of pairs no rate can be told from 0.
    low = 10.0 ** np.floor(np.log10(min(lowest, 0.1)))
    return plots.line_plot(
      lines,
      title="ROC",
      x_label="false accept rate",
      y_label="true accept rate",
      x_range=(low, 1.0),
      y_range=(0.0, 1.0),
      log_x=True,
    )

  def distances(self, threshold: float | None = None) -> np.ndarray:
    """Histograms of the distances (negated scores): (H, W, 3) uint8.

    Args:
      threshold: least score of an accepted pair, to be marked.
    """
    return plots.histogram(
      {name: -self.scores[mask] for name, mask in self._sorts()},
      title="Distances",
      x_label="distance",
      marks={} if threshold is None else {"threshold": -threshold},
    )

  def hardest(
    self, images: Images, count: int = 6, size: int = 96
  ) -> np.ndarray:
    """The worst pairs: (h, w, 3) uint8.

    In the left half the most distant pairs of one identity, in the right half
    the nearest of two; each with its distance.

    Args:
      images: the source that the pairs are of.
      count: of each.
      size: of a picture, in pixels.
    """
    ascending = np.argsort(self.scores, kind="stable")
    alike = ascending[self.same[ascending]][:count]
    others = ascending[~self.same[ascending]][::-1][:count]
    columns = []
    for title, chosen in (("same, far", alike), ("different, near", others)):
      cells = [
        overlays.captioned(
          np.concatenate(
            [
              overlays.thumbnail(images[int(index[pair])]["image"], size)
              for index in (self.first, self.second)
            ],
            axis=1,
          ),
          f"{title} {-self.scores[pair]:.3g}",
        )
        for pair in chosen
      ]
      columns.append(overlays.grid(cells, 2) if cells else None)
    columns = [column for column in columns if column is not None]
    return overlays.grid(columns, len(columns))


def projection(
  embeddings: np.ndarray,
  labels: np.ndarray,
  class_names: Sequence[str] = (),
  method: Literal["pca", "tsne"] = "tsne",
) -> np.ndarray:
  """Embeddings in the plane, one colour an identity.

  Args:
    embeddings: (n, E).
    labels: (n,) int.
    class_names: by label; the legend shows them where they are few.
    method: 'pca', which keeps distances as far as a plane can, or 'tsne'
      (van der Maaten & Hinton 2008), which keeps neighbours. The latter falls
      back to the former below ten examples.

  Returns:
    (H, W, 3) uint8.
  """
  # Imported here: it takes a second.
  import threadpoolctl
  from sklearn import decomposition, manifold

  labels = np.asarray(labels)
  embeddings = np.asarray(embeddings, np.float64)
  most = _MOST_POINTS[method]
  if len(labels) > most:
    chosen = np.random.default_rng(0).choice(len(labels), most, replace=False)
    embeddings, labels = embeddings[chosen], labels[chosen]
  shown, numbers = np.unique(labels, return_inverse=True)
  points = np.zeros((len(labels), 2))
  # Constant embeddings have no direction: they are one point.
  if np.ptp(embeddings, axis=0).max(initial=0.0) > 0:
    components = min(2, *embeddings.shape)
    if method == "tsne" and len(labels) >= 10:
      reducer = manifold.TSNE(
        perplexity=min(30.0, (len(labels) - 1) / 3),
        init="pca" if components == 2 else "random",
        random_state=0,
      )
    else:
      method = "pca"
      reducer = decomposition.PCA(components, random_state=0)
    # Threads that wait for each other make it many times slower where cores
    # are busy.
    with warnings.catch_warnings(), threadpoolctl.threadpool_limits(1):
      warnings.simplefilter("ignore")
      found = reducer.fit_transform(embeddings)
    points[:, : found.shape[1]] = found
  names = ()
  if class_names and len(shown) <= _LEGEND:
    names = [class_names[label] for label in shown]
  title = {"pca": "PCA of the embeddings", "tsne": "t-SNE of the embeddings"}
  return plots.scatter(points, numbers, names, title=title[method])
