"""Refusals of splits by their identities: too few images, or in both."""

from collections.abc import Sequence

import numpy as np

from segsiam_jax.data.identity.identities import IdentitySource, Index
from segsiam_jax.errors import UserError


def check_identities(
  source: IdentitySource, where: str, singles: bool = False
) -> None:
  """Raises `UserError` where identities cannot be learned from.

  Args:
    source: of a training split.
    where: its name, for the message.
    singles: whether identities may have one image; they only differ from
      others, such as forgeries do.
  """
  index = Index.of(source)
  empty = np.flatnonzero(index.counts == 0)
  if len(empty):
    raise UserError(
      f"{where}: {_named(source, empty)} no images; add some, or take the "
      "class out"
    )
  paired = np.zeros(index.num_identities, bool)
  paired[index.with_a_pair()] = True
  alone = np.flatnonzero(~paired)
  if len(alone) and not (singles and paired.any()):
    raise UserError(
      f"{where}: {_named(source, alone)} only one image (copies not counted), "
      "which makes no pair; add images, or leave such identities out with "
      "--config.data.singles=drop"
    )
  if index.num_identities < 2:
    raise UserError(f"{where}: only one identity; at least two are needed")


def check_disjoint(train: IdentitySource, test: IdentitySource) -> None:
  """Raises `UserError` if an identity is in both splits."""
  shared = sorted(
    {train.class_names[label] for label in np.unique(train.labels)}
    & {test.class_names[label] for label in np.unique(test.labels)}
  )
  if shared:
    raise UserError(
      "config.data.train_split and config.data.eval_split share identities: "
      f"{_listed(shared)} ({len(shared)} in all); split by identity, or, if "
      "the evaluation is meant to be of known identities, set "
      "--config.data.shared_identities=True"
    )


def _named(source: IdentitySource, identities: np.ndarray) -> str:
  names = [source.class_names[identity] for identity in identities]
  verb = "has" if len(names) == 1 else "have"
  noun = "identity" if len(names) == 1 else f"{len(names)} identities"
  return f"{noun} {_listed(names)} {verb}"


def _listed(names: Sequence[str]) -> str:
  return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
