"""Fields of the models of semantic segmentation."""

import ml_collections

from segsiam_jax.fields.base import Fail, Field, Model, one_of, within
from segsiam_jax.fields.encoders import (
  ENCODERS,
  FIXED,
  check_option,
  halvings,
  takers,
)

_NORM = Field("batch", "normalisation", one_of("batch", "group", "none"))
_REMAT = Field(False, "recompute activations: less memory, more time")
_UNET = {
  "model.encoder": Field(
    "plain", "encoder, the contracting path", one_of(*ENCODERS)
  ),
  "model.depth": Field(4, "for 'plain': number of halvings", within(1, 8)),
  "model.base_width": Field(
    32, "for 'plain': channels of the first level", within(1)
  ),
  "model.pool_depth": Field(
    0, "for volumes: the first level that also halves the depth", within(0, 8)
  ),
  "model.block": Field(
    "plain", "kind of convolution block", one_of("plain", "residual")
  ),
  "model.decoder_channels": Field(
    (256,),
    "decoder widths, coarsest first; () for the encoder's, or 256 down to 16",
    within(1),
    empty=True,
  ),
  "model.head_kernel": Field(
    1, "kernel size of the convolution that gives logits", one_of(1, 3)
  ),
  "model.norm": _NORM,
  "model.upsample": Field(
    "transpose",
    "how the decoder doubles the resolution",
    one_of("transpose", "resize", "nearest"),
  ),
  "model.deep_supervision": Field(
    False, "add auxiliary heads on coarser levels"
  ),
  "model.dropout": Field(
    0.0, "dropout rate at the coarsest level", within(0, 0.99)
  ),
  "model.remat": _REMAT,
}

_FIELDS: dict[str, dict[str, Field]] = {
  "unet": _UNET
  | {
    "model.skips": Field(True, "concatenate the encoder's features"),
    "model.attention": Field(False, "attention gates on the skip connections"),
  },
  "unet_plus_plus": _UNET,
  "unet_paper": {
    "model.base_width": Field(64, "channels of the first level", within(1)),
    "model.dropout": Field(
      0.5, "dropout rate at the coarsest level", within(0, 0.99)
    ),
    "model.remat": _REMAT,
  },
  "fcn": {
    "model.stride": Field(8, "FCN-32s, 16s or 8s", one_of(32, 16, 8)),
    "model.learned_upsampling": Field(False, "train the 2x up-sampling layers"),
    "model.at_once": Field(
      False, "scale pool4 and pool3 to train in one stage"
    ),
    "model.borders": Field(
      "padded",
      "100 pixels around the image as in the paper, or 'same' padding",
      one_of("padded", "same"),
    ),
    "model.width": Field(4096, "channels of fc6 and fc7", within(1)),
    "model.base_width": Field(64, "channels of VGG16's first stage", within(1)),
    "model.norm": Field(
      "none", "normalisation", one_of("batch", "group", "none")
    ),
    "model.dropout": Field(
      0.5, "dropout rate after fc6 and fc7", within(0, 0.99)
    ),
  },
  "fcn_resnet": {
    "model.encoder": Field(
      "resnet50", "encoder; ResNets keep stride 8", one_of(*FIXED)
    ),
    "model.base_width": Field(
      0, "channels of its first level; 0 for the published width", within(0)
    ),
    "model.auxiliary": Field(
      True, "add an auxiliary head on the second-last level"
    ),
    "model.norm": _NORM,
    "model.remat": _REMAT,
  },
}

MODELS = {
  name: Model(f"segsiam_jax.models.{make}", _FIELDS[name])
  for name, make in {
    "unet": "unet:UNet",
    "unet_plus_plus": "unet:UNetPlusPlus",
    "unet_paper": "unet_paper:UNetPaper",
    "fcn": "fcn:FCN",
    "fcn_resnet": "fcn:FCNResNet",
  }.items()
}


def check(config: ml_collections.ConfigDict, fail: Fail) -> None:
  """What no field of a model can tell alone."""
  if config.model.name in ("unet", "unet_plus_plus"):
    _check_unet(config, fail)
  elif len(config.data.image_size) == 3:
    fail("model.name", "only 'unet' and 'unet_plus_plus' take volumes")
  if config.model.name == "fcn_resnet":
    check_option(config, "base_width", "base_width", fail)


def _check_unet(config: ml_collections.ConfigDict, fail: Fail) -> None:
  model = config.model
  if model.encoder != "plain":
    for name in ("depth", "base_width", "pool_depth"):
      default = _UNET[f"model.{name}"].default
      if model[name] != default:
        fail(
          f"model.{name}",
          f"only model.encoder = 'plain' takes it; with {model.encoder!r} set "
          f"--config.model.{name}={default}",
        )
  times = halvings(model.encoder, model.depth)
  if len(model.decoder_channels) not in (0, times):
    fail(
      "model.decoder_channels",
      f"expected {times} numbers for encoder {model.encoder!r}, or ()",
    )
  *depth, height, width = config.data.image_size
  if min(height, width) < 2**times:
    fail(
      "data.image_size",
      f"a U-Net that halves it {times} times needs at least "
      f"{2**times} pixels; use larger crops or a plain encoder with a "
      "smaller config.model.depth",
    )
  if depth and "pool_depth" not in ENCODERS[model.encoder].takes:
    fail("model.encoder", f"only {takers('pool_depth')} takes volumes")
  if depth and depth[0] < 2 ** (times - model.pool_depth):
    fail(
      "data.image_size",
      f"{depth[0]} slices cannot be halved {times - model.pool_depth} "
      "times; raise config.model.pool_depth, or use deeper crops",
    )
  if model.deep_supervision and times == 1:
    fail("model.deep_supervision", "one halving leaves no coarser level")
  if model.get("attention") and not model.skips:
    fail("model.attention", "needs config.model.skips=True")
