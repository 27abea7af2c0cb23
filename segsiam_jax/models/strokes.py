"""A tower for drawn strokes: edges by direction, and what is learned of them.

The first layer is fixed in form and starts as an edge detector: histograms of
the directions of edges (Dalal & Triggs, "Histograms of oriented gradients",
CVPR 2005) without cells or blocks. Few characters are needed to learn from,
as the rest of the tower adds to them.
"""

import math
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from segsiam_jax.models import layers
from segsiam_jax.ops.density import equalize
from segsiam_jax.ops.distances import l2_normalize

Array = jax.Array


class Strokes(nn.Module):
  """A map of edge directions beside a map of learned features.

  For bright strokes on zeros, in [0, 1]. Both maps have norm 1 as a whole,
  and a learned factor weighs the second. There is no pooling: places are for
  `ops.deformable` to compare.

  Attributes:
    width: learned channels; 0 for edge directions alone.
    depth: residual 3x3 convolutions after the first.
    directions: of edges; channels of the first map.
    equalize: 'yes' to spread ink evenly first (see `ops.density`), by which
      characters of different people become more alike; 'both' for a map with
      and a map without. Either halves the image's sides first.
    norm: see `layers.make_norm`.
    dtype: compute dtype; parameters are float32.
    axis_name: see `layers.make_norm`.
  """

  width: int = 48
  depth: int = 2
  directions: int = 8
  equalize: Literal["no", "yes", "both"] = "no"
  norm: str = "batch"
  dtype: Any = jnp.float32
  axis_name: str | None = None

  def map_shape(self, image_size: tuple[int, int]) -> tuple[int, int, int]:
    """(h, w, channels) of the map of an image."""
    shrink = 2 if self.equalize == "no" else 4
    height, width = (length // shrink for length in image_size)
    return height, width, self.directions + self.width

  @property
  def parts(self) -> int:
    """How many such maps an embedding has."""
    return 2 if self.equalize == "both" else 1

  @nn.compact
  def __call__(self, images: Array, train: bool = False) -> Array:
    """Features.

    Args:
      images: (B, H, W, C) float; strokes are bright.
      train: use batch statistics.

    Returns:
      (B, parts * h * w * channels) float32 of norm 1, see `map_shape`.
    """
    height, width, _ = self.map_shape(images.shape[1:3])
    x = [images]
    if self.equalize != "no":
      x = [equalize(images, (2 * height, 2 * width))]
    if self.equalize == "both":
      x.append(_halved(images)[:, : 2 * height, : 2 * width])
    # The maps of an image side by side, so that they stay on its device.
    x = jnp.stack(x, axis=1).astype(self.dtype)
    x = self._maps(x.reshape(-1, *x.shape[2:]), train)
    return l2_normalize(x.reshape(images.shape[0], -1))

  def _maps(self, x: Array, train: bool) -> Array:
    """(B, H, W, C) to (B, h * w * channels), each of norm 1."""
    x = layers.Conv(
      self.directions,
      (3, 3),
      padding=((1, 1), (1, 1)),
      use_bias=False,
      dtype=self.dtype,
      kernel_init=_edges,
      name="edges",
    )(x)
    x = _blurred(nn.relu(x))
    x = _halved(x)
    height, width = x.shape[1:3]
    # Faint strokes count, too. The constants make the root's slope finite.
    edges = l2_normalize(jnp.sqrt(x + 1e-4) - 1e-2, axis=(1, 2, 3))
    if not self.width:
      return edges.reshape(len(edges), -1)
    norm = layers.make_norm(
      self.norm, train, dtype=self.dtype, axis_name=self.axis_name
    )

    def conv(x, name):
      return layers.Conv(
        self.width,
        (3, 3),
        padding=((1, 1), (1, 1)),
        use_bias=False,
        dtype=self.dtype,
        kernel_init=layers.normal((9 * x.shape[-1]) ** -0.5),
        name=name,
      )(x)

    # Of a mean square of about one where there is ink.
    y = conv(math.sqrt(height * width) * edges, "conv0")
    for index in range(1, self.depth + 1):
      y += conv(nn.relu(norm(name=f"bn{index}")(y)), f"conv{index}")
    y = l2_normalize(norm(name="bn")(y), axis=(1, 2, 3))
    weight = self.param("weight", nn.initializers.constant(0.5), ())
    both = jnp.concatenate([edges, weight * y], axis=-1)
    return l2_normalize(both.reshape(both.shape[0], -1))


def _halved(x: Array) -> Array:
  """(B, H, W, C) to (B, H // 2, W // 2, C) by means of two by two."""
  height, width = (length // 2 for length in x.shape[1:3])
  x = x[:, : 2 * height, : 2 * width]
  return x.reshape(x.shape[0], height, 2, width, 2, -1).mean(axis=(2, 4))


def _edges(
  key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32
) -> Array:
  """Derivatives along evenly spread directions (Sobel's filters turned)."""
  del key
  across = jnp.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], dtype) / 8
  angles = jnp.arange(shape[-1]) * 2 * jnp.pi / shape[-1]
  kernel = across[..., None] * jnp.cos(angles)
  kernel += across.T[..., None] * jnp.sin(angles)
  return jnp.broadcast_to(kernel[:, :, None], shape) / shape[2]


def _blurred(x: Array) -> Array:
  """(B, H, W, C), each pixel with half of its neighbours' weight."""
  for axis in (1, 2):
    pads = [(0, 0)] * 4
    pads[axis] = (1, 1)
    padded = jnp.pad(x, pads)
    before, after = (
      jax.lax.slice_in_dim(padded, start, start + x.shape[axis], axis=axis)
      for start in (0, 2)
    )
    x = (before + 2 * x + after) / 4
  return x
