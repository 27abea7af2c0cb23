"""Weighted sums of segmentation losses, by name."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from segsiam_jax.losses import boundary, lovasz, overlap, segmentation
from segsiam_jax.losses._pixels import weigh
from segsiam_jax.ops.shapes import check_shapes

__all__ = ["SEGMENTATION_LOSSES", "combine", "weighted_sum"]

Loss = Callable[..., jax.Array]

SEGMENTATION_LOSSES: dict[str, Loss] = {
  name: getattr(module, name)
  for module in (segmentation, overlap, lovasz, boundary)
  for name in module.__all__
  if "logits" in inspect.signature(getattr(module, name)).parameters
}


def weighted_sum(
  values: Mapping[str, jax.Array], weights: Mapping[str, float]
) -> jax.Array:
  """The sum of losses, each times its weight.

  Args:
    values: losses by name, of one shape; at least one.
    weights: of these, and perhaps of others. An infinite loss with weight 0
      adds nothing.

  Returns:
    float32 of the losses' shape.

  Raises:
    ValueError: losses of different shapes.

  >>> values = {"dice": jnp.float32(0.5), "lovasz": jnp.float32(2.0)}
  >>> print(weighted_sum(values, {"dice": 2.0, "lovasz": 1.0, "focal": 3.0}))
  3.0
  """
  check_shapes(**{name: (value, "*S") for name, value in values.items()})
  weighted = (
    weigh(jnp.float32(weights[name]), jnp.asarray(value, jnp.float32))
    for name, value in values.items()
  )
  return sum(weighted, start=jnp.float32(0.0))


def combine(
  weights: Mapping[str, float],
  options: Mapping[str, Mapping[str, Any]] | None = None,
) -> Loss:
  """Weighted sum of segmentation losses.

  Args:
    weights: weight by name of the loss, see `SEGMENTATION_LOSSES`.
    options: keyword arguments by name of the loss, for that loss only.

  Returns:
    A loss `(logits, labels, **arguments) -> (B,)`, which gives the arguments
    (`where`, `ignore_label`, ...) to every loss.

  >>> import jax.numpy as jnp
  >>> loss = combine(
  ...   {"softmax_cross_entropy": 1.0, "dice_loss": 0.5},
  ...   options={"dice_loss": {"squared": True}})
  >>> logits = jnp.array([[[2.0, 0.0], [0.0, 2.0]]])
  >>> print(f"{loss(logits, jnp.array([[0, 1]]))[0]:.4f}")
  0.1349
  """
  options = {} if options is None else options
  if not weights:
    raise ValueError("weights: expected at least one loss")
  for name in (*weights, *options):
    if name not in SEGMENTATION_LOSSES:
      raise ValueError(
        f"there is no segmentation loss {name!r}; the names are "
        f"{', '.join(SEGMENTATION_LOSSES)}"
      )
  unused = set(options) - set(weights)
  if unused:
    raise ValueError(f"options for losses without a weight: {sorted(unused)}")

  def loss(logits: jax.Array, labels: jax.Array, **arguments) -> jax.Array:
    values = {
      name: SEGMENTATION_LOSSES[name](
        logits, labels, **{**arguments, **options.get(name, {})}
      )
      for name in weights
    }
    return weighted_sum(values, weights)

  return loss
