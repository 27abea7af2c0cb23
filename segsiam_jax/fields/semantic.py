"""Fields of semantic segmentation and of its models."""

import ml_collections

from segsiam_jax.fields.base import Fail, Field, one_of, pair, within

DATA_SETS = (
  "digit_scenes/trimap",
  "digit_scenes/classes",
  "oxford_iiit_pet",
  "cityscapes",
  "caltech_birds2011",
  "folder",
)

FIELDS: dict[str, Field] = {
  "data.image_size": Field(
    (64, 64), "(height, width) of training", pair("(height, width)", 1)
  ),
  "data.eval_image_size": Field(
    (0, 0), "the same in evaluation; (0, 0) for image_size", pair("two", 0)
  ),
  "data.fit": Field(
    "resize",
    "how images come to that size",
    one_of("resize", "crop", "pad"),
  ),
  "data.name": Field(
    "digit_scenes/trimap", "data set, or 'folder'", one_of(*DATA_SETS)
  ),
  "data.class_names": Field(
    ("",), "of a folder; () for the data set's own", empty=True
  ),
  "data.label_values": Field(
    (0,),
    "mask value of each class where it is not its index; ()",
    within(0, 255),
    empty=True,
  ),
  "augment.flip_left_right": Field(False, "mirror half of the images"),
  "augment.flip_up_down": Field(False, "likewise, upside down"),
  "augment.scale": Field(
    (1.0, 1.0), "smallest, largest zoom", pair("two factors", 0.01, True)
  ),
  "augment.rotate": Field(0.0, "largest angle in degrees", within(0, 180)),
  "augment.translate": Field(0.0, "largest shift, of the size", within(0, 1)),
  "augment.elastic_sigma": Field(0.0, "pixels of bending", within(0)),
  "augment.elastic_grid": Field(3, "vectors a side", within(2)),
  "augment.brightness": Field(0.0, "largest change, of 1", within(0, 1)),
  "augment.contrast": Field(
    (1.0, 1.0), "smallest, largest factor", pair("two factors", 0, True)
  ),
  "augment.noise": Field(0.0, "largest sigma, of 1", within(0, 1)),
  "loss.cross_entropy": Field(1.0, "weight", within(0)),
  "loss.label_smoothing": Field(0.0, "of cross-entropy", within(0, 1)),
  "loss.dice": Field(0.0, "weight", within(0)),
  "loss.dice_smooth": Field(1.0, "added above and below", within(0)),
  "loss.auxiliary": Field(
    0.5, "weight of the losses of auxiliary heads", within(0)
  ),
  "loss.dice_batch": Field(False, "one Dice of the batch, not of each image"),
}

MODELS: dict[str, dict[str, Field]] = {
  "unet": {
    "model.depth": Field(4, "number of halvings", within(1, 8)),
    "model.base_width": Field(32, "channels of the first level", within(1)),
    "model.norm": Field(
      "batch", "normalisation", one_of("batch", "group", "none")
    ),
    "model.upsample": Field(
      "transpose", "how to double", one_of("transpose", "resize")
    ),
    "model.dropout": Field(0.0, "rate at the bottom", within(0, 0.99)),
    "model.remat": Field(False, "save memory, cost time"),
  },
}
MODELS["fcn"] = {
  "model.stride": Field(8, "FCN-32s, 16s or 8s", one_of(32, 16, 8)),
  "model.learned_upsampling": Field(False, "train the 2x up-samplings"),
  "model.at_once": Field(False, "scale pool4 and pool3, one stage"),
  "model.width": Field(4096, "channels of fc6 and fc7", within(1)),
  "model.dropout": Field(0.5, "rate after both", within(0, 0.99)),
}
MODELS["fcn_resnet"] = {
  "model.depth": Field(50, "of the ResNet", one_of(50, 101)),
  "model.auxiliary": Field(True, "a head on the third stage, too"),
  "model.norm": Field(
    "batch", "normalisation", one_of("batch", "group", "none")
  ),
  "model.remat": Field(False, "save memory, cost time"),
}


def check(config: ml_collections.ConfigDict, fail: Fail) -> None:
  """What no field can tell alone."""
  data = config.data
  if data.name == "folder":
    if not data.dir:
      fail("data.dir", "the folder that holds the splits is needed")
    if len(data.class_names) < 2:
      fail("data.class_names", "a folder needs the names of its classes")
  elif data.label_values:
    fail("data.label_values", "only data.name = 'folder' takes them")
  if len(data.class_names) > 255:
    fail("data.class_names", "at most 255 classes; 255 is the ignore label")
  if data.label_values and len(data.label_values) != len(data.class_names):
    fail(
      "data.label_values",
      f"expected one value for each of the {len(data.class_names)} classes",
    )
  if len(set(data.class_names)) != len(data.class_names):
    fail("data.class_names", "two classes have the same name")
  if bool(data.eval_image_size[0]) != bool(data.eval_image_size[1]):
    fail("data.eval_image_size", "give both numbers, or (0, 0)")
  if not (config.loss.cross_entropy or config.loss.dice):
    fail("loss.cross_entropy", "no loss is left; give one a weight")
  unet = config.model.name == "unet"
  if unet and min(data.image_size) < 2**config.model.depth:
    fail(
      "data.image_size",
      f"a U-Net of depth {config.model.depth} needs at least "
      f"{2**config.model.depth} pixels; use larger crops or a smaller "
      "config.model.depth",
    )
