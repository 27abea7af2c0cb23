"""U-Net (Ronneberger, Fischer, Brox 2015, arXiv:1505.04597) and U-Net++.

An encoder halves the resolution several times; the decoder doubles it again
and, through skip connections, sees the features that the encoder had at the
same resolution. `unet_paper` has the net exactly as it was published.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from segsiam_jax.models import layers
from segsiam_jax.models.blocks import DecoderBlock
from segsiam_jax.models.encoders import make_encoder

Array = jax.Array

# Of decoders on encoders that classify images, coarsest first.
_WIDTHS = (256, 128, 64, 32, 16)


class _EncoderDecoder(nn.Module):
  """What U-Net and U-Net++ have in common.

  Logits have the size of the image, whatever that is.

  Attributes:
    num_classes: output channels K.
    encoder: one of `encoders.ENCODERS`; 'plain' alone takes volumes.
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
        raise ValueError(f"encoder {self.encoder!r} takes no volumes")
      multiples = (2 ** max(0, self.depth - self.pool_depth), *multiples)
    padded = layers.pad_to_multiple(images, multiples)
    *skips, x = encoder(padded, train)
    x = nn.Dropout(self.dropout, deterministic=not train)(x)
    x, coarser = self._decode(x, skips, padded.shape[1:-1], train)
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
      raise ValueError(f"block {self.block!r} is none of 'plain', 'residual'")
    return self.block == "residual"

  def _widths(self, skips: list[Array], blocks: int) -> tuple[int, ...]:
    """Channels of the decoder's blocks, coarsest first."""
    widths = tuple(self.decoder_channels) or _WIDTHS
    if self.encoder == "plain" and not self.decoder_channels:
      widths = tuple(skip.shape[-1] for skip in reversed(skips))
    if len(widths) != blocks:
      raise ValueError(
        f"decoder_channels {widths}: encoder {self.encoder!r} needs {blocks}"
      )
    return widths

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
    self, x: Array, skips: list[Array], size: tuple[int, ...], train: bool
  ) -> tuple[Array, list[Array]]:
    """Features at the image's size, and those that help, coarsest first.

    Args:
      x: the encoder's coarsest features.
      skips: the others, finest first.
      size: of the padded image.
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

  def _decode(self, x, skips, size, train):
    sizes = [skip.shape[1:-1] for skip in reversed(skips)]
    if sizes[-1] != size:
      sizes.append(size)
    outputs = []
    widths = self._widths(skips, len(sizes))
    for index, (width, goal) in enumerate(zip(widths, sizes, strict=True)):
      seen = ()
      if self.skips and index < len(skips):
        seen = (skips[-1 - index],)
      block = self._block(width, f"decoder{index}", self.attention)
      x = block(x, seen, goal, train)
      outputs.append(x)
    return x, outputs[:-1]


class UNetPlusPlus(_EncoderDecoder):
  """U-Net++ (Zhou 2018, arXiv:1807.10165): nested, dense skips.

  Node (i, j) sees all nodes before it at level i, and node (i + 1, j - 1)
  up-sampled. Deep supervision scores the nodes (0, j); the last one predicts.
  """

  def _decode(self, x, skips, size, train):
    before = [*skips, x]
    levels = len(skips)
    sizes = [feature.shape[1:-1] for feature in before]
    last = sizes[0] != size
    widths = self._widths(skips, levels + last)
    # Of each level, finest first, all nodes so far.
    rows = [[feature] for feature in before]
    for j in range(1, levels + 1):
      for i in range(levels + 1 - j):
        block = self._block(widths[levels - 1 - i], f"node{i}_{j}")
        below = rows[i + 1][j - 1]
        rows[i].append(block(below, tuple(rows[i]), sizes[i], train))
    _, *helping, x = rows[0]
    if last:
      x = self._block(widths[-1], "last")(x, (), size, train)
    return x, helping
