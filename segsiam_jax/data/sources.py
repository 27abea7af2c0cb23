"""Random-access sources of canonical examples.

A source has `len()`, yields one canonical example an index, and knows its
classes. It never shuffles, batches or resizes.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from segsiam_jax.errors import UserError


class Source(Protocol):
  """What the pipeline reads from.

  Where examples have names, `ids` are these: a run that resumes compares them.
  """

  class_names: tuple[str, ...]

  def __len__(self) -> int: ...

  def __getitem__(self, index: int) -> dict[str, Any]: ...

  def keys(self) -> list[str]:
    """What tells each example from all others, whatever split it is read by."""
    ...


def ids_of(source: Any, indices: Sequence[int]) -> tuple[str, ...]:
  """Names of some examples of a source; () where they have none."""
  ids = getattr(source, "ids", ())
  return tuple(ids[int(index)] for index in indices) if ids else ()


def check_overlap(train: Source, test: Source) -> None:
  """Raises `UserError` if an example is in both splits."""
  shared = sorted(set(train.keys()) & set(test.keys()))
  if shared:
    raise UserError(
      f"config.data.train_split and config.data.eval_split share "
      f"{len(shared)} of {len(test)} evaluation examples, such as {shared[0]}; "
      "choose splits that share none, such as 'train[:80%]' and 'train[80%:]', "
      "or, if the evaluation is meant to be of what was trained on, set "
      "--config.data.allow_overlap=True"
    )
