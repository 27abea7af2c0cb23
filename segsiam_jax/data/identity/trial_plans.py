"""Random pairs and trials, planned from the index arrays of a source."""

import numpy as np

from segsiam_jax.data.identity.identities import Index, Pairs, Trials


def random_pairs(
  index: Index,
  count: int,
  *,
  seed: int = 0,
  within_group: bool = False,
  folds: int = 10,
) -> Pairs:
  """Random pairs to verify, half of them same, no pair twice.

  Folds have as many of either kind. They are for choosing a threshold on other
  pairs than are scored, not a published protocol's.

  Args:
    index: of the source.
    count: at most so many pairs; fewer where there are not as many.
    seed: of the choice.
    within_group: different pairs are of one group.
    folds: number of folds; fewer where there are not as many pairs of a kind.

  Returns:
    The pairs, ordered by kind.
  """
  rng = np.random.default_rng((seed, count))
  able = index.with_a_pair()
  pairs: dict[bool, dict[tuple[int, int], None]] = {True: {}, False: {}}
  # Small sets run out of pairs: draws are bounded, not the pairs.
  for same, found in pairs.items():
    for _ in range(4 * count):
      if len(found) == count // 2 or not len(able):
        break
      if same:
        first = int(rng.choice(index.members(rng.choice(able))))
        second = index.draw_other_image(first, rng)
      else:
        first = int(rng.integers(len(index.labels)))
        second = index.draw_other_identity(first, rng, within_group)
      if second is not None:
        found[min(first, second), max(first, second)] = None
  rows = [(*pair, same) for same in pairs for pair in pairs[same]]
  first, second, same = (
    np.array(column, np.int64)
    for column in (zip(*rows, strict=True) if rows else ((), (), ()))
  )
  position = np.concatenate([np.arange(len(pairs[same])) for same in pairs])
  least = min(len(found) for found in pairs.values())
  folds = max(1, min(folds, least))
  return Pairs(
    first=first,
    second=second,
    same=same == 1,
    fold=position % folds,
    kind=np.zeros(len(first), np.int64),
  )


def random_trials(
  index: Index,
  *,
  ways: int,
  shots: int,
  queries: int,
  episodes: int,
  seed: int = 0,
  within_group: bool = False,
) -> Trials | None:
  """Random N-way K-shot episodes; None where there are too few identities.

  No two examples of an episode are copies, see `Index.distinct`.

  Args:
    index: of the source.
    ways: N identities an episode.
    shots: K examples of each in the support set.
    queries: further examples of each to classify.
    episodes: number of support sets.
    seed: of the choice.
    within_group: the identities of an episode are of one group.
  """
  need = shots + queries
  enough = index.with_distinct(need)
  pools = [enough]
  if within_group:
    pools = [
      np.intersect1d(index.identities_of_group(group), enough)
      for group in index.group_names
    ]
  pools = [pool for pool in pools if len(pool) >= ways]
  if not pools:
    return None
  rng = np.random.default_rng((seed, ways, shots))
  query, support, answer, episode = [], [], [], []
  for number in range(episodes):
    pool = pools[number % len(pools)]
    drawn = np.stack(
      [
        rng.choice(index.distinct(identity), need, replace=False)
        for identity in rng.choice(pool, ways, replace=False)
      ]
    )
    query.append(drawn[:, shots:].ravel())
    support.append(np.repeat(drawn[None, :, :shots], ways * queries, axis=0))
    answer.append(np.repeat(np.arange(ways), queries))
    episode.append(np.full(ways * queries, number))
  return Trials(*map(np.concatenate, (query, support, answer, episode)))


def drawers_trials(
  index: Index,
  *,
  ways: int,
  episodes: int,
  seed: int = 0,
  within_group: bool = True,
) -> Trials | None:
  """One-shot episodes as Lake's: one person's drawings among another's.

  Each takes N identities that two people have drawn. The drawings of one are
  the support set, those of the other the queries, of which each has to be
  found (Lake et al. 2015; Koch et al. 2015). No two of them are copies.

  Args:
    index: of a source that knows the drawers.
    ways: N. Groups with fewer are left out.
    episodes: number of support sets, over all groups in turn.
    seed: of the choice.
    within_group: the identities of an episode are of one group.

  Returns:
    The trials; None where no group has N identities that two people drew.
  """
  pools = index.by_drawer(ways, within_group)
  rng = np.random.default_rng((seed, ways, 0))
  query, support, answer, episode = [], [], [], []
  for number in range(episodes if pools else 0):
    pool = pools[number % len(pools)]
    one, other = (pool[who] for who in rng.permutation(list(pool))[:2])
    shared = index.drawn_by_both(one, other)
    if len(shared) < ways:
      continue
    chosen = rng.choice(shared, ways, replace=False)
    support.append(np.tile([[one[i]] for i in chosen], (ways, 1, 1)))
    query.append([other[i] for i in chosen])
    answer.append(np.arange(ways))
    episode.append(np.full(ways, number))
  if not query:
    return None
  return Trials(*map(np.concatenate, (query, support, answer, episode)))
