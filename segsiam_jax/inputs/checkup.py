"""What is wrong with a data set, all of it, and a config that suits it.

Nothing here starts a device.
"""

import collections
import datetime
import hashlib
import logging
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent import futures
from typing import NamedTuple

import ml_collections

from segsiam_jax import config as config_lib
from segsiam_jax import parts
from segsiam_jax.data import broken, sources
from segsiam_jax.errors import UserError
from segsiam_jax.fields import tasks
from segsiam_jax.fields.data_sets import OF_FILES
from segsiam_jax.files import paths
from segsiam_jax.inputs import of_training, plan

_logger = logging.getLogger(__name__)

# In the workdir.
CONFIG_FILE = "checked_config.py"
# Of a run on a small set.
_FEWEST_STEPS = 600

# (what is done, how many) -> called after each.
Progress = Callable[[str, int], Callable[[], None]]


class Finding(NamedTuple):
  """A problem.

  Attributes:
    kind: what problems are grouped by.
    what: a line, with the names of files.
    fatal: whether training refuses it.
  """

  kind: str
  what: str
  fatal: bool = True


class Checkup(NamedTuple):
  """What a check found.

  Attributes:
    facts: lines about each split, by its name.
    findings: problems.
    config: the config with what suits the data; as it was if no split opens.
  """

  facts: dict[str, list[str]]
  findings: list[Finding]
  config: ml_collections.ConfigDict


def check(
  config: ml_collections.ConfigDict, workdir: str, progress: Progress
) -> Checkup:
  """Reads both splits once and finds all that is wrong with them.

  Args:
    config: of a run; `data.skip_broken` is set as far as files can be left out.
    workdir: of the run.
    progress: told of what is done.
  """
  of_task = tasks.find(config.task)
  findings: list[Finding] = []
  facts: dict[str, list[str]] = {}
  config = config.copy_and_resolve_references()
  strict = config.data.skip_broken
  config.data.skip_broken = config.data.name in OF_FILES
  opened: dict[str, sources.Source] = {}
  with broken.collect() as said:
    try:
      config = plan.planned(config, workdir)
    except UserError as error:
      findings.append(Finding("cannot be planned", str(error)))
  findings += [Finding("suspicious", each, False) for each in said.notes]
  for name, train in (("train", True), ("eval", False)):
    with broken.collect() as said:
      step = progress(f"reading the {name} split", 1)
      try:
        source = parts.load(of_task.open_split)(config, train).source
        opened[name] = source
        if train:
          config = of_training(config, source)
      except UserError as error:
        findings.append(Finding("cannot be opened", str(error)))
      step()
    findings += [Finding("unusable", each) for each in said.complaints]
    findings += [Finding("suspicious", each, False) for each in said.notes]
    if train and name in opened and of_task.suit:
      config.data.update(parts.load(of_task.suit)(config, opened[name]))
    if name in opened:
      facts[name] = [f"{len(opened[name])} examples"]
      if of_task.describe:
        lines, more = parts.load(of_task.describe)(config, opened[name], train)
        facts[name] += lines
        findings += [Finding("suspicious", each, False) for each in more]
  findings += copies(
    {name: plan.files_of(each.keys()) for name, each in opened.items()},
    progress,
  )
  if len(opened) == 2:
    findings += _together(config, opened["train"], opened["eval"])
  config.data.skip_broken, config.data.auto = strict, False
  if "train" in opened and config.train.epochs:
    # Small sets need more rounds for as many steps.
    enough = _FEWEST_STEPS * config.train.batch_size / len(opened["train"])
    config.train.epochs = float(max(config.train.epochs, round(enough)))
  # What is wrong with a folder is wrong with both splits, and with the plan.
  findings.sort(key=lambda each: each.kind == "cannot be planned")
  once: dict[str, Finding] = {}
  for finding in findings:
    once.setdefault(finding.what, finding)
  return Checkup(facts, list(once.values()), config)


def advise(workdir: str) -> None:
  """Warns that the data of a run were never checked, if so."""
  if not (paths.resolve(workdir) / CONFIG_FILE).exists():
    _logger.warning(
      "these data were not checked: --mode=check with the same flags names "
      "copies, masks of another size and other problems"
    )


def _together(
  config: ml_collections.ConfigDict,
  train: sources.Source,
  test: sources.Source,
) -> Iterable[Finding]:
  """What is wrong with two splits that are right by themselves."""
  of_task = tasks.find(config.task)
  checks = [(of_task.check_splits, (config, train, test))]
  checks.append((of_task.check_classes, (config, test, train.class_names)))
  for reference, arguments in checks:
    if reference:
      try:
        parts.load(reference)(*arguments)
      except UserError as error:
        yield Finding("splits that do not fit", str(error))
  if not config.data.allow_overlap:
    try:
      sources.check_overlap(train, test)
    except UserError as error:
      yield Finding("splits that overlap", str(error))


def copies(
  files: Mapping[str, Sequence[pathlib.Path]], progress: Progress
) -> list[Finding]:
  """Files that are equal to the last byte, in a split and between splits.

  Args:
    files: of each split.
    progress: told of each file.
  """
  everything = [(name, path) for name, each in files.items() for path in each]
  step = progress("looking for copies", len(everything))
  alike = collections.defaultdict(list)

  def digest(path: pathlib.Path) -> bytes:
    with path.open("rb") as file:
      found = hashlib.file_digest(file, "sha256").digest()
    step()
    return found

  with futures.ThreadPoolExecutor() as pool:
    digests = pool.map(digest, [path for _, path in everything])
    for (name, path), key in zip(everything, digests, strict=True):
      alike[key].append((name, path))
  found = []
  for group in alike.values():
    splits = {name for name, _ in group}
    if len({path.resolve() for _, path in group}) < 2:
      continue
    kind = "copies in both splits" if len(splits) > 1 else "copies in a split"
    what = ", ".join(str(path) for _, path in group[:5])
    found.append(Finding(kind, what, False))
  return found


def config_text(checkup: Checkup, command: str) -> str:
  """A config file that says all, with the meaning of each field.

  Args:
    checkup: whose config is written.
    command: that made it, for the docstring.
  """
  config = checkup.config
  fields = config_lib.fields(config.task, config.model.name)
  facts = "\n".join(
    f"{name}: {'; '.join(lines)}." for name, lines in checkup.facts.items()
  )
  lines = [
    '"""Written by a check of the data; change what you like.',
    "",
    f"{datetime.date.today()}, {command}",
    "",
    facts.replace("\\", "/").replace('"""', "'''"),
    '"""',
    "",
    "from segsiam_jax.config import default_config",
    "",
    "",
    'def get_config(arg: str = ""):',
    f"  config = default_config({config.task!r}, {config.model.name!r})",
  ]
  for name, field in fields.items():
    if name in ("task", "model.name"):
      continue
    node = config
    for part in name.split("."):
      node = node[part]
    value = tuple(node) if isinstance(node, list | tuple) else node
    lines += [f"  # {field.meaning}", f"  config.{name} = {value!r}"]
  lines += ["  return config", ""]
  return "\n".join(lines)


def grouped(findings: Sequence[Finding], most: int = 20) -> list[str]:
  """Problems as lines for people: each kind with its count, fatal ones first.

  Args:
    findings: in any order.
    most: lines of a kind.
  """
  kinds: dict[tuple[bool, str], list[str]] = {}
  for kind, what, fatal in findings:
    kinds.setdefault((not fatal, kind), []).append(what)
  lines = []
  for (harmless, kind), whats in sorted(kinds.items()):
    level = "warning" if harmless else "ERROR"
    lines.append(f"{level}: {kind} ({len(whats)})")
    lines += [f"  {what}" for what in whats[:most]]
    if len(whats) > most:
      lines.append(f"  ... and {len(whats) - most} more")
  return lines
