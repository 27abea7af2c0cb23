"""Fully convolutional networks (Long, Shelhamer, Darrell 2015,
arXiv:1411.4038), and torchvision's FCN on a dilated ResNet."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from segsiam_jax.fields.encoders import ENCODERS
from segsiam_jax.models import layers
from segsiam_jax.models.encoders import make_encoder
from segsiam_jax.models.vgg import VGG16

# Where the authors' nets crop: (of pool4's scores, of pool3's, of the image).
_CROPS = {32: (None, None, 19), 16: (5, None, 27), 8: (5, 9, 31)}


def bilinear_kernel(size: int) -> np.ndarray:
  """Weights of bilinear up-sampling: (size, size) float32.

  >>> bilinear_kernel(4)[0].tolist()
  [0.0625, 0.1875, 0.1875, 0.0625]
  """
  factor = (size + 1) // 2
  center = factor - 1 if size % 2 else factor - 0.5
  line = 1 - np.abs(np.arange(size) - center) / factor
  return np.outer(line, line).astype(np.float32)


class BilinearUp(nn.Module):
  """Transposed convolution that starts, or stays, bilinear.

  Kernel `2 * factor`, no padding: (h - 1) * factor + 2 * factor pixels.

  Attributes:
    factor: of up-sampling.
    learned: whether the kernel is a parameter, (2f, 2f, C, C); otherwise each
      channel is up-sampled by itself with a constant.
    dtype: compute dtype.
  """

  factor: int
  learned: bool = False
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    size, channels = 2 * self.factor, x.shape[-1]
    x = x.astype(self.dtype)
    if not self.learned:
      # Two products of matrices: the gradient of the convolution takes two
      # hundred times as long on a CPU.
      rows, columns = (
        jnp.asarray(_up_matrix(length, self.factor), self.dtype)
        for length in x.shape[1:3]
      )
      return jnp.einsum(
        "yh,bhwc,xw->byxc",
        rows,
        x,
        columns,
        precision=jax.lax.Precision.HIGHEST,
      )

    def init(key, shape, dtype=jnp.float32):
      del key, shape
      diagonal = jnp.eye(channels, dtype=dtype)
      return bilinear_kernel(size)[:, :, None, None] * diagonal

    kernel = self.param("kernel", init, (size, size, channels, channels))
    return jax.lax.conv_general_dilated(
      x,
      kernel.astype(self.dtype),
      window_strides=(1, 1),
      padding=((size - 1, size - 1),) * 2,
      lhs_dilation=(self.factor, self.factor),
      dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def _up_matrix(length: int, factor: int) -> np.ndarray:
  """The transposed convolution along one axis: ((length + 1) * factor, length).

  The kernel is the outer product of a line with itself, so that the axes are
  independent.
  """
  line = np.sqrt(np.diagonal(bilinear_kernel(2 * factor)))
  matrix = np.zeros(((length + 1) * factor, length), np.float32)
  for index in range(length):
    matrix[index * factor : (index + 2) * factor, index] = line
  return matrix


class FCN(nn.Module):
  """FCN-32s, FCN-16s or FCN-8s on VGG16.

  The encoder's variables are those of `VGG16`; `fc6` and `fc7` are its
  classifier's layers as 7x7 and 1x1 convolutions. The three nets share their
  names, so that 16s starts from 32s and 8s from 16s; new score layers are zero
  and change nothing at first.

  Attributes:
    num_classes: K.
    stride: 32, 16 or 8: of the scores that are up-sampled last.
    learned_upsampling: whether the 2x up-samplings are parameters; the last
      one is fixed, as in the paper.
    at_once: scales pool4 by 0.01 and pool3 by 0.0001 before they are scored, so
      that 8s trains in one stage (`voc-fcn8s-atonce`).
    borders: 'padded' has the authors' 100 pixels around the image and their
      crops, so that fc6 fits images of any size; 'same' extends the image to a
      multiple of 32 and pads fc6 instead, which is a tenth of the work for
      images of 64 pixels.
    width: channels of fc6 and fc7; 4096 in the paper.
    base_width: channels of VGG16's first stage; 64 in the paper.
    norm: of the encoder, see `layers.make_norm`; 'none' in the paper.
    dropout: rate after both.
    dtype: compute dtype; parameters and logits are float32.
    axis_name: see `layers.make_norm`.
  """

  num_classes: int
  stride: int = 8
  learned_upsampling: bool = False
  at_once: bool = False
  borders: str = "padded"
  width: int = 4096
  base_width: int = 64
  norm: str = "none"
  dropout: float = 0.5
  dtype: Any = jnp.float32
  axis_name: str | None = None

  @nn.compact
  def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
    """Logits at the size of the images: (B, H, W, K) float32.

    Args:
      images: (B, H, W, C) float, normalised, of any size.
      train: whether to drop out.
    """
    if self.borders not in ("padded", "same"):
      raise ValueError(f"borders {self.borders!r} is neither padded nor same")
    same = self.borders == "same"
    # A transposed convolution makes half a factor too much on every side.
    crops = (1, 1, self.stride // 2) if same else _CROPS[self.stride]
    pool4_offset, pool3_offset, offset = crops
    _, _, conv3, conv4, _, x = VGG16(
      first_padding=1 if same else 100,
      ceil_pool=True,
      base_width=self.base_width,
      norm=self.norm,
      dtype=self.dtype,
      axis_name=self.axis_name,
      name="encoder",
    )(layers.pad_to_multiple(images, 32) if same else images, train)
    for name, size in (("fc6", 7), ("fc7", 1)):
      x = layers.Conv(
        self.width,
        (size, size),
        padding="SAME" if same else "VALID",
        dtype=self.dtype,
        name=name,
      )(x)
      x = nn.Dropout(self.dropout, deterministic=not train)(nn.relu(x))
    scores = self._score(x, "score_fr")
    if self.stride <= 16:
      scores = self._fuse(scores, conv4, "pool4", pool4_offset, 0.01)
    if self.stride <= 8:
      scores = self._fuse(scores, conv3, "pool3", pool3_offset, 0.0001)
    scores = BilinearUp(self.stride, dtype=self.dtype, name="upscore")(scores)
    return _crop(scores, images.shape[1:3], offset).astype(jnp.float32)

  def _score(self, x: jax.Array, name: str) -> jax.Array:
    return layers.Conv(
      self.num_classes,
      (1, 1),
      dtype=self.dtype,
      kernel_init=nn.initializers.zeros,
      name=name,
    )(x)

  def _fuse(
    self,
    scores: jax.Array,
    conv: jax.Array,
    name: str,
    offset: int,
    scale: float,
  ) -> jax.Array:
    """Scores up-sampled by two, plus those of an earlier pooling."""
    scores = BilinearUp(
      2, self.learned_upsampling, dtype=self.dtype, name=f"upscore_{name}"
    )(scores)
    pooled = layers.max_pool_2x2(conv, ceil=True)
    if self.at_once:
      pooled = pooled * scale
    skip = self._score(pooled, f"score_{name}")
    if self.borders == "same":
      return _crop(scores, skip.shape[1:3], offset) + skip
    return scores + _crop(skip, scores.shape[1:3], offset)


def _crop(x: jax.Array, size: tuple[int, int], offset: int) -> jax.Array:
  height, width = size
  return x[:, offset : offset + height, offset : offset + width]


class FCNHead(nn.Module):
  """3x3 convolution to a quarter of the channels, norm, ReLU, 1x1 scores.

  Attributes:
    num_classes: K.
    norm: see `layers.make_norm`.
    dtype: compute dtype.
    axis_name: see `layers.make_norm`.
  """

  num_classes: int
  norm: str = "batch"
  dtype: Any = jnp.float32
  axis_name: str | None = None

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    norm = layers.make_norm(
      self.norm, train, dtype=self.dtype, axis_name=self.axis_name
    )
    x = layers.Conv(
      x.shape[-1] // 4,
      (3, 3),
      padding=((1, 1), (1, 1)),
      use_bias=False,
      dtype=self.dtype,
      name="conv",
    )(x)
    x = nn.relu(norm(name="bn")(x))
    x = nn.Dropout(0.1, deterministic=not train)(x)
    return layers.Conv(
      self.num_classes,
      (1, 1),
      dtype=self.dtype,
      name="score",
    )(x)


class FCNResNet(nn.Module):
  """FCN on a ResNet that dilates instead of striding beyond 8 (torchvision).

  Other encoders, which do not dilate, keep their strides.

  Attributes:
    num_classes: K.
    encoder: a key of `fields.encoders.ENCODERS`; torchvision has 'resnet50'
      and 'resnet101'.
    base_width: channels of the encoder's first level; 0 for the published.
    auxiliary: whether a second head on the last but one level helps training.
    norm: see `layers.make_norm`.
    remat: compute the encoder's activations anew in the backward pass.
    dtype: compute dtype; parameters and logits are float32.
    axis_name: see `layers.make_norm`.
  """

  num_classes: int
  encoder: str = "resnet50"
  base_width: int = 0
  auxiliary: bool = True
  norm: str = "batch"
  remat: bool = False
  dtype: Any = jnp.float32
  axis_name: str | None = None

  @nn.compact
  def __call__(self, images: jax.Array, train: bool = False) -> layers.Logits:
    """Logits at the size of the images.

    Args:
      images: (B, H, W, C) float, normalised, of any size.
      train: use batch statistics and dropout.

    Returns:
      `Logits`, each (B, H, W, K) float32.
    """
    shared = {
      "norm": self.norm,
      "dtype": self.dtype,
      "axis_name": self.axis_name,
    }
    dilates = "dilate" in ENCODERS[self.encoder].takes
    *_, third, fourth = make_encoder(
      self.encoder,
      base_width=self.base_width,
      remat=self.remat,
      name="encoder",
      **shared,
      **({"dilate": True} if dilates else {}),
    )(images, train)

    def head(features, name):
      scores = FCNHead(self.num_classes, name=name, **shared)(features, train)
      shape = (*images.shape[:3], self.num_classes)
      return jax.image.resize(
        scores.astype(jnp.float32), shape, "bilinear", antialias=False
      )

    auxiliary = (head(third, "aux_head"),) if self.auxiliary else ()
    return layers.Logits(head(fourth, "head"), auxiliary)
