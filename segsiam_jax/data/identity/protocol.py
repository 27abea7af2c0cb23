"""What a Siamese network is evaluated on: published, or planned by seed."""

import logging
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from segsiam_jax.data.identity.identities import (
  IdentitySource,
  Index,
  Pairs,
  Trials,
)
from segsiam_jax.data.identity.trial_plans import (
  drawers_trials,
  random_pairs,
  random_trials,
)
from segsiam_jax.errors import UserError

_logger = logging.getLogger(__name__)


class Protocol(NamedTuple):
  """Of one evaluation split.

  Attributes:
    labels: (n,) int identity of each example.
    contents: (n,) int, equal for exact copies.
    pairs: to verify, same and different ones in every fold.
    trials: by name, such as '5_way_1_shot'.
    independent: whether every trial is another draw, as published ones are
      taken to be; random episodes share their examples.
  """

  labels: np.ndarray
  contents: np.ndarray
  pairs: Pairs
  trials: Mapping[str, Trials]
  independent: bool


class Evaluated(IdentitySource):
  """A source with its protocol."""

  def __init__(self, source: IdentitySource, protocol: Protocol):
    self._source = source
    self.protocol = protocol
    self.class_names = source.class_names
    self.ids = getattr(source, "ids", ())
    self.labels, self.groups = source.labels, source.groups
    self.contents, self.drawers = source.contents, source.drawers
    self.pairs, self.episodes = source.pairs, source.episodes

  def __len__(self) -> int:
    return len(self._source)

  def __getitem__(self, index: int) -> dict[str, Any]:
    return self._source[index]

  def keys(self) -> list[str]:
    """See `sources.Source`."""
    return self._source.keys()


def make_protocol(
  source: IdentitySource,
  *,
  pairs: int,
  folds: int,
  ways: int,
  shots: tuple[int, ...],
  queries: int,
  episodes: int,
  within_group: bool,
  seed: int = 0,
  where: str = "the evaluation split",
) -> Protocol:
  """The published pairs and trials of a source, or random ones.

  Where a source knows who made an example, and one shot is asked for, trials
  are of Lake's form (see `trial_plans.drawers_trials`).

  Args:
    source: of the evaluation split.
    pairs: number of random pairs.
    folds: of random pairs.
    ways: N of random episodes; fewer where there are fewer identities.
    shots: K of random episodes, one kind of trial each.
    queries: of each identity of a random episode.
    episodes: number of random episodes of each kind.
    within_group: see `trial_plans.random_pairs` and `random_trials`.
    seed: of what is random.
    where: the split's name, for messages.

  Raises:
    UserError: a kind of pairs is missing, in a fold or altogether.
  """
  index = Index.of(source)
  plan = {"seed": seed, "within_group": within_group}
  chosen = source.pairs
  if chosen is None:
    chosen = random_pairs(index, pairs, folds=folds, **plan)
    _check_random(chosen, index, within_group, where)
    if (made := int(chosen.fold.max()) + 1) < folds:
      _logger.warning(
        "%s: too few pairs for config.eval.folds = %d; they are scored in %d",
        where,
        folds,
        made,
      )
  else:
    _check_published(chosen, where)
  trials: list[Trials] = [source.episodes]
  if source.episodes is None:
    trials = []
    # As many identities as there are to choose from, at most.
    most = index.num_identities
    if within_group:
      most = max(len(index.identities_of_group(g)) for g in index.group_names)
    of_all = plan | {"ways": min(ways, most), "episodes": episodes}
    for shot in shots:
      if shot == 1 and source.drawers is not None:
        planned = drawers_trials(index, **of_all)
      else:
        planned = random_trials(index, shots=shot, queries=queries, **of_all)
      if planned is None:
        _logger.warning(
          "%s: no %d-way %d-shot trials: too few identities have enough images "
          "that are not copies",
          where,
          of_all["ways"],
          shot,
        )
      else:
        trials.append(planned)
  named = {}
  for kind in trials:
    _, ways_of_it, shots_of_it = kind.support.shape
    if ways_of_it > 1:
      named[f"{ways_of_it}_way_{shots_of_it}_shot"] = kind
  return Protocol(
    index.labels,
    index.contents,
    chosen,
    named,
    independent=source.episodes is not None,
  )


def _check_random(
  pairs: Pairs, index: Index, within_group: bool, where: str
) -> None:
  """Raises `UserError` unless there are pairs of both kinds."""
  if not pairs.same.any():
    raise UserError(
      f"{where}: no identity has two images (copies not counted), so "
      "there are no same pairs to verify; add images, or choose another "
      "config.data.eval_split"
    )
  if pairs.same.all():
    reason = "there is only one identity"
    if np.count_nonzero(index.counts) > 1:
      reason = "all images of other identities are copies"
    if within_group and len(index.group_names) > 1:
      reason = "no group has two identities (config.eval.within_group = True)"
    raise UserError(
      f"{where}: {reason}, so there are no different pairs to verify; add "
      "identities, or choose another config.data.eval_split"
    )


def _check_published(pairs: Pairs, where: str) -> None:
  """Raises `UserError` unless every fold has pairs of both kinds."""
  folds = np.unique(pairs.fold)
  for fold in folds.tolist():
    same = pairs.same[pairs.fold == fold]
    if same.all() or not same.any():
      of = f" of fold {fold}" if len(folds) > 1 else ""
      kind, other = (
        ("same", "different") if same.all() else ("different", "same")
      )
      raise UserError(
        f"{where}: all {len(same)} pairs{of} are {kind} ones; verification "
        f"needs {other} ones, too"
      )
