"""The table of losses of Siamese networks."""

from collections.abc import Mapping
from typing import NamedTuple

from segsiam_jax.fields.base import Field, one_of, within


class Loss(NamedTuple):
  """A loss that a config weighs as `loss.NAME`.

  Attributes:
    function: 'module:name'. Of `segsiam_jax.losses`, a function of the arrays
      that `of` names; of `tasks.siamese_losses`, of a `Context` there.
    of: what it compares: 'batch', each embedding of the batch with all others
      (see `losses.in_batch`); 'classes', embeddings with a vector for every
      identity of the training split (see `losses.proxies`); 'episodes'; or
      'pairs'.
    options: parameters of the function, each with the field that sets it.
    weight: that it has by default.
    learns: of 'classes': its parameters, 'proxies' or 'classifier'.
  """

  function: str
  of: str
  options: Mapping[str, str] = {}
  weight: float = 0.0
  learns: str = ""


_HERE = "segsiam_jax.tasks.siamese_losses:"

LOSSES: dict[str, Loss] = {
  "contrastive": Loss(
    _HERE + "contrastive",
    "batch",
    {
      "margin": "loss.contrastive_margin",
      "positive_margin": "loss.contrastive_positive_margin",
      "squared": "loss.contrastive_squared",
    },
  ),
  "binary": Loss(_HERE + "binary", "pairs"),
  "triplet": Loss(
    _HERE + "triplet",
    "batch",
    {
      "margin": "loss.triplet_margin",
      "soft": "loss.triplet_soft",
      "mining": "loss.triplet_mining",
      "average_over": "loss.triplet_average",
    },
    weight=1.0,
  ),
  "nt_xent": Loss(
    "segsiam_jax.losses:nt_xent_loss",
    "batch",
    {"temperature": "loss.temperature"},
  ),
  "supervised_contrastive": Loss(
    "segsiam_jax.losses:supervised_contrastive_loss",
    "batch",
    {"temperature": "loss.temperature"},
  ),
  "multi_similarity": Loss(
    _HERE + "multi_similarity",
    "batch",
    {
      "alpha": "loss.multi_similarity_alpha",
      "beta": "loss.multi_similarity_beta",
      "base": "loss.multi_similarity_base",
      "epsilon": "loss.multi_similarity_epsilon",
    },
  ),
  "prototypical": Loss(
    _HERE + "prototypical",
    "episodes",
    {"temperature": "loss.prototypical_temperature"},
  ),
  "arcface": Loss(
    "segsiam_jax.losses:arcface_loss",
    "classes",
    {"margin": "loss.arcface_margin", "scale": "loss.proxy_scale"},
    learns="proxies",
  ),
  "cosface": Loss(
    "segsiam_jax.losses:cosface_loss",
    "classes",
    {"margin": "loss.cosface_margin", "scale": "loss.proxy_scale"},
    learns="proxies",
  ),
  "proxy_anchor": Loss(
    "segsiam_jax.losses:proxy_anchor_loss",
    "classes",
    {
      "margin": "loss.proxy_anchor_margin",
      "alpha": "loss.proxy_anchor_alpha",
    },
    learns="proxies",
  ),
  "cross_entropy": Loss(
    _HERE + "cross_entropy", "classes", learns="classifier"
  ),
}

FIELDS: dict[str, Field] = {
  f"loss.{name}": Field(loss.weight, f"weight; compares {loss.of}", within(0))
  for name, loss in LOSSES.items()
} | {
  "loss.contrastive_margin": Field(1.0, "margin of different pairs", within(0)),
  "loss.contrastive_positive_margin": Field(
    0.0, "margin of same pairs", within(0)
  ),
  "loss.contrastive_squared": Field(True, "square both hinges"),
  "loss.triplet_margin": Field(
    0.2, "margin in units of the distance", within(0)
  ),
  "loss.triplet_mining": Field(
    "hard",
    "triplets of a batch to use, unless batch.kind = 'triplets'",
    one_of("hard", "semi_hard", "all", "distance_weighted"),
  ),
  "loss.triplet_soft": Field(False, "use softplus instead of the hinge"),
  "loss.triplet_average": Field(
    "valid",
    "average over all triplets, or those with a non-zero loss",
    one_of("valid", "active"),
  ),
  "loss.temperature": Field(
    0.1, "temperature of nt_xent and supervised_contrastive", within(1e-4)
  ),
  "loss.multi_similarity_alpha": Field(2.0, "weight of same pairs", within(0)),
  "loss.multi_similarity_beta": Field(
    50.0, "weight of different pairs", within(0)
  ),
  "loss.multi_similarity_base": Field(0.5, "lambda", within(-1, 1)),
  "loss.multi_similarity_epsilon": Field(
    0.1, "margin of its mining; 0 for all pairs", within(0)
  ),
  "loss.prototypical_temperature": Field(
    1.0, "temperature of its softmax", within(1e-4)
  ),
  "loss.arcface_margin": Field(0.5, "margin in radians", within(0, 3.15)),
  "loss.cosface_margin": Field(
    0.35, "margin; 0 is the normalised softmax", within(0, 2)
  ),
  "loss.proxy_scale": Field(64.0, "scale of arcface and cosface", within(0)),
  "loss.proxy_anchor_margin": Field(0.1, "delta", within(0)),
  "loss.proxy_anchor_alpha": Field(32.0, "sharpness", within(0)),
}


def comparing(what: str) -> list[str]:
  """Names of the losses that compare 'batch', 'classes' and so on."""
  return [name for name, loss in LOSSES.items() if loss.of == what]
