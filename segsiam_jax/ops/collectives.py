"""The one collective that losses over a whole batch need under `pmap`."""

from typing import TypeVar

import jax

PyTree = TypeVar("PyTree")


def all_gather_batch(tree: PyTree, axis_name: str | None) -> PyTree:
  """Concatenates the batches of all devices along their first axis.

  A loss that compares examples, such as `batch_triplet_loss`, must see the
  whole batch. Under `jit` over a mesh it does, and `axis_name` is None. Under
  `pmap` each device holds a slice: gather the embeddings, labels and masks,
  and let every device compute the same global loss:

      embeddings, labels, mask = all_gather_batch(
        (embeddings, batch["label"], batch["mask"]), axis_name)
      loss = batch_triplet_loss(embeddings, labels, where=mask).mean()

  The mean over devices (`pmean`) of the gradients of that loss is its exact
  gradient: the transpose of the gather sums, for each slice, the cotangents
  of all N devices, and the mean divides by N. Rescale nothing, and
  stop no gradient.

  Args:
    tree: arrays `(B, ...)`.
    axis_name: name of the mapped axis; None returns `tree` as it is.

  Returns:
    Arrays `(N * B, ...)`, equal on all devices.

  >>> all_gather_batch((1, 2), None)
  (1, 2)
  """
  if axis_name is None:
    return tree
  return jax.lax.all_gather(tree, axis_name, axis=0, tiled=True)
