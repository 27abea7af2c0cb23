"""Exact nearest neighbours: searched on the device, ordered on the host.

The device takes distances as products of matrices in float32, which is fast but
rounds. How much is known, so the host knows which neighbours may stand in the
wrong order. It computes their distances anew, in float64 and from differences,
and asks for more candidates where some may have been missed.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from segsiam_jax.metrics.checks import check_finite
from segsiam_jax.ops.distances import Metric, check_metric, pairwise_distances
from segsiam_jax.ops.shapes import check_integer, check_shapes

# Numbers that are taken to float64 at a time, and that are kept so.
_FLOATS, _KEPT_FLOATS = 1 << 20, 1 << 25
# Distances that differ by less are equal: of unit vectors, which are rounded,
# and, relative to the distance, of others.
_EQUAL_OF_UNIT, _EQUAL = 4e-15, 1e-15


def nearest(
  queries: np.ndarray,
  gallery: np.ndarray,
  query_ids: np.ndarray | None = None,
  gallery_ids: np.ndarray | None = None,
  *,
  k: int,
  metric: Metric = "cosine",
  query_block: int = 1024,
  gallery_block: int = 8192,
) -> np.ndarray:
  """The k nearest rows of a gallery, in the order of exact arithmetic.

  Args:
    queries: `(Q, D)` of any float dtype, finite.
    gallery: `(G, D)`.
    query_ids: `(Q,)` int32; a row with the query's id is not a neighbour.
    gallery_ids: `(G,)` int32; given if and only if `query_ids` are.
    k: at least 1.
    metric: a metric of `pairwise_distances`.
    query_block: largest number of queries per block.
    gallery_block: largest number of gallery rows per block. The search takes
      `query_block * gallery_block` distances of memory at a time.

  Returns:
    `(Q, k)` int32, nearest first, of equal distances the first in the gallery;
    -1 where no neighbour is left.

  Raises:
    ValueError: shapes that do not fit, numbers that are not finite, an unknown
      metric, k or a block below 1.

  >>> nearest(np.array([[1.0]]), np.array([[3.0], [0.5]]), k=3, metric="l1")
  array([[ 1,  0, -1]], dtype=int32)
  """
  check_metric(metric)
  check_shapes(
    queries=(queries, "Q D+"),
    gallery=(gallery, "G D"),
    query_ids=(query_ids, "Q"),
    gallery_ids=(gallery_ids, "G"),
  )
  k = check_integer("k", k, 1)
  query_block = check_integer("query_block", query_block, 1)
  gallery_block = check_integer("gallery_block", gallery_block, 1)
  check_finite(queries=queries, gallery=gallery)
  queries, gallery = np.asarray(queries), np.asarray(gallery)
  found = np.full((len(queries), k), -1, np.int32)
  if not len(queries) or not len(gallery):
    return found
  if query_ids is None:
    query_ids = np.full(len(queries), -1, np.int32)
    gallery_ids = np.full(len(gallery), -2, np.int32)
  space = _Space(queries, gallery, metric)
  asking = _Side(space.on_device(queries, 0), np.asarray(query_ids, np.int32))
  known = _Side(space.on_device(gallery, 1), np.asarray(gallery_ids, np.int32))
  gallery_block = _even_block(len(known.ids), gallery_block)
  blocks = jax.device_put(
    (
      *(_to_blocks(array, gallery_block) for array in known),
      _to_blocks(np.arange(len(known.ids), dtype=np.int32), gallery_block),
      _to_blocks(np.ones(len(known.ids), bool), gallery_block),
    )
  )
  block = _even_block(len(asking.ids), query_block)
  rows = np.arange(len(asking.ids))
  # A few more than asked for, as the last of them may be others.
  count = min(len(known.ids), k + max(8, k // 8))
  while len(rows):
    searched = [
      _candidates(
        *(_padded(array[part], block) for array in asking),
        *blocks,
        count=count,
        metric="l1" if metric == "l1" else "sq_euclidean",
      )
      for part in np.split(rows, range(block, len(rows), block))
    ]
    distances, index = (
      np.concatenate([np.asarray(x) for x in part])[: len(rows)]
      for part in zip(*searched, strict=True)
    )
    everything = count == len(known.ids)
    index, closed = _order(space, rows, distances, index, k, everything)
    found[rows[closed], : index.shape[1]] = index[closed]
    rows, count = rows[~closed], min(len(known.ids), 4 * count)
  return found


class _Side(NamedTuple):
  """Queries or gallery: (n, D) float32 vectors and (n,) ids."""

  vectors: np.ndarray
  ids: np.ndarray


class _Space:
  """Where distances are measured: by the device about, by the host exactly.

  All metrics but l1 are orders of Euclidean distances; the cosine's is that of
  unit vectors. For the device vectors are moved to one origin, the mean of the
  gallery, and scaled, by a power of two.

  Attributes:
    norms: (Q,) of the device's queries.
    rounding: of the device's distances, see `error`.
  """

  def __init__(self, queries: np.ndarray, gallery: np.ndarray, metric: Metric):
    self._sides, self._metric = (queries, gallery), metric
    largest = max(_largest(side) for side in self._sides)
    self._exponent = int(np.frexp(largest)[1])
    # Zero vectors have a cosine of 0 to all others: they get an axis of their
    # own, queries another than the gallery.
    self._lift = metric == "cosine" and not all(
      side.astype(bool).any(axis=1).all() for side in self._sides
    )
    self._kept: dict[int, np.ndarray] = {}
    for side in (0, 1):
      if self._sides[side].size <= _KEPT_FLOATS:
        self._kept[side] = np.concatenate(list(self._parts(side)))
    first = self.exact(np.array([0]), 1)
    # From the first, so that the mean of equal vectors is that vector.
    total = sum((x - first).sum(axis=0) for x in self._parts(1))
    self._origin = first + total / len(gallery)
    spread = max(_largest(x) for side in (0, 1) for x in self._moved(side))
    self._scale = np.ldexp(1.0, -int(np.frexp(spread)[1])) if spread else 1.0
    self.norms = np.concatenate(
      [self._norm(x * self._scale) for x in self._moved(0)]
    )
    size = self._origin.shape[1]
    self.rounding = (3 * np.sqrt(size) + 16) * 2.0**-24
    # What the device takes for 0.
    self._least = size * 1e-36 if spread else 0.0

  def exact(self, rows: np.ndarray, side: int) -> np.ndarray:
    """(n, D) float64 of queries (side 0) or gallery (1)."""
    if side in self._kept:
      return self._kept[side][rows]
    x = np.ldexp(self._sides[side][rows].astype(np.float64), -self._exponent)
    if self._metric != "cosine":
      return x
    largest = np.abs(x).max(axis=1, keepdims=True)
    x = x / np.where(largest == 0, 1.0, largest)
    norm = np.sqrt(np.square(x).sum(axis=1, keepdims=True))
    x = x / np.where(norm == 0, 1.0, norm)
    if not self._lift:
      return x
    own = np.zeros((len(x), 2))
    own[:, side] = norm[:, 0] == 0
    return np.concatenate([x, own], axis=1)

  def on_device(self, array: np.ndarray, side: int) -> np.ndarray:
    """(n, D) float32 of all rows."""
    size = self._origin.shape[1]
    out, start = np.empty((len(array), size), np.float32), 0
    for x in self._moved(side):
      out[start : start + len(x)] = x * self._scale
      start += len(x)
    return out

  def distances(self, queries: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    """(n,) exact distances of rows in pairs; the root of squared ones."""
    parts = np.split(
      np.arange(len(queries)), range(self._rows, len(queries), self._rows)
    )
    return np.concatenate(
      [
        self._norm(self.exact(queries[part], 0) - self.exact(gallery[part], 1))
        for part in parts
      ]
    )

  def equal(self, distances: np.ndarray) -> np.ndarray:
    """By how much two distances may differ and still be equal."""
    if self._metric == "cosine":
      return np.full_like(distances, _EQUAL_OF_UNIT)
    return _EQUAL * distances

  def error(self, rows: np.ndarray, found: np.ndarray) -> np.ndarray:
    """(Q, n) bounds of the rounding of the device's distances."""
    norms = self.norms[rows, None]
    found = np.maximum(found, 0.0)
    if self._metric == "l1":
      return self.rounding * (2 * norms + found) + self._least
    # Of |x|^2 + |y|^2 - 2 x.y, where |y| <= |x| + |x - y|.
    others = norms + np.sqrt(found)
    return self.rounding * (norms**2 + others**2) + self._least

  @property
  def _rows(self) -> int:
    """At a time."""
    return max(1, _FLOATS // (self._sides[0].shape[1] + 2))

  def _parts(self, side: int):
    count = len(self._sides[side])
    for start in range(0, count, self._rows):
      rows = np.arange(start, min(count, start + self._rows))
      yield self.exact(rows, side)

  def _moved(self, side: int):
    return (x - self._origin for x in self._parts(side))

  def _norm(self, x: np.ndarray) -> np.ndarray:
    if self._metric == "l1":
      return np.abs(x).sum(axis=1)
    return np.sqrt(np.einsum("nd,nd->n", x, x))


def _order(
  space: _Space,
  rows: np.ndarray,
  distances: np.ndarray,
  index: np.ndarray,
  k: int,
  everything: bool,
) -> tuple[np.ndarray, np.ndarray]:
  """Puts the candidates of some queries in their exact order.

  Args:
    space: that of the distances.
    rows: (n,) the queries.
    distances: (n, m) of the device, ascending; infinite where there is none.
    index: (n, m) rows of the gallery.
    k: neighbours that are needed.
    everything: m is the whole gallery.

  Returns:
    (n, min(k, m)) rows of the gallery, -1 for none, and (n,) whether no other
    can be among them.
  """
  some = np.isfinite(distances)
  distances = np.where(some, distances, 0.0).astype(np.float64)
  error = space.error(rows, distances)
  low = np.where(some, distances - error, np.inf)
  high = np.where(some, distances + error, np.inf)
  count = min(k, index.shape[1])
  closed = (
    everything
    | ~some[:, -1]
    | (low[:, -1] > high[:, count - 1])
    | (error[:, -1] == 0)
  )
  index = np.where(some, index, -1)
  # Neighbours in the order whose bounds overlap: a run of them is sorted anew.
  touch = some[:, 1:] & (high[:, :-1] >= low[:, 1:]) & (error[:, 1:] > 0)
  unsure = np.zeros(index.shape, bool)
  unsure[:, 1:] |= touch
  unsure[:, :-1] |= touch
  unsure &= closed[:, None] & (low <= high[:, count - 1 : count])
  if unsure.any():
    run = np.cumsum(np.pad(~touch, ((0, 0), (1, 0))), axis=1)
    query = np.nonzero(unsure)[0]
    run = query * (index.shape[1] + 1) + run[unsure]
    index[unsure] = _sorted_runs(
      run, index[unsure], space.distances(rows[query], index[unsure]), space
    )
  return index[:, :count], closed


def _sorted_runs(
  run: np.ndarray, index: np.ndarray, distances: np.ndarray, space: _Space
) -> np.ndarray:
  """The indices by their distance within each run; of equals the first."""
  order = np.lexsort((distances, run))
  run, index, distances = run[order], index[order], distances[order]
  gap = np.diff(distances, prepend=0.0) > space.equal(distances)
  new_run = np.diff(run, prepend=-1) != 0
  return index[np.lexsort((index, np.cumsum(gap | new_run)))]


def _largest(x: np.ndarray) -> float:
  return max(float(x.max()), -float(x.min()))


def _even_block(size: int, at_most: int) -> int:
  """Block size for as many blocks as `at_most` asks for, with least padding."""
  num_blocks = max(1, -(-size // at_most))
  return max(1, -(-size // num_blocks))


def _padded(array: np.ndarray, size: int) -> np.ndarray:
  """`(n, ...)` with zeros up to `(size, ...)`."""
  return np.pad(array, [(0, size - len(array))] + [(0, 0)] * (array.ndim - 1))


def _to_blocks(array: np.ndarray, block: int) -> np.ndarray:
  """`(N, ...)` padded and cut into `(ceil(N / block), block, ...)`."""
  size = len(array) + -len(array) % block
  return _padded(array, size).reshape(-1, block, *array.shape[1:])


@functools.partial(jax.jit, static_argnames=("count", "metric"))
def _candidates(
  queries: jax.Array,
  query_ids: jax.Array,
  gallery: jax.Array,
  gallery_ids: jax.Array,
  gallery_rows: jax.Array,
  gallery_valid: jax.Array,
  *,
  count: int,
  metric: Metric,
) -> tuple[jax.Array, jax.Array]:
  """(B, count) distances, about, and rows of all (N, block) gallery blocks."""
  norms = jnp.sum(jnp.square(queries), axis=-1)[:, None]

  def to_all(vectors):
    if metric == "l1":
      return pairwise_distances(queries, vectors, "l1")
    products = jnp.matmul(
      queries, vectors.T, precision=jax.lax.Precision.HIGHEST
    )
    return norms + jnp.sum(jnp.square(vectors), axis=-1) - 2 * products

  def merge(nearest, block):
    vectors, ids, rows, valid = block
    retrievable = valid & (ids != query_ids[:, None])
    to_block = jnp.where(retrievable, to_all(vectors), jnp.inf)
    # First within the block: the merge then copies few columns. top_k prefers
    # the first of equals, and earlier blocks stand first.
    of_block = _top_k(
      to_block,
      jnp.broadcast_to(rows, to_block.shape),
      min(count, to_block.shape[1]),
    )
    distances, rows = map(_side_by_side, nearest, of_block)
    return _top_k(distances, rows, count), None

  start = (
    jnp.full((len(queries), count), jnp.inf, jnp.float32),
    jnp.zeros((len(queries), count), jnp.int32),
  )
  blocks = (gallery, gallery_ids, gallery_rows, gallery_valid)
  return jax.lax.scan(merge, start, blocks)[0]


def _top_k(distances, rows, k: int) -> tuple[jax.Array, jax.Array]:
  """The k smallest distances of each query, with their rows."""
  negated, index = jax.lax.top_k(-distances, k)
  return -negated, jnp.take_along_axis(rows, index, axis=1)


def _side_by_side(left: jax.Array, right: jax.Array) -> jax.Array:
  return jnp.concatenate([left, right], axis=1)
