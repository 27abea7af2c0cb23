"""Losses against one learned vector per class.

`proxies (C, D)` are parameters of the caller, one row per class; a Flax
`Dense` kernel and the `W` of pytorch-metric-learning are its transpose. All
normalise embeddings and proxies, and compute in float32. A label that is not a
class, and has no loss, is one of 64 bits too, unless it was cut to 32 before:
`jit` does so with its arguments.
"""

import math
from typing import Literal

import jax
import jax.numpy as jnp

from segsiam_jax.losses._batch import keep_nan
from segsiam_jax.losses._masking import masked_logsumexp, zero_padding
from segsiam_jax.losses.weighted import WeightedLoss
from segsiam_jax.ops.distances import pairwise_cosine_similarities
from segsiam_jax.ops.labels import to_classes
from segsiam_jax.ops.shapes import check_shapes

__all__ = ["arcface_loss", "cosface_loss", "proxy_anchor_loss"]

Guard = Literal["linear", "easy", "none"]


def arcface_loss(
  embeddings: jax.Array,
  proxies: jax.Array,
  labels: jax.Array,
  *,
  margin: float = 0.5,
  scale: float = 64.0,
  guard: Guard = "linear",
  where: jax.Array | None = None,
) -> jax.Array:
  """Softmax over cosines with a margin on the angle to the right class.

  Cross-entropy of `scale * cos(theta_j)`, with `cos(theta_y + margin)` for the
  right class y (Deng et al., arXiv:1801.07698, eq. 3).

  `cos(theta + margin)` rises again beyond `theta = pi - margin`, so there the
  farther a wrong embedding is, the smaller its loss. Libraries guard it
  differently:

  * "linear": `cos(theta) - margin * sin(margin)` beyond it
    (pytorch-metric-learning; the authors' MXNet code).
  * "easy": no margin at all where `theta > pi / 2` (`easy_margin` of the
    authors' code), for training from scratch with a large margin.
  * "none": the formula of the paper as it is (insightface's PyTorch code, whose
    gradient moreover treats the change of the logit as a constant).

  Args:
    embeddings: `(B, D)` of any float dtype.
    proxies: `(C, D)`.
    labels: `(B,)` integers in [0, C); the loss of any other is 0.
    margin: in radians; pytorch-metric-learning takes degrees, 28.6.
    scale: s.
    guard: see above.
    where: `(B,)` mask, nonzero = count.

  Returns:
    `(B,)` float32.

  Raises:
    ValueError: unknown guard, or shapes that do not fit.

  >>> eye = jnp.eye(2)
  >>> losses = arcface_loss(eye, eye, jnp.array([0, 0]), margin=0.5, scale=1.0)
  >>> [round(float(loss), 4) for loss in losses]
  [0.3478, 1.6846]
  """
  if guard not in ("linear", "easy", "none"):
    raise ValueError(f"guard must be linear, easy or none; got {guard!r}")

  margin = float(margin)

  def with_margin(cosine):
    # The derivative of the sine is infinite at +-1, which rounding reaches.
    cosine = jnp.clip(cosine, -1.0 + 1e-7, 1.0 - 1e-7)
    sine = jnp.sqrt(1.0 - cosine**2)
    shifted = cosine * math.cos(margin) - sine * math.sin(margin)
    if guard == "none":
      return shifted
    if guard == "easy":
      return jnp.where(cosine > 0, shifted, cosine)
    linear = cosine - margin * math.sin(margin)
    return jnp.where(cosine > math.cos(math.pi - margin), shifted, linear)

  return _margin_softmax(embeddings, proxies, labels, with_margin, scale, where)


def cosface_loss(
  embeddings: jax.Array,
  proxies: jax.Array,
  labels: jax.Array,
  *,
  margin: float = 0.35,
  scale: float = 64.0,
  where: jax.Array | None = None,
) -> jax.Array:
  """Softmax over cosines with a margin on the cosine of the right class.

  Cross-entropy of `scale * cos(theta_j)`, with `cos(theta_y) - margin` for
  the right class y (Wang et al., arXiv:1801.09414, eq. 4; "AM-softmax").
  Equals pytorch-metric-learning's `CosFaceLoss`. `margin=0.0` is the
  normalised softmax.

  Args:
    embeddings: `(B, D)` of any float dtype.
    proxies: `(C, D)`.
    labels: `(B,)` integers in [0, C); the loss of any other is 0.
    margin: in units of the cosine.
    scale: s.
    where: `(B,)` mask, nonzero = count.

  Returns:
    `(B,)` float32.

  Raises:
    ValueError: shapes that do not fit.

  >>> eye = jnp.eye(2)
  >>> losses = cosface_loss(eye, eye, jnp.array([0, 0]), margin=0.5, scale=1.0)
  >>> [round(float(loss), 4) for loss in losses]
  [0.4741, 1.7014]
  """
  margin = jnp.float32(margin)
  return _margin_softmax(
    embeddings, proxies, labels, lambda cosine: cosine - margin, scale, where
  )


def proxy_anchor_loss(
  embeddings: jax.Array,
  proxies: jax.Array,
  labels: jax.Array,
  *,
  margin: float = 0.1,
  alpha: float = 32.0,
  where: jax.Array | None = None,
) -> WeightedLoss:
  """Proxies as anchors, with the examples of the batch as their pairs.

  With cosines s between example x and proxy p, P+ the proxies of the classes
  in the batch (Kim et al., arXiv:2003.13911):

  `1/|P+| sum_{P+} log(1 + sum_{x of p} exp(-alpha (s(x, p) - margin)))
  + 1/|P| sum_P log(1 + sum_{x not of p} exp(alpha (s(x, p) + margin)))`

  Equals the authors' code and pytorch-metric-learning's `ProxyAnchorLoss`.
  Like the losses of `in_batch` it needs the global batch.

  Args:
    embeddings: `(B, D)` of any float dtype.
    proxies: `(C, D)`.
    labels: `(B,)` integers in [0, C); rows of any other do not count.
    margin: delta.
    alpha: sharpness.
    where: `(B,)` mask, nonzero = count.

  Returns:
    Per *proxy*: values, the positive one scaled by `C / |P+|`, whose mean is
    the loss above, and weights 1; `(C,)` each.

  Raises:
    ValueError: shapes that do not fit.

  >>> eye = jnp.eye(2)
  >>> loss = proxy_anchor_loss(eye, eye, jnp.array([0, 1]), alpha=1.0)
  >>> round(float(loss.mean()), 4)  # log(1 + exp(-0.9)) + log(1 + exp(0.1))
  1.0856
  """
  labels, right = _right_class(embeddings, proxies, labels, where)
  num_classes = len(proxies)
  counted = (labels >= 0) & (labels < num_classes)
  if where is not None:
    counted &= jnp.asarray(where) != 0
  embeddings = zero_padding(embeddings, counted)
  cosines = pairwise_cosine_similarities(embeddings, proxies)
  positive, negative = right & counted[:, None], ~right & counted[:, None]
  alpha, margin = jnp.float32(alpha), jnp.float32(margin)
  pull = masked_logsumexp(alpha * (margin - cosines), positive, axis=0)
  push = masked_logsumexp(alpha * (margin + cosines), negative, axis=0)
  num_present = jnp.sum(positive.any(axis=0), dtype=jnp.float32)
  positive_scale = num_classes / jnp.maximum(num_present, 1)
  values = positive_scale * jax.nn.softplus(pull) + jax.nn.softplus(push)
  loss = WeightedLoss(values, jnp.ones_like(values))
  return keep_nan(loss, embeddings, proxies)


def _right_class(
  embeddings, proxies, labels, where
) -> tuple[jax.Array, jax.Array]:
  """(B,) labels of 32 bits, and (B, C) which class each of them is."""
  check_shapes(
    embeddings=(embeddings, "B D+"),
    proxies=(proxies, "C+ D"),
    labels=(labels, "B"),
    where=(where, "B"),
  )
  labels = jnp.asarray(to_classes(labels))
  return labels, labels[:, None] == jnp.arange(len(proxies))


def _margin_softmax(
  embeddings, proxies, labels, with_margin, scale, where
) -> jax.Array:
  """Cross-entropy of scaled cosines, changed for the right class only."""
  _, right = _right_class(embeddings, proxies, labels, where)
  cosines = pairwise_cosine_similarities(
    zero_padding(embeddings, where), proxies
  )
  logits = jnp.float32(scale) * jnp.where(right, with_margin(cosines), cosines)
  log_probs = jax.nn.log_softmax(logits, axis=1)
  losses = -jnp.sum(jnp.where(right, log_probs, 0.0), axis=1)
  return zero_padding(losses, where)
