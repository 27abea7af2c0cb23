"""Weighted sums of segmentation losses, by name."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from segsiam_jax.losses import boundary, lovasz, overlap, segmentation
from segsiam_jax.losses.pixels import weigh

__all__ = ["SEGMENTATION_LOSSES", "combine"]

Loss = Callable[..., jax.Array]

SEGMENTATION_LOSSES: dict[str, Loss] = {
  name: getattr(module, name)
  for module in (segmentation, overlap, lovasz, boundary)
  for name in module.__all__
  if "logits" in inspect.signature(getattr(module, name)).parameters
}


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
    raise ValueError("weights name no loss")
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
    weighted = (
      weigh(
        jnp.float32(weight),
        SEGMENTATION_LOSSES[name](
          logits, labels, **{**arguments, **options.get(name, {})}
        ),
      )
      for name, weight in weights.items()
    )
    return sum(weighted, start=jnp.float32(0.0))

  return loss
