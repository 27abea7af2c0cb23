"""Towers of Siamese networks: an image to a vector.

The published ones have their published shapes, parameter counts and
initialisation. Paddings are explicit.
"""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from segsiam_jax.models import layers
from segsiam_jax.models.encoders import make_encoder

Array = jax.Array


def _normal(mean: float, std: float) -> nn.initializers.Initializer:
  """Normal values, drawn flat (see `layers.he_normal`)."""

  def init(key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32):
    flat = jax.random.normal(key, (math.prod(shape),), dtype)
    return mean + std * flat.reshape(shape)

  return init


# Section 3.3 of Koch et al. 2015.
KOCH_CONV_KERNEL = _normal(0.0, 1e-2)
KOCH_DENSE_KERNEL = _normal(0.0, 2e-1)
KOCH_BIAS = _normal(0.5, 1e-2)


class Koch(nn.Module):
  """Koch et al. 2015, "Siamese Neural Networks for One-shot Image Recognition".

  For 105x105 images: 38,947,648 parameters, and 38,951,745 with the learned
  similarity of the paper. Convolutions are valid: maps of side 96, 48, 42, 21,
  18, 9 and 6.

  Attributes:
    dtype: compute dtype; parameters are float32.
  """

  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, images: Array, train: bool = False) -> Array:
    """Sigmoid features.

    Args:
      images: (B, H, W, C) float, H and W at least 76.
      train: changes nothing.

    Returns:
      (B, 4096) in (0, 1).
    """
    del train
    x = images.astype(self.dtype)
    for index, (features, size) in enumerate(
      ((64, 10), (128, 7), (128, 4), (256, 4)), 1
    ):
      x = layers.Conv(
        features,
        (size, size),
        padding="VALID",
        dtype=self.dtype,
        kernel_init=KOCH_CONV_KERNEL,
        bias_init=KOCH_BIAS,
        name=f"conv{index}",
      )(x)
      x = nn.relu(x)
      if index < 4:
        x = layers.max_pool_2x2(x)
    x = nn.Dense(
      4096,
      dtype=self.dtype,
      kernel_init=KOCH_DENSE_KERNEL,
      bias_init=KOCH_BIAS,
      name="fc",
    )(x.reshape(x.shape[0], -1))
    return nn.sigmoid(x)


class Conv4(nn.Module):
  """Four blocks of convolution, normalisation, ReLU and pooling.

  The encoder of Matching and Prototypical Networks (Vinyals et al. 2016,
  arXiv:1606.04080; Snell et al. 2017, arXiv:1703.05175): 111,936 parameters
  on grey images, and 64 features of a 28x28 one.

  Attributes:
    width: channels.
    embedding_size: of a linear layer on top; 0 for none, as published.
    norm: see `layers.make_norm`.
    dtype: compute dtype; parameters are float32.
    axis_name: see `layers.make_norm`.
  """

  width: int = 64
  embedding_size: int = 0
  norm: str = "batch"
  dtype: Any = jnp.float32
  axis_name: str | None = None

  @nn.compact
  def __call__(self, images: Array, train: bool = False) -> Array:
    """Features.

    Args:
      images: (B, H, W, C) float.
      train: use batch statistics. A last odd row or column is dropped at each
        pooling; images smaller than 16 pixels are pooled less often.

    Returns:
      (B, D), D being embedding_size or H / 16 * W / 16 * width.
    """
    norm = layers.make_norm(
      self.norm, train, dtype=self.dtype, axis_name=self.axis_name
    )
    x = images.astype(self.dtype)
    for index in range(1, 5):
      x = layers.Conv(
        self.width,
        (3, 3),
        padding=((1, 1), (1, 1)),
        dtype=self.dtype,
        name=f"conv{index}",
      )(x)
      x = nn.relu(norm(name=f"bn{index}")(x))
      if min(x.shape[1:3]) > 1:
        x = layers.max_pool_2x2(x)
    x = x.reshape(x.shape[0], -1)
    if self.embedding_size:
      x = nn.Dense(self.embedding_size, dtype=self.dtype, name="embedding")(x)
    return x


class SigNet(nn.Module):
  """SigNet of Dey et al. 2017 (arXiv:1707.02131), for 155x220 signatures.

  6,461,568 parameters. As in the authors' code: batch norm comes after ReLU
  (here over channels; theirs is over rows by an oversight), and 37x53, 18x26,
  8x12 and 3x5 are the maps. Embeddings are not normalised, distances
  Euclidean, and the two dense layers have weight decay 5e-4.

  Attributes:
    dropout: whether to drop 0.3 after the second and third pooling and 0.5
      after the first dense layer.
    dtype: compute dtype; parameters are float32.
    axis_name: see `layers.make_norm`.
  """

  dropout: bool = True
  dtype: Any = jnp.float32
  axis_name: str | None = None

  @nn.compact
  def __call__(self, images: Array, train: bool = False) -> Array:
    """Features.

    Args:
      images: (B, H, W, C) float.
      train: use batch statistics, and drop.

    Returns:
      (B, 128), not negative.
    """
    drops = train and self.dropout
    init = nn.initializers.glorot_uniform()
    batch_norm = layers.make_norm(
      "batch",
      train,
      dtype=self.dtype,
      axis_name=self.axis_name,
      epsilon=1e-6,
    )

    def conv(x, features, size, stride, pad, name):
      x = layers.Conv(
        features,
        (size, size),
        strides=(stride, stride),
        padding=((pad, pad), (pad, pad)),
        dtype=self.dtype,
        kernel_init=init,
        name=name,
      )(x)
      return nn.relu(x)

    def pool(x):
      return nn.max_pool(x, (3, 3), (2, 2))

    def dense(x, features, name):
      x = nn.Dense(features, dtype=self.dtype, kernel_init=init, name=name)(x)
      return nn.relu(x)

    x = conv(images.astype(self.dtype), 96, 11, 4, 0, "conv1")
    x = pool(batch_norm(name="bn1")(x))
    x = conv(x, 256, 5, 1, 2, "conv2")
    x = pool(batch_norm(name="bn2")(x))
    x = nn.Dropout(0.3, deterministic=not drops)(x)
    x = conv(x, 384, 3, 1, 1, "conv3")
    x = pool(conv(x, 256, 3, 1, 1, "conv4"))
    x = nn.Dropout(0.3, deterministic=not drops)(x)
    x = dense(x.reshape(x.shape[0], -1), 1024, "fc1")
    x = nn.Dropout(0.5, deterministic=not drops)(x)
    return dense(x, 128, "fc2")


class EncoderTower(nn.Module):
  """An encoder's last feature map, averaged, and a linear layer.

  Attributes:
    encoder: a key of `fields.encoders.ENCODERS`.
    embedding_size: of the linear layer; 0 for none.
    norm: see `layers.make_norm`.
    remat: compute the encoder's activations anew in the backward pass.
    dtype: compute dtype; parameters are float32.
    axis_name: see `layers.make_norm`.
  """

  encoder: str = "resnet18"
  embedding_size: int = 128
  norm: str = "batch"
  remat: bool = False
  dtype: Any = jnp.float32
  axis_name: str | None = None

  @nn.compact
  def __call__(self, images: Array, train: bool = False) -> Array:
    """(B, H, W, C) float images to (B, embedding_size) features."""
    x = make_encoder(
      self.encoder,
      norm=self.norm,
      remat=self.remat,
      dtype=self.dtype,
      axis_name=self.axis_name,
      name="encoder",
    )(images, train)[-1]
    x = jnp.mean(x, axis=(1, 2), dtype=jnp.float32)
    if self.embedding_size:
      x = nn.Dense(self.embedding_size, dtype=self.dtype, name="embedding")(x)
    return x
