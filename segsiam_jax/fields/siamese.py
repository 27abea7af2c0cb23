"""Fields of Siamese networks and of their towers."""

import ml_collections

from segsiam_jax.fields import siamese_losses
from segsiam_jax.fields.base import Fail, Field, one_of, pair, some, within
from segsiam_jax.fields.encoders import ENCODERS
from segsiam_jax.fields.siamese_losses import comparing

DATA_SETS = (
  "digits",
  "folder",
  "pairs",
  "omniglot",
  "lfw",
  "cedar",
  "documents",
  "pages",
  "tfds:omniglot",
  "tfds:lfw",
  "celeb_a",
  "caltech_birds2011",
  "patch_camelyon",
  "colorectal_histology",
  "curated_breast_imaging_ddsm/original-calc",
  "curated_breast_imaging_ddsm/original-mass",
  "huggingface:rvl_cdip",
)
_NEED_A_FOLDER = ("folder", "pairs", "omniglot", "lfw", "cedar", "pages")

FIELDS: dict[str, Field] = {
  "data.name": Field("digits", "data set", one_of(*DATA_SETS)),
  "data.image_size": Field(
    (64, 64), "(height, width)", pair("(height, width)", 1)
  ),
  "data.fit": Field(
    "resize",
    "how images come to that size; 'crop' cuts the middle out, 'moments' "
    "centres and scales bright strokes",
    one_of("resize", "pad", "crop", "moments"),
  ),
  "data.class_names": Field(
    ("",), "identities of the training split; filled in", empty=True
  ),
  "data.keep": Field(False, "keep prepared images in memory"),
  "data.singles": Field(
    "error",
    "training identities of one image: refuse or drop them, or keep them to "
    "differ from others",
    one_of("error", "drop", "keep"),
  ),
  "data.shared_identities": Field(
    False, "allow identities in training and evaluation alike"
  ),
  "batch.kind": Field(
    "identities",
    "pairs, triplets, P x K identities, N-way K-shot episodes, or examples",
    one_of("identities", "pairs", "triplets", "episodes", "examples"),
  ),
  "batch.same_ratio": Field(0.5, "of pairs: share of same ones", within(0, 1)),
  "batch.per_identity": Field(4, "of identities: K images each", within(2)),
  "batch.ways": Field(5, "of episodes: N identities", within(2)),
  "batch.shots": Field(1, "of episodes: K known images each", within(1)),
  "batch.queries": Field(3, "of episodes: images to tell each", within(1)),
  "batch.within_group": Field(
    False, "negatives of one group (alphabet, family) where there are enough"
  ),
  "batch.by_drawer": Field(
    False, "of episodes: one person draws what is known, another what is asked"
  ),
  "batch.mine_every": Field(
    0, "steps between searches for the hardest negatives; 0 never", within(0)
  ),
  "batch.mine_count": Field(
    5, "negatives that a search keeps of each image", within(1)
  ),
  "augment.flip_left_right": Field(False, "mirror half of the images"),
  "augment.rotate": Field(0.0, "largest angle in degrees", within(0, 180)),
  "augment.shear": Field(0.0, "largest, of rows and columns", within(0, 1)),
  "augment.scale": Field(
    (1.0, 1.0),
    "smallest, largest zoom of rows and columns",
    pair("two factors", 0.01, True, 100),
  ),
  "augment.translate": Field(0.0, "largest shift, of the size", within(0, 1)),
  "augment.chance": Field(1.0, "of each of these but flips", within(0, 1)),
  "augment.elastic_sigma": Field(0.0, "pixels of bending", within(0, 1e4)),
  "augment.elastic_grid": Field(4, "vectors a side", within(2, 1024)),
  "augment.thickness": Field(
    0.0, "largest change of strokes, in pixels", within(0, 1)
  ),
  "augment.brightness": Field(0.0, "largest change, of 1", within(0, 1)),
  "augment.contrast": Field(
    (1.0, 1.0), "smallest, largest factor", pair("two factors", 0, True, 1000)
  ),
  "augment.noise": Field(0.0, "largest sigma, of 1", within(0, 1)),
  "augment.fill": Field(
    "mirror", "what is beyond the border", one_of("mirror", "zero")
  ),
  "augment.turn": Field(
    "none",
    "quarter turns and mirror images as new identities, or as new groups",
    one_of("none", "identity", "group"),
  ),
  "match.window": Field(
    2, "of head 'deformable': how far a place may move", within(0, 64)
  ),
  "match.stride": Field(
    2, "of head 'deformable': one place of so many is matched", within(1)
  ),
  "loss.memory_size": Field(
    0, "embeddings of earlier batches to compare with", within(0)
  ),
  "loss.memory_start": Field(
    0, "embeddings to see before the memory is used", within(0)
  ),
  "train.frozen_norm": Field(
    False, "keep batch statistics, and drop nothing: for fine-tuning"
  ),
  "eval.pairs": Field(
    6000, "random pairs, where none are published", within(2, 10**7)
  ),
  "eval.folds": Field(10, "that they are scored in", within(2, 1000)),
  "eval.far": Field(
    0.01, "false accept rate that the threshold is set for", within(0, 1)
  ),
  "eval.fars": Field(
    (0.1, 0.01, 0.001), "where the true accept rate is told", within(0, 1)
  ),
  "eval.ways": Field(5, "N of random episodes", within(2, 10**5)),
  "eval.shots": Field((1, 5), "K of random episodes", some(within(1, 1000))),
  "eval.queries": Field(5, "of each identity in them", within(1, 1000)),
  "eval.episodes": Field(
    200, "random ones, where none are published", within(1, 10**6)
  ),
  "eval.within_group": Field(
    False, "different pairs and episodes are of one group"
  ),
  "eval.views": Field(
    1,
    "distorted views whose embeddings are averaged, or, of maps, the best of "
    "which counts",
    within(1, 1000),
  ),
}

FIELDS |= siamese_losses.FIELDS | {
  "predict.gallery": Field("", "file of known identities, to look in"),
  "predict.enroll": Field(False, "add the inputs to the gallery instead"),
  "predict.matches": Field(5, "identities told of each input", within(1)),
  "predict.batch_size": Field(32, "images at once, all devices", within(1)),
}

_NORM = Field("batch", "normalisation", one_of("batch", "group", "none"))


def _head(head: str, normalize: bool) -> dict[str, Field]:
  return {
    "model.head": Field(
      head,
      "how two embeddings compare",
      one_of("euclidean", "sq_euclidean", "cosine", "learned", "deformable"),
    ),
    "model.normalize": Field(normalize, "embeddings have norm 1"),
  }


MODELS: dict[str, dict[str, Field]] = {
  "koch": _head("learned", False),
  "conv4": {
    "model.width": Field(64, "channels", within(1)),
    "model.embedding_size": Field(
      0, "of a linear layer on top; 0 for none", within(0)
    ),
    "model.norm": _NORM,
  }
  | _head("euclidean", True),
  "signet": {"model.dropout": Field(True, "0.3, 0.3 and 0.5")}
  | _head("euclidean", False),
  "encoder": {
    "model.encoder": Field(
      "resnet18",
      "architecture",
      one_of(*ENCODERS),
    ),
    "model.embedding_size": Field(
      128, "of a linear layer on top; 0 for none", within(0)
    ),
    "model.norm": _NORM,
    "model.remat": Field(False, "save memory, cost time"),
  }
  | _head("euclidean", True),
  "strokes": {
    "model.width": Field(48, "learned channels; 0 for none", within(0)),
    "model.depth": Field(2, "residual convolutions", within(0, 64)),
    "model.directions": Field(8, "of edges", within(2, 360)),
    "model.equalize": Field(
      "no",
      "spread ink evenly first: maps of that, or of the image, or both",
      one_of("no", "yes", "both"),
    ),
    "model.norm": _NORM,
  }
  | _head("euclidean", True),
}


def check(config: ml_collections.ConfigDict, fail: Fail) -> None:
  """What no field can tell alone."""
  data, loss = config.data, config.loss
  if data.name in _NEED_A_FOLDER and not data.dir:
    fail("data.dir", "the folder of the data is needed")
  if config.model.name == "koch" and min(data.image_size) < 76:
    fail("data.image_size", "Koch's tower needs 76 pixels; the paper has 105")
  if config.model.name == "signet" and min(data.image_size) < 91:
    fail("data.image_size", "SigNet needs 91 pixels; the paper has 155x220")
  if config.augment.turn != "none" and len(set(data.image_size)) > 1:
    fail("augment.turn", "quarter turns need a square data.image_size")
  if config.predict.enroll and not config.predict.gallery:
    fail("predict.enroll", "name the file with config.predict.gallery")
  used = [name for name in siamese_losses.LOSSES if loss[name]]
  if not used:
    fail("loss.triplet", "no loss is left; give one a weight")
  _check_batches(config, fail, used)
  learned = config.model.head == "learned"
  if loss.binary and not learned:
    fail("loss.binary", "needs config.model.head = 'learned'")
  if learned and used != ["binary"]:
    fail("model.head", "'learned' is trained by loss.binary alone")
  _check_deformable(config, fail, used)
  if loss.memory_size:
    of_batch = comparing("batch")
    if set(used) - set(of_batch):
      fail("loss.memory_size", f"only for {', '.join(of_batch)}")
    if config.augment.turn != "none":
      fail("loss.memory_size", "augment.turn makes other identities each time")
  of_classes = comparing("classes")
  if config.augment.turn != "none" and set(used) & set(of_classes):
    fail("augment.turn", f"not with {', '.join(of_classes)}")


def _check_deformable(
  config: ml_collections.ConfigDict, fail: Fail, used: list[str]
) -> None:
  if config.model.head != "deformable":
    return
  batch = config.batch
  if config.model.name != "strokes":
    fail("model.head", "'deformable' compares maps: it needs model 'strokes'")
  if not config.model.normalize:
    fail("model.normalize", "head 'deformable' needs embeddings of norm 1")
  if used != ["prototypical"]:
    fail("model.head", "'deformable' is trained by loss.prototypical alone")
  if (batch.shots, batch.queries) != (1, 1):
    fail("model.head", "'deformable' needs batch.shots = batch.queries = 1")


def _check_batches(
  config: ml_collections.ConfigDict, fail: Fail, used: list[str]
) -> None:
  batch, size = config.batch, config.train.batch_size
  if config.train.grad_accum > 1:
    fail(
      "train.grad_accum",
      "a batch is compared with itself: keep it whole "
      "(config.train.grad_accum=1), or lower config.train.batch_size",
    )
  if batch.kind == "identities" and size % batch.per_identity:
    fail(
      "train.batch_size",
      f"not a multiple of batch.per_identity = {batch.per_identity}",
    )
  if batch.kind == "identities" and size // batch.per_identity < 2:
    fail("train.batch_size", "holds one identity; two are needed")
  episode = batch.ways * (batch.shots + batch.queries)
  if batch.kind == "episodes" and size % episode:
    fail(
      "train.batch_size",
      f"not a multiple of batch.ways * (shots + queries) = {episode}",
    )
  if batch.by_drawer and batch.kind != "episodes":
    fail("batch.by_drawer", "needs config.batch.kind = 'episodes'")
  if batch.by_drawer and (batch.shots, batch.queries) != (1, 1):
    fail("batch.by_drawer", "needs batch.shots = batch.queries = 1")
  if "prototypical" in used and batch.kind != "episodes":
    fail("loss.prototypical", "needs config.batch.kind = 'episodes'")
  if "binary" in used and batch.kind != "pairs":
    fail("loss.binary", "needs config.batch.kind = 'pairs'")
  of_classes = comparing("classes")
  if batch.kind == "examples" and set(used) - set(of_classes):
    fail("batch.kind", f"'examples' is for {', '.join(of_classes)} alone")
  if batch.mine_every and batch.kind in ("examples", "episodes"):
    fail("batch.mine_every", "for pairs, triplets and identities")
