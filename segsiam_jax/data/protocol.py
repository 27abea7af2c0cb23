"""What a Siamese network is evaluated on: published, or planned by seed."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from segsiam_jax.data.identities import IdentitySource, Index, Pairs, Trials
from segsiam_jax.data.trial_plans import (
  drawers_trials,
  random_pairs,
  random_trials,
)


class Protocol(NamedTuple):
  """Of one evaluation split.

  Attributes:
    labels: (n,) int identity of each example.
    contents: (n,) int, equal for exact copies.
    pairs: to verify; None where there are none of a kind.
    trials: by name, such as '5_way_1_shot'.
    independent: whether every trial is another draw, as published ones are
      taken to be; random episodes share their examples.
  """

  labels: np.ndarray
  contents: np.ndarray
  pairs: Pairs | None
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
  """
  index = Index.of(source)
  plan = {"seed": seed, "within_group": within_group}
  chosen = source.pairs
  if chosen is None:
    chosen = random_pairs(index, pairs, folds=folds, **plan)
  if chosen.same.all() or not chosen.same.any():
    chosen = None
  trials: list[Trials | None] = [source.episodes]
  if source.episodes is None:
    # As many identities as there are to choose from, at most.
    most = index.num_identities
    if within_group:
      most = max(len(index.identities_of_group(g)) for g in index.group_names)
    trials = [
      drawers_trials(index, ways=min(ways, most), episodes=episodes, **plan)
      if shot == 1 and source.drawers is not None
      else random_trials(
        index,
        ways=min(ways, most),
        shots=shot,
        queries=queries,
        episodes=episodes,
        **plan,
      )
      for shot in shots
    ]
  named = {}
  for kind in trials:
    if kind is not None:
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
