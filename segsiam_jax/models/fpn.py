"""Feature pyramid network (Lin et al. 2016, arXiv:1612.03144)."""

import math
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from segsiam_jax.models import layers


def _xavier(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32):
  """Normal with variance 1 / fan-in, for what no ReLU follows."""
  return layers.he_normal(key, shape, dtype) / math.sqrt(2.0)


class ConvNorm(nn.Module):
  """A convolution that keeps the size, with a norm or, without one, a bias.

  Attributes:
    features: output channels.
    size: of the kernel.
    norm: see `layers.make_norm`.
    relu: whether a ReLU follows.
    dtype: compute dtype.
    axis_name: see `layers.make_norm`.
  """

  features: int
  size: int = 3
  norm: str = "none"
  relu: bool = True
  dtype: Any = jnp.float32
  axis_name: str | None = None

  @nn.compact
  def __call__(
    self, x: jax.Array, train: bool, where: jax.Array | None = None
  ) -> jax.Array:
    """(B, H, W, C) -> (B, H, W, features).

    Args:
      x: features.
      train: use batch statistics.
      where: (B,), see `layers.make_norm`.
    """
    pad = self.size // 2
    x = layers.Conv(
      self.features,
      (self.size, self.size),
      padding=((pad, pad), (pad, pad)),
      use_bias=self.norm == "none",
      dtype=self.dtype,
      kernel_init=layers.he_normal if self.relu else _xavier,
      name="conv",
    )(x)
    norm = layers.make_norm(
      self.norm,
      train,
      dtype=self.dtype,
      axis_name=self.axis_name,
      where=where,
    )
    x = norm(name="bn")(x)
    return nn.relu(x) if self.relu else x


class FPN(nn.Module):
  """Every level sees the coarser ones; one more is added at the end.

  Attributes:
    features: channels of all levels.
    norm: see `layers.make_norm`.
    dtype: compute dtype; parameters are float32.
    axis_name: see `layers.make_norm`.
  """

  features: int = 256
  norm: str = "none"
  dtype: Any = jnp.float32
  axis_name: str | None = None

  @nn.compact
  def __call__(
    self, pyramid: Sequence[jax.Array], train: bool = False
  ) -> tuple[jax.Array, ...]:
    """The pyramid's levels, and every second cell of the last as another one.

    Args:
      pyramid: (B, H, W, C) each, finest first; each half as large as the one
        before.
      train: use batch statistics.

    Returns:
      One more array than `pyramid`, each (B, H, W, features).
    """

    def conv(x, size, name):
      return ConvNorm(
        self.features,
        size,
        self.norm,
        relu=False,
        dtype=self.dtype,
        axis_name=self.axis_name,
        name=name,
      )(x, train)

    levels, above = [], None
    for index in reversed(range(len(pyramid))):
      x = conv(pyramid[index], 1, f"inner{index}")
      if above is not None:
        x = x + jnp.repeat(jnp.repeat(above, 2, axis=1), 2, axis=2)
      levels.append(conv(x, 3, f"layer{index}"))
      above = x
    levels.reverse()
    return (*levels, levels[-1][:, ::2, ::2])
