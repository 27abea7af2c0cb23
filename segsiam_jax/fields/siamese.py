"""Fields of Siamese networks and of their towers."""

import ml_collections

from segsiam_jax.fields import augment, siamese_losses
from segsiam_jax.fields.base import (
  Fail,
  Field,
  Model,
  one_of,
  pair,
  some,
  within,
)
from segsiam_jax.fields.data_sets import IDENTITIES
from segsiam_jax.fields.encoders import ENCODERS
from segsiam_jax.fields.siamese_losses import comparing

FIELDS: dict[str, Field] = {
  "data.name": Field("digits", "data set", one_of(*IDENTITIES)),
  "data.image_size": Field(
    (64, 64), "(height, width)", pair("(height, width)", 1)
  ),
  "data.fit": Field(
    "resize",
    "how to bring images to that size; 'crop' takes the centre, 'moments' "
    "centres and scales bright strokes",
    one_of("resize", "pad", "crop", "moments"),
  ),
  "data.class_names": Field(
    ("",), "identities of the training split; filled in by the run", empty=True
  ),
  "data.keep": Field(False, "keep prepared images in memory"),
  "data.singles": Field(
    "error",
    "training identities with one image: refuse or drop them, or keep them to "
    "differ from others",
    one_of("error", "drop", "keep"),
  ),
  "data.shared_identities": Field(
    False, "allow identities in both the training and the evaluation split"
  ),
  "batch.kind": Field(
    "identities",
    "what a batch is made of",
    one_of("identities", "pairs", "triplets", "episodes", "examples"),
  ),
  "batch.same_ratio": Field(0.5, "pairs: share of same ones", within(0, 1)),
  "batch.per_identity": Field(4, "identities: K images each", within(2)),
  "batch.ways": Field(5, "episodes: N identities", within(2)),
  "batch.shots": Field(1, "episodes: K support images each", within(1)),
  "batch.queries": Field(3, "episodes: query images each", within(1)),
  "batch.within_group": Field(
    False, "take negatives from one group (alphabet, family) if it has enough"
  ),
  "batch.by_drawer": Field(
    False, "episodes: support images from one person, queries from another"
  ),
  "batch.mine_every": Field(
    0,
    "steps between searches for the hardest negatives; 0 for never",
    within(0),
  ),
  "batch.mine_count": Field(
    5, "negatives that a search keeps per image", within(1)
  ),
  "augment.shear": Field(
    0.0, "largest shear of rows and columns", within(0, 1)
  ),
  "augment.scale": Field(
    (1.0, 1.0),
    "smallest and largest zoom of rows and columns",
    pair("two factors", 0.01, True, 100),
  ),
  "augment.chance": Field(
    1.0, "probability of each of these except flips", within(0, 1)
  ),
  "augment.elastic_grid": Field(
    4, "vectors per side of the elastic grid", within(2, 1024)
  ),
  "augment.thickness": Field(
    0.0, "largest change of stroke width in pixels", within(0, 1)
  ),
  "augment.fill": Field(
    "mirror", "what lies beyond the border", one_of("mirror", "zero")
  ),
  "augment.turn": Field(
    "none",
    "use quarter turns and mirror images as new identities or groups",
    one_of("none", "identity", "group"),
  ),
  "match.window": Field(
    2, "for head 'deformable': how far a place may move", within(0, 64)
  ),
  "match.stride": Field(
    2, "for head 'deformable': match every n-th place", within(1)
  ),
  "loss.memory_size": Field(
    0, "embeddings of earlier batches to compare with; 0 for none", within(0)
  ),
  "loss.memory_start": Field(
    0, "embeddings to see before the memory is used", within(0)
  ),
  "train.frozen_norm": Field(
    False, "for fine-tuning: keep batch statistics and turn dropout off"
  ),
  "eval.pairs": Field(
    6000, "random pairs, if the data set publishes none", within(2, 10**7)
  ),
  "eval.folds": Field(10, "folds of random pairs", within(2, 1000)),
  "eval.far": Field(0.01, "false accept rate of the threshold", within(0, 1)),
  "eval.fars": Field(
    (0.1, 0.01, 0.001),
    "false accept rates at which the true accept rate is reported",
    within(0, 1),
  ),
  "eval.ways": Field(5, "N of random episodes", within(2, 10**5)),
  "eval.shots": Field((1, 5), "K of random episodes", some(within(1, 1000))),
  "eval.queries": Field(
    5, "queries per identity in random episodes", within(1, 1000)
  ),
  "eval.episodes": Field(
    200, "random episodes, if the data set publishes none", within(1, 10**6)
  ),
  "eval.within_group": Field(
    False, "take different pairs and episodes from one group"
  ),
  "eval.views": Field(
    1,
    "distorted views whose embeddings are averaged; for maps, the best view "
    "counts",
    within(1, 1000),
  ),
}

FIELDS |= (
  augment.COMMON
  | augment.WARP
  | siamese_losses.FIELDS
  | {
    "predict.gallery": Field("", "file of known identities to search"),
    "predict.enroll": Field(False, "add the inputs to the gallery instead"),
    "predict.matches": Field(
      5, "nearest identities listed per input", within(1)
    ),
    "predict.batch_size": Field(
      32, "images per batch, over all devices", within(1)
    ),
  }
)

_NORM = Field("batch", "normalisation", one_of("batch", "group", "none"))


def _head(head: str, normalize: bool) -> dict[str, Field]:
  return {
    "model.head": Field(
      head,
      "how to compare two embeddings",
      one_of("euclidean", "sq_euclidean", "cosine", "learned", "deformable"),
    ),
    "model.normalize": Field(normalize, "scale embeddings to norm 1"),
  }


_FIELDS: dict[str, dict[str, Field]] = {
  "koch": _head("learned", False),
  "conv4": {
    "model.width": Field(64, "channels", within(1)),
    "model.embedding_size": Field(
      0, "size of a linear layer on top; 0 for none", within(0)
    ),
    "model.norm": _NORM,
  }
  | _head("euclidean", True),
  "signet": {"model.dropout": Field(True, "dropout rates 0.3, 0.3 and 0.5")}
  | _head("euclidean", False),
  "encoder": {
    "model.encoder": Field(
      "resnet18",
      "encoder",
      one_of(*ENCODERS),
    ),
    "model.embedding_size": Field(
      128, "size of a linear layer on top; 0 for none", within(0)
    ),
    "model.norm": _NORM,
    "model.remat": Field(
      False, "recompute activations: less memory, more time"
    ),
  }
  | _head("euclidean", True),
  "strokes": {
    "model.width": Field(48, "learned channels; 0 for none", within(0)),
    "model.depth": Field(2, "residual convolutions", within(0, 64)),
    "model.directions": Field(8, "number of edge directions", within(2, 360)),
    "model.equalize": Field(
      "no",
      "spread ink evenly first; 'both' also keeps a map without it",
      one_of("no", "yes", "both"),
    ),
    "model.norm": _NORM,
  }
  | _head("euclidean", True),
}

MODELS = {
  name: Model(f"segsiam_jax.models.{make}", _FIELDS[name])
  for name, make in {
    "koch": "towers:Koch",
    "conv4": "towers:Conv4",
    "signet": "towers:SigNet",
    "encoder": "towers:EncoderTower",
    "strokes": "strokes:Strokes",
  }.items()
}


def check(config: ml_collections.ConfigDict, fail: Fail) -> None:
  """What no field can tell alone."""
  data, loss = config.data, config.loss
  if IDENTITIES[data.name].folder and not data.dir:
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
    fail("loss.triplet", "all losses have weight 0; give one a weight")
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
