"""Fields of semantic segmentation; those of its models are beside."""

import ml_collections

from segsiam_jax.fields import (
  augment,
  folders,
  semantic_losses,
  semantic_models,
  windows,
)
from segsiam_jax.fields.base import Fail, Field, one_of, pair, size, within
from segsiam_jax.fields.data_sets import SEMANTIC
from segsiam_jax.fields.semantic_losses import taking

MODELS = semantic_models.MODELS
# Classes that may overlap, each a bit of `ops.multilabel`.
MOST_OVERLAPPING = 30

FIELDS: dict[str, Field] = {
  "data.image_size": Field(
    (64, 64),
    "(height, width) in training, or (depth, height, width) for volumes",
    size(1),
  ),
  "data.eval_image_size": Field(
    (0, 0),
    "the same in evaluation and prediction; (0, 0) uses image_size",
    size(0),
  ),
  "data.image_dtype": Field(
    "uint8",
    "type of a folder's files; data.mean and data.std are in its units",
    one_of("uint8", "uint16"),
  ),
  "data.fit": Field(
    "resize",
    "how to bring images to that size",
    one_of("resize", "crop", "pad"),
  ),
  "data.name": Field(
    "digit_scenes/trimap", "data set, or 'folder'", one_of(*SEMANTIC)
  ),
  "data.class_names": Field(
    ("",),
    "class names; () uses the data set's own, or a folder's legend, classes.txt"
    " or the values of its masks",
    empty=True,
  ),
  "data.label_values": Field(
    (0,),
    "mask value of each class; () if it is the class index",
    within(0, 255),
    empty=True,
  ),
  "data.ignore_values": Field(
    (0,), "mask values to ignore, besides 255", within(0, 255), empty=True
  ),
  "data.legend": Field(
    "",
    "what mask values or colours mean: a CSV file (value,class or r,g,b,class),"
    " or 'binary', 'camvid', 'camvid11', 'cityscapes'",
  ),
  "data.masks": Field(
    "classes",
    "what a folder holds: masks/ of classes, or labels/ that number objects",
    one_of("classes", "instances"),
  ),
  "data.multilabel": Field(
    False,
    "classes may overlap: a mask of each, masks/CLASS/NAME.png, and a sigmoid "
    "instead of a softmax",
  ),
  "data.train_fraction": Field(
    1.0,
    "fraction of training examples to use, drawn by the seed",
    within(1e-9, 1),
  ),
  "data.foreground_crops": Field(
    0.0, "share of crops around a pixel of a class other than 0", within(0, 1)
  ),
  "augment.flip_up_down": augment.FLIP_UP_DOWN,
  "augment.scale": Field(
    (1.0, 1.0),
    "smallest and largest zoom",
    pair("two factors", 0.01, True, 100),
  ),
  "augment.elastic_grid": Field(
    3, "vectors per side of the elastic grid", within(2, 1024)
  ),
  "loss.auxiliary": Field(
    0.5, "weight of the losses of auxiliary heads", within(0)
  ),
  "loss.class_weights": Field(
    (1.0,),
    "class weights of cross-entropy and focal; () for none",
    within(0),
    empty=True,
  ),
  "loss.balance": Field(
    "none",
    "class weights from pixel counts n of training: 1 / n or 1 / sqrt n, "
    "at most 50 times the smallest, with mean 1",
    one_of("none", "inverse", "inverse_sqrt"),
  ),
  "loss.weight_map": Field(
    0.0, "U-Net's w0: extra weight of gaps between objects", within(0)
  ),
  "loss.weight_map_sigma": Field(
    5.0, "width of the gaps in pixels", within(0.1)
  ),
  "eval.rand_class": Field(
    "", "class whose connected components get a Rand score; '' for none"
  ),
}

FIELDS |= augment.COMMON | augment.WARP
FIELDS |= semantic_losses.FIELDS | windows.FIELDS | folders.FIELDS


def check(config: ml_collections.ConfigDict, fail: Fail) -> None:
  """What no field can tell alone."""
  windows.check(config, fail)
  folders.check(config, fail)
  data = config.data
  if SEMANTIC[data.name].folder and not data.dir:
    fail("data.dir", "the folder that holds the splits is needed")
  if data.multilabel:
    _check_multilabel(config, fail)
  elif len(data.class_names) == 1:
    fail("data.class_names", "expected two or more, the background included")
  if data.legend and (data.label_values or data.ignore_values):
    fail("data.legend", "leave data.label_values and data.ignore_values empty")
  if data.name != "folder":
    for name in ("label_values", "ignore_values", "legend"):
      if data[name]:
        fail(f"data.{name}", "only data.name = 'folder' takes it")
  if data.label_values and not data.class_names:
    fail("data.label_values", "needs a name for each in data.class_names")
  if len(data.class_names) > 255:
    fail("data.class_names", "at most 255 classes; 255 is the ignore label")
  if data.label_values and len(data.label_values) != len(data.class_names):
    fail(
      "data.label_values",
      f"expected one value for each of the {len(data.class_names)} classes",
    )
  if len(set(data.label_values)) != len(data.label_values):
    fail("data.label_values", "two classes have the same value")
  if len(set(data.class_names)) != len(data.class_names):
    fail("data.class_names", "two classes have the same name")
  if any(data.eval_image_size) and (
    not all(data.eval_image_size)
    or len(data.eval_image_size) != len(data.image_size)
  ):
    fail("data.eval_image_size", "give as many as image_size has, or (0, 0)")
  if data.image_dtype != "uint8":
    if data.name != "folder":
      fail("data.image_dtype", "only folders have 16-bit files")
    if max(data.mean) == 127.5 and max(data.std) == 63.75:
      fail(
        "data.image_dtype",
        "data.mean and data.std have the defaults of 8 bits; give them in "
        "0..65535",
      )
  if len(data.image_size) == 3:
    _check_volumes(config, fail)
  if data.masks == "instances" and (data.name != "folder" or data.label_values):
    fail("data.masks", "'instances' needs data.name = 'folder', and no values")
  if data.masks == "instances" and len(data.class_names) not in (0, 2):
    fail("data.class_names", "expected two, for the background and an object")
  loss = config.loss
  used = [name for name in semantic_losses.LOSSES if loss[name]]
  if not used:
    fail("loss.cross_entropy", "all losses have weight 0; give one a weight")
  counted = loss.dice_batch and set(used) & set(taking("batch"))
  if config.train.grad_accum > 1 and counted:
    fail(
      "train.grad_accum",
      "loss.dice_batch counts over the batch as a whole: set "
      "config.train.grad_accum=1 or config.loss.dice_batch=False",
    )
  for name in ("class_weights", "balance", "weight_map"):
    takers = taking("pixel_weights")
    if loss[name] not in ((), "none", 0.0) and not set(used) & set(takers):
      fail(f"loss.{name}", f"only {' and '.join(takers)} take it")
  named = data.class_names
  if named and loss.class_weights and len(loss.class_weights) != len(named):
    fail("loss.class_weights", f"expected one for each of {len(named)} classes")
  if loss.class_weights and not any(loss.class_weights):
    fail("loss.class_weights", "every class weighs 0; nothing would be learned")
  if named and config.eval.rand_class not in ("", *named):
    fail("eval.rand_class", f"expected one of {', '.join(named)}, or ''")
  semantic_models.check(config, fail)


def is_folder_name(name: str) -> bool:
  """Whether a class can have a folder of its name."""
  return not name.startswith(".") and not set(name) & set("/\\\0")


def _check_multilabel(config: ml_collections.ConfigDict, fail: Fail) -> None:
  data, loss = config.data, config.loss
  if data.name != "folder":
    fail("data.multilabel", "only data.name = 'folder' has masks of classes")
  for name in ("label_values", "ignore_values", "legend"):
    if data[name]:
      fail(f"data.{name}", "a mask of data.multilabel is black and white")
  if data.masks == "instances":
    fail("data.masks", "data.multilabel needs 'classes'")
  if len(data.class_names) > MOST_OVERLAPPING:
    fail("data.class_names", f"at most {MOST_OVERLAPPING} of data.multilabel")
  for name in data.class_names:
    if not is_folder_name(name):
      fail("data.class_names", f"{name!r} cannot be the name of a folder")
  if data.mask_files and "{class}" not in data.mask_files:
    fail("data.mask_files", "data.multilabel needs {class} in it")
  if data.mask_files and not data.class_names:
    fail("data.class_names", "name the classes that {class} stands for")
  if loss.weight_map:
    fail("loss.weight_map", "is of classes that exclude each other; set 0.0")
  for name, each in semantic_losses.LOSSES.items():
    if not loss[name]:
      continue
    if each.sigmoid is None:
      fail(f"loss.{name}", "is of classes that exclude each other; set 0.0")
    useless = set(each.options.values()) - set(
      each.overlapping().options.values()
    )
    for field in sorted(useless):
      default = semantic_losses.FIELDS[field].default
      if loss[field.removeprefix("loss.")] != default:
        fail(field, f"data.multilabel has none; leave it at {default}")


def _check_volumes(config: ml_collections.ConfigDict, fail: Fail) -> None:
  if config.data.name != "folder":
    fail("data.image_size", "only a folder has volumes; give two numbers")
  if config.data.fit != "crop":
    fail("data.fit", "volumes are cut out of files; set 'crop'")
  if config.loss.weight_map:
    fail("loss.weight_map", "is of images, not of volumes; set 0.0")
