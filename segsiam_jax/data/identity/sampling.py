"""Which examples make a training batch: pairs, triplets, P x K, episodes.

A plan is random access: batch i is a function only of the seed and of i, of
indices of the *global* batch. So training resumes at any batch, and every
process reads its share of the same plan.

An element is a dictionary of (B,) int64 index arrays, one a branch: 'image',
and for pairs 'other', for triplets 'positive' and 'negative'. Exact copies of
an image are never made a pair, nor do they meet in an episode.
"""

import abc
import functools
import itertools
import sys
from typing import NamedTuple

import numpy as np

from segsiam_jax.data.identity.identities import Index
from segsiam_jax.errors import UserError

Plan = dict[str, np.ndarray]


@functools.lru_cache(maxsize=8)
def _permutation(seed: int, stream: int, epoch: int, size: int) -> np.ndarray:
  """Of an epoch; batches of one epoch ask for it again and again."""
  return np.random.default_rng((seed, stream, epoch)).permutation(size)


BRANCHES = {
  "examples": ("image",),
  "identities": ("image",),
  "episodes": ("image",),
  "pairs": ("image", "other"),
  "triplets": ("image", "positive", "negative"),
}


class Sampling(NamedTuple):
  """How batches are drawn.

  Attributes:
    kind: a key of `BRANCHES`.
    batch_size: rows of the global batch.
    seed: of all draws.
    same_ratio: of 'pairs': the share of same ones in every batch.
    per_identity: K of 'identities' (P x K), P being batch_size / K.
    ways: N of 'episodes'.
    shots: K of 'episodes': the first K of an identity's rows.
    queries: of 'episodes', of each identity.
    within_group: negatives, or the identities of a batch or episode, come
      from one group as far as there are enough.
    by_drawer: of 'episodes' with one shot and one query: one person draws what
      is known, another what is asked.
  """

  kind: str
  batch_size: int
  seed: int = 0
  same_ratio: float = 0.5
  per_identity: int = 4
  ways: int = 5
  shots: int = 1
  queries: int = 3
  within_group: bool = False
  by_drawer: bool = False


class BatchPlan(abc.ABC):
  """An endless sequence of batches; `plan[i]` is batch i."""

  def __init__(self, index: Index, sampling: Sampling):
    """Keeps what every kind of batch needs.

    Args:
      index: of the training source.
      sampling: how batches are drawn.
    """
    self._index, self._sampling = index, sampling
    # Mined negatives (n, k), see `hard_negatives`; None for random ones.
    self._negatives: np.ndarray | None = None

  def __len__(self) -> int:
    return sys.maxsize

  def __getitem__(self, number: int) -> Plan:
    rng = np.random.default_rng((self._sampling.seed, 1, number))
    return {
      name: np.asarray(indices, np.int64)
      for name, indices in self._draw(number, rng).items()
    }

  def use_negatives(self, negatives: np.ndarray | None) -> None:
    """Sets mined negatives for all batches that are planned from now on.

    Args:
      negatives: (n, k) int indices of the hardest examples of other
        identities for each example, -1 where there are fewer; None for random
        negatives.
    """
    self._negatives = negatives

  @abc.abstractmethod
  def _draw(self, number: int, rng: np.random.Generator) -> Plan:
    """The plan of a batch."""

  def _shuffled(self, epoch: int, size: int) -> np.ndarray:
    return _permutation(self._sampling.seed, 2, epoch, size)

  def _anchors(self, number: int) -> np.ndarray:
    """(B,) places 0..n-1, each once an epoch, of what `_able` lists."""
    size, batch = len(self._able), self._sampling.batch_size
    places = np.arange(number * batch, (number + 1) * batch)
    epochs, places = np.divmod(places, size)
    return np.array(
      [
        self._able[self._shuffled(epoch, size)[place]]
        for epoch, place in zip(epochs.tolist(), places, strict=True)
      ]
    )

  @functools.cached_property
  def _able(self) -> np.ndarray:
    """The examples that an epoch goes through: all that have a positive."""
    return np.flatnonzero(
      np.isin(self._index.labels, self._index.with_a_pair())
    )

  def _negative(self, example: int, rng: np.random.Generator) -> int:
    if self._negatives is not None:
      mined = self._negatives[example]
      mined = mined[mined >= 0]
      if len(mined):
        return int(rng.choice(mined))
    within = self._sampling.within_group
    found = self._index.draw_other_identity(example, rng, within)
    if found is None and within:
      found = self._index.draw_other_identity(example, rng)
    if found is None:
      raise UserError(
        "the training split has only one identity; at least two are needed"
      )
    return found


class ExamplePlan(BatchPlan):
  """Every example once an epoch, in random order."""

  def _draw(self, number: int, rng: np.random.Generator) -> Plan:
    del rng
    return {"image": self._anchors(number)}

  @functools.cached_property
  def _able(self) -> np.ndarray:
    return np.arange(len(self._index.labels))


class PairPlan(BatchPlan):
  """Each example once an epoch, with one of its identity or of another."""

  def _draw(self, number: int, rng: np.random.Generator) -> Plan:
    sampling = self._sampling
    first = self._anchors(number)
    num_same = round(sampling.same_ratio * len(first))
    same = rng.permutation(len(first)) < num_same
    other = [
      self._index.draw_other_image(example, rng)
      if is_same
      else self._negative(example, rng)
      for example, is_same in zip(first.tolist(), same, strict=True)
    ]
    return {"image": first, "other": other}


class TripletPlan(BatchPlan):
  """Each example once an epoch as anchor."""

  def _draw(self, number: int, rng: np.random.Generator) -> Plan:
    anchors = self._anchors(number)
    return {
      "image": anchors,
      "positive": [
        self._index.draw_other_image(example, rng)
        for example in anchors.tolist()
      ],
      "negative": [
        self._negative(example, rng) for example in anchors.tolist()
      ],
    }


class IdentityPlan(BatchPlan):
  """P identities with K examples each, one identity after the other.

  An identity comes once an epoch. Where one has fewer than K examples, they
  are repeated; losses know the copies by their content.
  """

  def __init__(self, index: Index, sampling: Sampling):
    super().__init__(index, sampling)
    self._identities = index.with_a_pair()
    self._each = sampling.per_identity
    self._count = sampling.batch_size // self._each
    self._check("per_identity")

  def _check(self, field: str) -> None:
    if len(self._identities) < self._count:
      raise UserError(
        f"config.train.batch_size = {self._sampling.batch_size} with "
        f"config.batch.{field} = {self._each} needs {self._count} identities "
        f"a batch, and the training split has {len(self._identities)}; make "
        "the batch smaller"
      )

  def _draw(self, number: int, rng: np.random.Generator) -> Plan:
    identities = self._choose(number, self._count, rng)
    rows = [self._examples(i, self._each, rng) for i in identities.tolist()]
    return {"image": np.concatenate(rows)}

  def _choose(
    self, number: int, count: int, rng: np.random.Generator
  ) -> np.ndarray:
    """(count,) identities of batch or episode `number`."""
    epoch, part = divmod(number, len(self._identities) // count)
    order = self._ordered(epoch)
    chosen = order[part * count : (part + 1) * count]
    if self._negatives is None:
      return chosen
    return self._confusable(chosen, rng)

  def _ordered(self, epoch: int) -> np.ndarray:
    """The identities of an epoch; neighbours share a group if they are to."""
    shuffled = self._identities[self._shuffled(epoch, len(self._identities))]
    if not self._sampling.within_group:
      return shuffled
    rank = _permutation(
      self._sampling.seed, 3, epoch, len(self._index.group_names)
    )
    group = rank[self._group_of[shuffled]]
    ordered = shuffled[np.argsort(group, kind="stable")]
    # Turned, so that a batch does not always begin where a group does.
    return np.roll(ordered, rank[0] + epoch)

  @functools.cached_property
  def _group_of(self) -> np.ndarray:
    """(identities,) place of the group of each identity's first example."""
    groups = np.zeros(self._index.num_identities, np.int64)
    for identity in self._identities.tolist():
      first = self._index.members(identity)[0]
      groups[identity] = np.searchsorted(
        self._index.group_names, self._index.groups[first]
      )
    return groups

  def _confusable(
    self, chosen: np.ndarray, rng: np.random.Generator
  ) -> np.ndarray:
    """Half of the identities, and for each one that it is taken for."""
    taken: dict[int, None] = {}
    for identity in chosen.tolist():
      if len(taken) >= len(chosen) - 1:
        break
      taken[identity] = None
      example = int(rng.choice(self._index.members(identity)))
      mined = self._negatives[example]
      others = self._index.labels[mined[mined >= 0]]
      others = [i for i in others.tolist() if i not in taken]
      if others:
        taken[others[int(rng.integers(len(others)))]] = None
    for identity in chosen.tolist():
      if len(taken) == len(chosen):
        break
      taken[identity] = None
    return np.array(list(taken))

  def _examples(
    self, identity: int, count: int, rng: np.random.Generator
  ) -> np.ndarray:
    """(count,) examples, distinct as far as there are enough."""
    members = rng.permutation(self._index.members(identity))
    # Copies last: they come only where nothing else is left.
    _, first = np.unique(self._index.contents[members], return_index=True)
    copies = np.ones(len(members), bool)
    copies[first] = False
    members = members[np.argsort(copies, kind="stable")]
    return np.resize(members, count)


class EpisodePlan(IdentityPlan):
  """N-way K-shot episodes, one after the other.

  Within an episode the rows of an identity are together, its K support
  examples first, so that (episodes, N, K + queries) is a batch's shape.
  """

  def __init__(self, index: Index, sampling: Sampling):
    BatchPlan.__init__(self, index, sampling)
    self._each = sampling.shots + sampling.queries
    self._count = sampling.ways
    self._identities = index.with_distinct(self._each)
    self._episodes = sampling.batch_size // (self._count * self._each)
    if len(self._identities) < self._count:
      raise UserError(
        f"config.batch.ways = {self._count} identities of config.batch.shots + "
        f"config.batch.queries = {self._each} images each, copies not counted, "
        f"are needed, and the training split has {len(self._identities)} such; "
        "ask for fewer"
      )

  def _examples(
    self, identity: int, count: int, rng: np.random.Generator
  ) -> np.ndarray:
    return rng.permutation(self._index.distinct(identity))[:count]

  def _draw(self, number: int, rng: np.random.Generator) -> Plan:
    rows = []
    for episode in range(self._episodes):
      chosen = self._choose(number * self._episodes + episode, self._count, rng)
      rows += [self._examples(i, self._each, rng) for i in chosen.tolist()]
    return {"image": np.concatenate(rows)}


class DrawerEpisodePlan(BatchPlan):
  """One-shot episodes as Lake's trials: one person's drawings and another's.

  Rows are as those of `EpisodePlan`.
  """

  def __init__(self, index: Index, sampling: Sampling):
    super().__init__(index, sampling)
    ways = sampling.ways
    if index.drawers is None:
      raise UserError(
        "config.batch.by_drawer = True: this data set does not say who made "
        "an image"
      )
    # Pairs of people of each group, and what both drew.
    self._pairs = []
    for drawn in index.by_drawer(ways, sampling.within_group):
      shared = [
        (one, other, both)
        for one, other in itertools.permutations(drawn.values(), 2)
        if len(both := index.drawn_by_both(one, other)) >= ways
      ]
      if shared:
        self._pairs.append(shared)
    if not self._pairs:
      raise UserError(
        f"config.batch.ways = {ways}: no two people drew so many identities of "
        "one group in the training split; ask for fewer"
      )

  def _draw(self, number: int, rng: np.random.Generator) -> Plan:
    del number
    sampling, rows = self._sampling, []
    for _ in range(sampling.batch_size // (2 * sampling.ways)):
      pairs = self._pairs[rng.integers(len(self._pairs))]
      one, other, both = pairs[rng.integers(len(pairs))]
      for identity in rng.choice(both, sampling.ways, replace=False).tolist():
        rows += [one[identity], other[identity]]
    return {"image": np.array(rows)}


PLANS: dict[str, type[BatchPlan]] = {
  "examples": ExamplePlan,
  "identities": IdentityPlan,
  "episodes": EpisodePlan,
  "pairs": PairPlan,
  "triplets": TripletPlan,
}


def make_plan(index: Index, sampling: Sampling) -> BatchPlan:
  """The plan that `sampling` describes."""
  if sampling.kind == "episodes" and sampling.by_drawer:
    return DrawerEpisodePlan(index, sampling)
  return PLANS[sampling.kind](index, sampling)
