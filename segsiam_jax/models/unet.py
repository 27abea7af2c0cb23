"""U-Net (Ronneberger, Fischer, Brox 2015, arXiv:1505.04597) and U-Net++.

An encoder halves the resolution several times; the decoder doubles it again
and, through skip connections, sees the features that the encoder had at the
same resolution. `unet_paper` has the net exactly as it was published.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from segsiam_jax.fields.encoders import halvings
from segsiam_jax.models import layers
from segsiam_jax.models.blocks import DecoderBlock
from segsiam_jax.models.encoders import make_encoder

Array = jax.Array

# Of decoders on encoders that classify images, coarsest first.
_WIDTHS = (256, 128, 64, 32, 16)


class _Level(NamedTuple):
  """A level of a decoder.

  Attributes:
    size: of its features, (H, W) or (D, H, W).
    width: their channels.
    skip: (B, *size, any) features of the encoder, or None where it has none.
  """

  size: tuple[int, ...]
  width: int
  skip: Array | None


class _EncoderDecoder(nn.Module):
  """What U-Net and U-Net++ have in common.

  Logits have the size of the image, whatever that is.

  Attributes:
    num_classes: output channels K.
    encoder: a key of `fields.encoders.ENCODERS`; 'plain' alone takes volumes.
    depth: of a plain encoder: number of times the resolution is halved.
    base_width: of a plain encoder: channels of the first level; they double at
      every level.
    pool_depth: of volumes: the first halving that halves their depth, too.
    block: 'plain' or 'residual': of the decoder, and of a plain encoder.
    decoder_channels: of the decoder's levels, coarsest first; () for those of
      a plain encoder, and 256, 128, 64, 32, 16 for the others.
    head_kernel: width of the convolution that makes the logits.
    norm: 'batch', 'group' or 'none'; see `encoders.make_encoder`.
    upsample: 'transpose', 'resize' or 'nearest'; see `blocks.DecoderBlock`.
    deep_supervision: whether coarser levels make logits, too.
    dropout: rate at the end of the contracting path.
    remat: compute the blocks' activations anew in the backward pass, which
      saves memory and costs time.
    dtype: compute dtype; parameters and logits are float32.
    axis_name: see `layers.make_norm`.
  """

  num_classes: int
  encoder: str = "plain"
  depth: int = 4
  base_width: int = 64
  pool_depth: int = 0
  block: str = "plain"
  decoder_channels: tuple[int, ...] = ()
  head_kernel: int = 1
  norm: str = "batch"
  upsample: str = "transpose"
  deep_supervision: bool = False
  dropout: float = 0.0
  remat: bool = False
  dtype: Any = jnp.float32
  axis_name: str | None = None

  @nn.compact
  def __call__(
    self, images: Array, train: bool = False
  ) -> Array | layers.Logits:
    """Logits of a batch of images or volumes.

    Args:
      images: (B, H, W, C) or (B, D, H, W, C) float. Sizes that the encoder's
        strides do not divide are extended by their edge, and the logits are
        cropped.
      train: use batch statistics and dropout.

    Returns:
      (B, H, W, K) or (B, D, H, W, K) float32, in `Logits` if there is deep
      supervision: the auxiliary ones, coarsest first, are up-sampled to the
      same size.
    """
    encoder = self._encoder()
    multiples = (encoder.strides[-1],) * 2
    if images.ndim == 5:
      if self.encoder != "plain":
        raise ValueError(f"encoder {self.encoder!r} does not support volumes")
      multiples = (2 ** max(0, self.depth - self.pool_depth), *multiples)
    padded = layers.pad_to_multiple(images, multiples)
    *features, x = encoder(padded, train)
    x = nn.Dropout(self.dropout, deterministic=not train)(x)
    x, coarser = self._decode(x, self._levels(encoder, features, padded), train)
    crop = tuple(slice(size) for size in images.shape[:-1])

    def logits(x, name):
      logits = layers.Conv(
        self.num_classes,
        (self.head_kernel,) * (x.ndim - 2),
        padding="SAME",
        dtype=self.dtype,
        name=name,
      )(x).astype(jnp.float32)
      shape = (*padded.shape[:-1], self.num_classes)
      if logits.shape != shape:
        logits = jax.image.resize(logits, shape, "linear")
      return logits[crop]

    main = logits(x, "logits")
    if not self.deep_supervision:
      return main
    auxiliary = tuple(
      logits(x, f"aux_logits{index}") for index, x in enumerate(coarser)
    )
    return layers.Logits(main, auxiliary)

  def _encoder(self) -> nn.Module:
    plain = {}
    if self.encoder == "plain":
      plain = {
        "depth": self.depth,
        "base_width": self.base_width,
        "residual": self._residual,
        "pool_depth": self.pool_depth,
      }
    return make_encoder(
      self.encoder,
      norm=self.norm,
      remat=self.remat,
      dtype=self.dtype,
      axis_name=self.axis_name,
      name="encoder",
      **plain,
    )

  @property
  def _residual(self) -> bool:
    if self.block not in ("plain", "residual"):
      raise ValueError(
        f"block {self.block!r} is not one of 'plain', 'residual'"
      )
    return self.block == "residual"

  def _levels(
    self, encoder: nn.Module, features: Sequence[Array], images: Array
  ) -> list["_Level"]:
    """What the decoder comes to, finest first."""
    of_stride = dict(zip(encoder.strides, features, strict=False))
    widths = tuple(self.decoder_channels) or _WIDTHS
    if self.encoder == "plain" and not self.decoder_channels:
      widths = tuple(skip.shape[-1] for skip in reversed(features))
    times = halvings(self.encoder, self.depth)
    if len(widths) != times:
      raise ValueError(
        f"decoder_channels {widths}: encoder {self.encoder!r} needs {times}"
      )
    levels = []
    for halving, width in enumerate(reversed(widths)):
      skip = of_stride.get(2**halving)
      size = tuple(length // 2**halving for length in images.shape[1:-1])
      size = size if skip is None else skip.shape[1:-1]
      levels.append(_Level(size, width, skip))
    return levels

  def _block(self, features: int, name: str, attention: bool = False):
    block = DecoderBlock
    if self.remat:
      block = nn.remat(DecoderBlock, static_argnums=(3, 4))
    return block(
      features,
      self._residual,
      self.norm,
      self.upsample,
      attention,
      self.dtype,
      self.axis_name,
      name=name,
    )

  def _decode(
    self, x: Array, levels: list["_Level"], train: bool
  ) -> tuple[Array, list[Array]]:
    """Features at the image's size, and those that help, coarsest first.

    Args:
      x: the encoder's coarsest features.
      levels: see `_levels`.
      train: see `__call__`.
    """
    raise NotImplementedError


class UNet(_EncoderDecoder):
  """U-Net with `same` padding on any encoder.

  With encoder 'resnet34', upsample 'nearest' and head_kernel 3 it is the Unet
  of segmentation-models-pytorch, which starts with ImageNet weights.

  Attributes:
    skips: whether the decoder sees the encoder's features; without them, all
      else equal, one can tell what they are for.
    attention: whether gates scale the skips (Attention U-Net, Oktay 2018,
      arXiv:1804.03999).
  """

  skips: bool = True
  attention: bool = False

  def _decode(self, x, levels, train):
    outputs = []
    for index, level in enumerate(reversed(levels)):
      seen = () if level.skip is None or not self.skips else (level.skip,)
      block = self._block(level.width, f"decoder{index}", self.attention)
      x = block(x, seen, level.size, train)
      outputs.append(x)
    return x, outputs[:-1]


class UNetPlusPlus(_EncoderDecoder):
  """U-Net++ (Zhou 2018, arXiv:1807.10165): nested, dense skips.

  Node (i, j) sees all nodes before it at level i, and node (i + 1, j - 1)
  up-sampled. Deep supervision scores the nodes (0, j); the last one predicts.
  """

  def _decode(self, x, levels, train):
    nested = [level for level in levels if level.skip is not None]
    # Of each level, finest first, all nodes so far.
    rows = [[level.skip] for level in nested] + [[x]]
    for j in range(1, len(nested) + 1):
      for i, level in enumerate(nested[: len(nested) + 1 - j]):
        block = self._block(level.width, f"node{i}_{j}")
        below = rows[i + 1][j - 1]
        rows[i].append(block(below, tuple(rows[i]), level.size, train))
    _, *helping, x = rows[0]
    for number in reversed(range(len(levels) - len(nested))):
      name = f"last{number}" if number else "last"
      level = levels[number]
      x = self._block(level.width, name)(x, (), level.size, train)
    return x, helping
