"""Sources of identities, and their index.

A source for Siamese networks tells who or what every example shows before any
image is read. So pairs and trials (`data.trial_plans`) and batches
(`data.sampling`) are planned as indices, the same on every process.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np


class Pairs(NamedTuple):
  """Pairs to be verified; (P,) arrays.

  Attributes:
    first: int64 index of an example in its source.
    second: likewise.
    same: bool, both have one identity.
    fold: int64 fold of the protocol; all 0 where it has none.
    kind: int64 index into `kinds`.
    kinds: names of the sorts of pairs that are reported apart, such as
      ('genuine', 'random', 'skilled'); () for one sort.
  """

  first: np.ndarray
  second: np.ndarray
  same: np.ndarray
  fold: np.ndarray
  kind: np.ndarray
  kinds: tuple[str, ...] = ()


class Trials(NamedTuple):
  """N-way K-shot trials: which of N identities does a query show?

  Attributes:
    query: (T,) int64 index of an example in its source.
    support: (T, N, K) int64 indices: K examples of each of N identities.
    answer: (T,) int64 in [0, N), the query's identity.
    episode: (T,) int64, equal for trials that share a support set, such as
      the twenty of one of Lake's runs; intervals are computed over episodes.
  """

  query: np.ndarray
  support: np.ndarray
  answer: np.ndarray
  episode: np.ndarray


class IdentitySource(Protocol):
  """Random-access examples of identities. Inherit to get the defaults.

  `source[i]` is a dictionary:

      image: (H, W, C) uint8
      label: int identity, an index into class_names
      group: int, what the identity belongs to (alphabet, family, clinic)
      id: str that people find the example by, such as its path

  The arrays below are known without decoding an image.

  Attributes:
    class_names: name of each identity. Two splits of a data set name the same
      identity alike: this is how a shared one is found.
    labels: (n,) int identity of each example.
    groups: (n,) int group of each example; all 0 where there are none.
    contents: (n,) int, equal for examples whose images are equal to the last
      pixel (exact duplicates), or None if no two are. They are never a pair.
    drawers: (n,) int, who made each example (drew, photographed), or None.
      Trials then show one person's examples of another's.
    pairs: published pairs, or None.
    episodes: published trials, or None.
  """

  class_names: tuple[str, ...]
  labels: np.ndarray
  groups: np.ndarray
  contents: np.ndarray | None = None
  drawers: np.ndarray | None = None
  pairs: Pairs | None = None
  episodes: Trials | None = None

  def __len__(self) -> int: ...

  def __getitem__(self, index: int) -> dict[str, Any]: ...

  def keys(self) -> list[str]:
    """See `sources.Source`."""
    ...


class Index:
  """Who is where: the examples of every identity and of every group.

  Attributes:
    labels: (n,) int64.
    groups: (n,) int64.
    contents: (n,) int64; equal for exact duplicates.
    num_identities: number of identities, those without examples included.
    drawers: (n,) int64, who made each example, or None.
  """

  def __init__(
    self,
    labels: np.ndarray,
    groups: np.ndarray | None = None,
    contents: np.ndarray | None = None,
    num_identities: int | None = None,
    drawers: np.ndarray | None = None,
  ):
    """Sorts the examples by identity.

    Args:
      labels: (n,) int.
      groups: (n,) int, or None for one group.
      contents: (n,) int, or None for no duplicates.
      num_identities: None for the largest label + 1.
      drawers: (n,) int, or None where it is not known.
    """
    self.drawers = None if drawers is None else np.asarray(drawers, np.int64)
    self.labels = np.asarray(labels, np.int64)
    size = len(self.labels)
    self.groups = (
      np.zeros(size, np.int64)
      if groups is None
      else np.asarray(groups, np.int64)
    )
    self.contents = (
      np.arange(size) if contents is None else np.asarray(contents, np.int64)
    )
    if num_identities is None:
      num_identities = int(self.labels.max(initial=-1)) + 1
    self.num_identities = num_identities
    self.counts = np.bincount(self.labels, minlength=num_identities)
    self._nonempty = np.flatnonzero(self.counts)
    self._clear, self._is_first = _without_copies(self.labels, self.contents)
    self._order = np.argsort(self.labels, kind="stable")
    self._starts = np.concatenate([[0], np.cumsum(self.counts)])
    pairs = np.unique(np.stack([self.groups, self.labels]), axis=1)
    self._group_names, starts = np.unique(pairs[0], return_index=True)
    self._in_group = np.split(pairs[1], starts[1:])

  @classmethod
  def of(cls, source: IdentitySource) -> "Index":
    """The index of a source."""
    return cls(
      source.labels,
      source.groups,
      source.contents,
      len(source.class_names),
      source.drawers,
    )

  def members(self, identity: int) -> np.ndarray:
    """(count,) the examples of an identity."""
    return self._order[self._starts[identity] : self._starts[identity + 1]]

  def distinct(self, identity: int) -> np.ndarray:
    """Its examples without copies, nor images that other identities have, too.

    So no two examples of a trial are equal, and each has one answer.
    """
    members = self.members(identity)
    return members[self._is_first[members]]

  def with_distinct(self, count: int) -> np.ndarray:
    """The identities with at least so many `distinct` examples, ascending."""
    counts = np.bincount(
      self.labels[self._is_first], minlength=self.num_identities
    )
    return np.flatnonzero(counts >= count)

  @property
  def group_names(self) -> np.ndarray:
    """(G,) the values of `groups` that occur."""
    return self._group_names

  def identities_of_group(self, group: int) -> np.ndarray:
    """The identities with an example in a group, ascending."""
    return self._in_group[np.searchsorted(self._group_names, group)]

  def with_a_pair(self) -> np.ndarray:
    """The identities with two examples that are not duplicates, ascending."""
    distinct = np.unique(np.stack([self.labels, self.contents]), axis=1)[0]
    counts = np.bincount(distinct, minlength=self.num_identities)
    return np.flatnonzero(counts >= 2)

  def by_drawer(
    self, ways: int, within_group: bool
  ) -> list[dict[int, dict[int, int]]]:
    """What each person drew: an example of each identity, by drawer.

    Images that several identities have are left out: they have no one answer.

    Args:
      ways: drawers of fewer identities are left out, and groups of fewer than
        two such drawers.
      within_group: whether groups are apart; else there is one.

    Returns:
      Of each group, {drawer: {identity: example}}.
    """
    pools = []
    for group in self.group_names if within_group else [None]:
      rows = np.flatnonzero(self._clear)
      if group is not None:
        rows = rows[self.groups[rows] == group]
      drawn = {}
      for who in np.unique(self.drawers[rows]).tolist():
        mine = rows[self.drawers[rows] == who]
        of_identity = zip(
          self.labels[mine].tolist(), mine.tolist(), strict=True
        )
        drawn[who] = dict(of_identity)
      drawn = {who: mine for who, mine in drawn.items() if len(mine) >= ways}
      if len(drawn) >= 2:
        pools.append(drawn)
    return pools

  def drawn_by_both(
    self, one: Mapping[int, int], other: Mapping[int, int]
  ) -> list[int]:
    """Identities of which two people's examples are not copies, ascending.

    Args:
      one: identity -> example, of one person, see `by_drawer`.
      other: of another.
    """
    return [
      identity
      for identity in sorted(one.keys() & other.keys())
      if self.contents[one[identity]] != self.contents[other[identity]]
    ]

  def draw_other_image(
    self, example: int, rng: np.random.Generator
  ) -> int | None:
    """A random image of the same identity that is not a copy of it, or None."""
    members = self.members(self.labels[example])
    members = members[self.contents[members] != self.contents[example]]
    return int(rng.choice(members)) if len(members) else None

  def draw_other_identity(
    self, example: int, rng: np.random.Generator, within_group: bool = False
  ) -> int | None:
    """A random example of another identity, or None.

    Args:
      example: whose identity is left out.
      rng: draws an identity first, then one of its examples.
      within_group: only of identities in the example's group, and only their
        examples there.
    """
    own = self.labels[example]
    identities = self._nonempty
    if within_group:
      identities = self.identities_of_group(self.groups[example])
    if len(identities) < 2:
      return None
    # The other identities, without a copy of them all: `own` is skipped.
    place = int(np.searchsorted(identities, own))
    drawn = int(rng.integers(len(identities) - 1))
    identity = identities[drawn + (drawn >= place)]
    members = self.members(identity)
    allowed = self.contents[members] != self.contents[example]
    if within_group:
      allowed &= self.groups[members] == self.groups[example]
    members = members[allowed]
    return int(rng.choice(members)) if len(members) else None


def _without_copies(
  labels: np.ndarray, contents: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """(n,) bool: whose content one identity alone has; the first such of each."""
  pairs = np.unique(np.stack([contents, labels]), axis=1)
  names, counts = np.unique(pairs[0], return_counts=True)
  clear = np.isin(contents, names[counts == 1])
  is_first = np.zeros(len(labels), bool)
  is_first[np.unique(contents, return_index=True)[1]] = True
  return clear, clear & is_first


def digest(content: bytes) -> bytes:
  """16 bytes, which for all purposes are equal only for equal content."""
  return hashlib.blake2b(content, digest_size=16).digest()


def number_equals(items: Iterable[bytes]) -> np.ndarray:
  """(n,) int32, equal for equal items and numbered as they come.

  >>> number_equals([b"x", b"y", b"x"]).tolist()
  [0, 1, 0]
  """
  numbers: dict[bytes, int] = {}
  return np.array(
    [numbers.setdefault(item, len(numbers)) for item in items], np.int32
  )


class Subset(IdentitySource):
  """Some examples of a source; identities are renumbered, without gaps."""

  def __init__(self, source: IdentitySource, indices: Sequence[int]):
    """Takes the examples in the order given.

    Args:
      source: published pairs and trials of it are dropped.
      indices: (m,) of the examples.
    """
    self._source = source
    self.indices = np.asarray(indices, np.int64)
    kept, self.labels = np.unique(
      np.asarray(source.labels)[self.indices], return_inverse=True
    )
    self.class_names = tuple(source.class_names[label] for label in kept)
    ids = getattr(source, "ids", ())
    self.ids = tuple(ids[index] for index in self.indices) if ids else ()
    self.groups = np.asarray(source.groups)[self.indices]
    if source.contents is not None:
      self.contents = np.asarray(source.contents)[self.indices]
    if source.drawers is not None:
      self.drawers = np.asarray(source.drawers)[self.indices]

  def __len__(self) -> int:
    return len(self.indices)

  def __getitem__(self, index: int) -> dict[str, Any]:
    example = self._source[int(self.indices[index])]
    return example | {"label": int(self.labels[index])}

  def keys(self) -> list[str]:
    """See `sources.Source`."""
    keys = self._source.keys()
    return [keys[index] for index in self.indices]


def without_singles(source: IdentitySource) -> IdentitySource:
  """The examples whose identity has two images that are not copies."""
  index = Index.of(source)
  keep = np.isin(index.labels, index.with_a_pair())
  if keep.all():
    return source
  return Subset(source, np.flatnonzero(keep))
