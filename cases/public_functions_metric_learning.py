"""Cases of the functions of metric learning."""

import jax
import numpy as np

from cases.public_functions import Case
from segsiam_jax.losses import WeightedLoss
from segsiam_jax.ops import LearnedWeights, renumber, similarity
from segsiam_jax.ops.deformable import (
  Deformation,
  Maps,
  deformable_distances,
  deformable_similarities,
  deformable_similarity,
)

B, D = 6, 3
METRICS = ("euclidean", "sq_euclidean", "cosine", "l1")


def vectors(*shape: int, seed: int = 0) -> np.ndarray:
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


# Changes of the shape of one array that stands alone.
ANY_ROWS = ("one row", "more rows")
ANY_VECTORS = (*ANY_ROWS, "longer last axis", "last axis of 1")
WIDTHS = ("longer last axis", "last axis of 1")
ANY_SHAPE = (*ANY_VECTORS, "extra axis", "leading axis", "fewer axes")
# A mask counts what is not 0.
MASK = {"where": "NaN is not 0"}

LABELS = np.array([0, 0, 1, 1, 2, 2], np.int32)
IDS = np.array([0, 1, 2, 3, 4, 4], np.int32)
WHERE = np.array([1, 1, 1, 0, 1, 1], np.float32)
SAME = np.array([1, 0, 1, 0, 0, 1], np.float32)
KEY = jax.random.key(0)


def in_batch(**options) -> list[Case]:
  """Of a loss over all pairs of a batch."""
  return [
    Case(
      {
        "embeddings": vectors(B, D),
        "labels": LABELS,
        "ids": IDS,
        "where": WHERE,
      },
      options,
      ids=("labels", "ids"),
      fits={"embeddings": WIDTHS},
      unseen=MASK,
    )
  ]


def with_proxies(**options) -> list[Case]:
  rows = {"embeddings": vectors(B, D), "proxies": vectors(4, D, seed=1)}
  return [
    Case(
      {**rows, "labels": LABELS, "where": WHERE},
      options,
      classes=("labels",),
      batch=("embeddings", "labels", "where"),
      fits={"proxies": ANY_ROWS},
      unseen=MASK,
    )
  ]


def pairs(name: str, **options) -> list[Case]:
  """Of a loss of one number a pair."""
  return [
    Case(
      {name: abs(vectors(B)), "same": SAME, "where": WHERE},
      options,
      unseen=MASK,
    )
  ]


def mining(name: str = "distances", **options) -> list[Case]:
  masks = LABELS[:, None] == LABELS
  return [
    Case(
      {
        name: abs(vectors(B, B)),
        "positive": masks & ~np.eye(B, dtype=bool),
        "negative": ~masks,
      },
      options,
      unseen={name: "indices and masks; the losses made of them are NaN"},
    )
  ]


def bent(function, maps: Maps):
  """A function of deformable maps, of its penalty as an argument."""

  def call(penalty, **embeddings):
    return function(**embeddings, deformation=Deformation(penalty, maps))

  return call


PAIRS = {"scores": vectors(B), "same": SAME}
PENALTY = {"penalty": np.full((), 0.5, np.float32)}
EPISODES = {
  "support": vectors(2, 3, 2, D),
  "queries": vectors(2, 3, 4, D, seed=1),
}
# Documented to broadcast.
BROADCAST = {
  name: ("one row", "leading axis", "fewer axes")
  for name in ("x", "y", "first", "second")
}

CASES = {
  "losses.batch_pairs.batch_contrastive_loss": in_batch(margin=1.5),
  "losses._batch.prepare": [
    Case(
      {
        "embeddings": vectors(B, D),
        "labels": LABELS,
        "ids": IDS,
        "where": WHERE,
      },
      {"num_anchors": None},
      ids=("labels", "ids"),
      fits={"embeddings": WIDTHS},
      unseen=MASK,
    )
  ],
  "losses.in_batch.batch_triplet_loss": [
    *in_batch(mining="hard", margin=0.2, average_over="active"),
    *in_batch(mining="semi_hard", margin=0.2),
    *in_batch(mining="all", margin=0.2, distance="l1"),
    *in_batch(mining="distance_weighted", rng=KEY, soft=True),
  ],
  "losses.in_batch.nt_xent_loss": in_batch(temperature=0.5),
  "losses.in_batch.supervised_contrastive_loss": in_batch(temperature=0.5),
  "losses.in_batch.multi_similarity_loss": [
    *in_batch(alpha=2.0, beta=40.0, base=0.5, epsilon=0.1),
    *in_batch(epsilon=None),
  ],
  "losses.episodes.prototypical_loss": [
    Case(
      {"support": vectors(B, 3, 2, D), "queries": vectors(B, 3, 1, D, seed=1)},
      {"temperature": 0.5, "distance": distance},
    )
    for distance in ("sq_euclidean", "cosine")
  ],
  "losses._masking.zero_padding": [
    Case(
      {"x": vectors(B, D), "where": WHERE},
      fits={"x": ("extra axis", *WIDTHS), "where": ("fewer axes",)},
      unseen=MASK,
    )
  ],
  "losses._masking.masked_logsumexp": [
    Case(
      {"x": vectors(B, D), "mask": vectors(B, D, seed=1) > -1.0},
      {"axis": axis},
    )
    for axis in (0, 1)
  ],
  "losses.pairs.contrastive_loss": [
    *pairs("distances", margin=1.0, positive_margin=0.1),
    *pairs("distances", squared=False, half=True),
  ],
  "losses.pairs.binary_similarity_loss": pairs("logits", positive_weight=2.0),
  "losses.pairs.triplet_loss": [
    Case(
      {
        "anchor": vectors(B, D),
        "positive": vectors(B, D, seed=1),
        "negative": vectors(B, D, seed=2),
        "where": WHERE,
      },
      {"margin": 0.2, "distance": distance, "soft": soft, "swap": soft},
      unseen=MASK,
    )
    for distance, soft in (("sq_euclidean", True), ("euclidean", False))
  ],
  "losses.proxies.arcface_loss": [
    *with_proxies(margin=0.5, scale=8.0),
    *with_proxies(guard="easy", scale=8.0),
  ],
  "losses.proxies.cosface_loss": with_proxies(margin=0.3, scale=8.0),
  "losses.proxies.proxy_anchor_loss": with_proxies(margin=0.1, alpha=8.0),
  "losses.weighted.WeightedLoss.mean": [
    Case(
      {"values": vectors(B), "weights": np.abs(vectors(B, seed=1))},
      call=lambda values, weights: WeightedLoss(values, weights).mean(),
    )
  ],
  "ops.mining.pair_masks": [
    Case(
      {"labels": LABELS, "ids": IDS, "where": WHERE},
      ids=("labels", "ids"),
      unseen=MASK,
    )
  ],
  "ops.mining.mine_hard": mining(),
  "ops.mining.mine_semi_hard": [
    case
    for fallback in ("easiest", "hardest", "skip")
    for case in mining(fallback=fallback)
  ],
  "ops.mining.mine_distance_weighted": mining(
    rng=KEY, embedding_size=D, cutoff=0.5, nonzero_loss_cutoff=1.4
  ),
  "ops.mining.mine_multi_similarity": mining("similarities", epsilon=0.1),
  "ops.distances.l2_normalize": [
    Case({"x": vectors(B, D)}, fits={"x": ANY_SHAPE})
  ],
  "ops.distances.pairwise_distances": [
    Case({"x": vectors(B, D)}, fits={"x": ANY_VECTORS}),
    *(
      Case(
        {"x": vectors(B, D), "y": vectors(B, D, seed=1)},
        {"metric": metric},
        fits={"x": ANY_ROWS, "y": ANY_ROWS},
      )
      for metric in METRICS
    ),
  ],
  "ops.distances.paired_distances": [
    Case(
      {"x": vectors(B, D), "y": vectors(B, D, seed=1)},
      {"metric": metric},
      fits=BROADCAST,
    )
    for metric in METRICS
  ],
  "ops.distances.pairwise_cosine_similarities": [
    Case(
      {"x": vectors(B, D), "y": vectors(B, D, seed=1)},
      fits={"x": ANY_ROWS, "y": ANY_ROWS},
    )
  ],
  "ops.similarity.similarity": [
    *(
      Case(
        {"first": vectors(B, D), "second": vectors(B, D, seed=1)},
        {"head": head},
        fits=BROADCAST,
      )
      for head in ("cosine", "sq_euclidean")
    ),
    Case(
      {
        "first": vectors(B, D),
        "second": vectors(B, D, seed=1),
        "weights": vectors(D, seed=2),
        "bias": np.full((), 0.5, np.float32),
      },
      call=lambda first, second, weights, bias: similarity(
        first, second, "learned", LearnedWeights(weights, bias)
      ),
      batch=("first", "second"),
      fits=BROADCAST,
    ),
  ],
  "ops.deformable.deformable_distances": [
    Case(
      {"queries": vectors(2, 8), "others": vectors(3, 8, seed=1), **PENALTY},
      call=bent(deformable_distances, Maps((2, 2, 1), 1, 1, parts=2)),
      batch=("queries", "others"),
      fits={"queries": ANY_ROWS, "others": ANY_ROWS},
    )
  ],
  "ops.deformable.deformable_similarity": [
    Case(
      {"first": vectors(2, 8), "second": vectors(2, 8, seed=1), **PENALTY},
      call=bent(deformable_similarity, Maps((2, 2, 1), 1, 1, views=2)),
      batch=("first", "second"),
      fits=BROADCAST,
    )
  ],
  "ops.deformable.deformable_similarities": [
    Case(
      {"first": vectors(2, 8), "second": vectors(3, 8, seed=1), **PENALTY},
      call=bent(deformable_similarities, Maps((2, 2, 1), 1, 1, views=2)),
      batch=("first", "second"),
      fits={"first": ANY_ROWS, "second": ANY_ROWS},
    )
  ],
  "ops.density.equalize": [
    Case(
      {"images": abs(vectors(2, 5, 4, 1))},
      {"size": (3, 3), "floor": 0.25, "power": 0.7},
      fits={"images": (*ANY_ROWS, "longer last axis")},
    )
  ],
  "ops.labels.renumber": [
    Case(
      {"arrays": LABELS},
      call=lambda arrays: renumber(arrays),
      host=True,
      ids=("arrays",),
      fits={"arrays": ANY_VECTORS},
      rtol=0.0,
    )
  ],
}

# By name, why there is nothing to try.
EXEMPT = {
  "losses._batch.keep_nan": "the end of the losses of in_batch, tried there",
  "ops.convolution.conv_general_dilated": "as lax; test_convolution.py",
  "ops.convolution.in_loop": "a context",
  "ops.depthwise.depthwise_conv": "as lax; test_depthwise.py",
  "ops.shapes.check_shapes": "the check itself; tests/ops/test_shapes.py",
  "ops.shapes.check_pairs": "the check itself; tests/ops/test_shapes.py",
  "ops.shapes.broadcasts": "of shapes, not of arrays",
  "ops.shapes.check_integer": "the check itself; tests/ops/test_shapes.py",
  "ops.distances.check_metric": "the check of a name",
  "ops.labels.to_ids": "any shape; tests/ops/test_labels.py",
  "ops.labels.to_classes": "any shape; tests/ops/test_labels.py",
  "ops.collectives.all_gather_batch": "any arrays; test_in_batch_devices.py",
}

# To be moved into one of the above.
NOT_YET: set[str] = set()
