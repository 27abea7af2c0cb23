"""Splits of identities."""

import os
from typing import Any

import ml_collections
import numpy as np

from segsiam_jax.data.identity import checks, identities, rows, sampling, sets
from segsiam_jax.data.identity.protocol import Evaluated, make_protocol
from segsiam_jax.inputs import Opened, named, plan


def open_split(config: ml_collections.ConfigDict, train: bool) -> Opened:
  """Opens the training or the evaluation split."""
  data, batch, settings = config.data, config.batch, config.eval
  split = data.train_split if train else data.eval_split
  source = sets.open_identities(
    data.name, split, os.path.expanduser(data.dir), data.skip_broken
  )
  of_image, branches = rows_of(config, train)
  plan = None
  if train:
    if data.singles == "drop":
      source = identities.without_singles(source)
    checks.check_identities(
      source, named(config, train), singles=data.singles == "keep"
    )
    plan = sampling.make_plan(
      identities.Index.of(source),
      sampling.Sampling(
        kind=batch.kind,
        batch_size=config.train.batch_size,
        seed=config.seed,
        same_ratio=batch.same_ratio,
        per_identity=batch.per_identity,
        ways=batch.ways,
        shots=batch.shots,
        queries=batch.queries,
        within_group=batch.within_group,
        by_drawer=batch.by_drawer,
      ),
    )
  else:
    protocol = make_protocol(
      source,
      pairs=settings.pairs,
      folds=settings.folds,
      ways=settings.ways,
      shots=tuple(settings.shots),
      queries=settings.queries,
      episodes=settings.episodes,
      within_group=settings.within_group,
      where=named(config, train),
    )
    source = Evaluated(source, protocol)
  records = rows.Contents(source)
  if data.keep:
    kept = rows.Kept(records, of_image)
    return Opened(source, rows.AsKept(of_image), kept, plan, branches)
  return Opened(source, of_image, records, plan, branches)


def rows_of(
  config: ml_collections.ConfigDict, train: bool
) -> tuple[rows.SiameseRows, tuple[str, ...]]:
  """See `TaskParts.rows_of`."""
  data = config.data
  of_image = rows.SiameseRows(tuple(data.image_size), data.channels, data.fit)
  branches = sampling.BRANCHES[config.batch.kind] if train else ("image",)
  return of_image, branches


def choose(config: ml_collections.ConfigDict) -> dict[str, Any]:
  """See `TaskParts.choose`."""
  data = config.data
  source = sets.open_identities(
    data.name, data.train_split, os.path.expanduser(data.dir), data.skip_broken
  )
  files = plan.files_of(source.keys())
  if not files:
    return {}
  found = plan.survey(files)
  return plan.pixel_choices(found) | {"image_size": plan.crop_size(found.sizes)}


def describe(
  config: ml_collections.ConfigDict,
  source: identities.IdentitySource,
  train: bool,
) -> tuple[list[str], list[str]]:
  """See `TaskParts.describe`."""
  del config, train
  counts = np.bincount(source.labels)
  low, middle, high = np.percentile(counts, (0, 50, 100))
  lines = [
    f"{len(counts)} identities",
    f"images per identity: {low:g} to {high:g}, median {middle:g}",
  ]
  odd = []
  singles = np.flatnonzero(counts == 1)
  if len(singles):
    names = [source.class_names[label] for label in singles]
    odd.append(
      f"{len(names)} identities have one image: {', '.join(names[:5])}"
    )
  return lines, odd


def check_splits(
  config: ml_collections.ConfigDict,
  train: identities.IdentitySource,
  test: identities.IdentitySource,
) -> None:
  """Raises `UserError` if an identity is in both splits and must not be."""
  if not config.data.shared_identities:
    checks.check_disjoint(train, test)
