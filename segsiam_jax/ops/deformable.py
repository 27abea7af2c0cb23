"""Distances of feature maps that may be deformed to fit one another.

The image distortion model of handwriting recognition (Keysers et al.,
"Deformation Models for Image Recognition", IEEE TPAMI 29(8), 2007), on
learned features: every place of one map looks for its best match near the same
place of the other, by itself.
"""

from typing import NamedTuple

import flax
import jax
import jax.numpy as jnp
import numpy as np

from segsiam_jax.ops.shapes import check_pairs, check_shapes


class Maps(NamedTuple):
  """How maps lie in an embedding, and how far they bend. Plain numbers.

  Attributes:
    shape: (height, width, channels) of a map.
    window: places that a match may be away: a disc's radius.
    stride: match every n-th place of a map, down and across.
    views: of an image in an embedding: itself, and others distorted.
    parts: maps of a view, each deformed independently.
  """

  shape: tuple[int, int, int]
  window: int = 2
  stride: int = 2
  views: int = 1
  parts: int = 1

  @property
  def size(self) -> int:
    """Length of one view in an embedding."""
    return self.parts * int(np.prod(self.shape))

  @property
  def shifts(self) -> list[tuple[int, int]]:
    """(down, right) of all matches that are tried."""
    reach = range(-self.window, self.window + 1)
    return [
      (down, right)
      for down in reach
      for right in reach
      if down**2 + right**2 <= self.window**2 + 1
    ]


@flax.struct.dataclass
class Deformation:
  """How to compare maps.

  Attributes:
    penalty: () float32, cost of a match one place away.
    maps: static.
  """

  penalty: jax.Array
  maps: Maps = flax.struct.field(pytree_node=False)


def deformable_distances(
  queries: jax.Array, others: jax.Array, deformation: Deformation
) -> jax.Array:
  """Mean cost of the best match of each place, of all pairs of maps.

  `mean_p min_d |q(p) - o(p + d)|^2 + penalty |d|^2` over the places p of the
  grid and the shifts d of the window, in units of the mean square of a place
  if maps have norm 1; averaged with the same of `others` in `queries`, and
  summed over the parts of a view. Beyond their border maps are zero.

  Args:
    queries: `(Q, D)` float, views of norm 1, flat.
    others: `(S, D)` float.
    deformation: its penalty and the maps' shape.

  Returns:
    `(Q, S)` float32, symmetric in its arguments.

  Raises:
    ValueError: shapes that do not fit.
  """
  maps = deformation.maps
  check_shapes(
    queries=(queries, f"Q {maps.size}"),
    others=(others, f"S {maps.size}"),
    penalty=(deformation.penalty, ""),
  )
  total = jnp.zeros((len(queries), len(others)), jnp.float32)
  parts = (
    jnp.asarray(x, jnp.float32).reshape(len(x), maps.parts, *maps.shape)
    for x in (queries, others)
  )
  parts = (jnp.moveaxis(x, 1, 0) for x in parts)
  for first, second in zip(*parts, strict=True):
    there = _one_way(first, second, deformation)
    back = _one_way(second, first, deformation)
    total += (there + back.T) / 2
  return total


def deformable_similarity(
  first: jax.Array, second: jax.Array, deformation: Deformation
) -> jax.Array:
  """Negated distances of pairs; the best view of either counts.

  With views, the image itself of one embedding is compared with all maps of
  the other, and the smallest distance is taken; the mean of both ways.

  Args:
    first: `(..., views * D)`, the image's map first.
    second: of a shape that broadcasts with it.
    deformation: see `deformable_distances`.

  Returns:
    `(...)` float32.

  Raises:
    ValueError: shapes that do not fit.
  """
  maps = deformation.maps
  check_pairs(first=first, second=second)
  check_shapes(first=(first, f"*S {maps.views * maps.size}"))
  first, second = (jnp.asarray(x, jnp.float32) for x in (first, second))
  lead = jnp.broadcast_shapes(first.shape[:-1], second.shape[:-1])

  def of_pair(pair):
    x, y = pair
    return deformable_similarities(x[None], y[None], deformation)[0, 0]

  flat = [
    jnp.broadcast_to(x, (*lead, x.shape[-1])).reshape(-1, x.shape[-1])
    for x in (first, second)
  ]
  return jax.lax.map(of_pair, tuple(flat), batch_size=64).reshape(lead)


def deformable_similarities(
  first: jax.Array, second: jax.Array, deformation: Deformation
) -> jax.Array:
  """`deformable_similarity` of all pairs, several times as fast.

  Args:
    first: `(Q, views * D)`, the image's map first.
    second: `(S, views * D)`.
    deformation: see `deformable_distances`.

  Returns:
    `(Q, S)` float32.

  Raises:
    ValueError: shapes that do not fit.
  """
  views = deformation.maps.views
  size = deformation.maps.size
  check_shapes(
    first=(first, f"Q {views * size}"), second=(second, f"S {views * size}")
  )

  def nearest(x, y):
    """Of the images of x and all views of y."""
    distances = deformable_distances(
      x[:, :size], y.reshape(len(y) * views, size), deformation
    )
    return distances.reshape(len(x), len(y), views).min(axis=-1)

  there = nearest(first, second)
  back = there if views == 1 else nearest(second, first).T
  return -(there + back) / 2


def _one_way(
  queries: jax.Array, others: jax.Array, deformation: Deformation
) -> jax.Array:
  """(Q, S): how well the places of queries are found in others."""
  maps = deformation.maps
  height, width, _ = maps.shape
  reach, start = maps.window, maps.stride // 2
  padded = jnp.pad(others, ((0, 0), (reach, reach), (reach, reach), (0, 0)))

  def places(x):
    """(P, n, C) of the grid."""
    x = x[:, start :: maps.stride, start :: maps.stride]
    count, *grid, channels = x.shape
    return x.reshape(count, np.prod(grid), channels).swapaxes(0, 1)

  wanted = places(queries)

  @jax.checkpoint
  def nearer(best, shift):
    found = places(
      jax.lax.dynamic_slice(
        padded, (0, reach + shift[0], reach + shift[1], 0), others.shape
      )
    )
    products = jnp.einsum(
      "pqc,psc->pqs", wanted, found, precision=jax.lax.Precision.HIGHEST
    )
    cost = jnp.sum(jnp.square(found), -1)[:, None] - 2 * products
    cost += penalty * jnp.sum(jnp.square(shift))
    return jnp.minimum(best, cost), None

  penalty = jnp.float32(deformation.penalty) / (height * width * maps.parts)
  start_value = jnp.full(
    (wanted.shape[0], len(queries), len(others)), jnp.inf, jnp.float32
  )
  best, _ = jax.lax.scan(nearer, start_value, jnp.array(maps.shifts))
  best += jnp.sum(jnp.square(wanted), -1)[..., None]
  return jnp.mean(best, axis=0) * (height * width)
