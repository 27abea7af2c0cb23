"""A check of the data before training: `--mode=check`."""

import contextlib
import logging
import sys

import ml_collections

from segsiam_jax.errors import UserError
from segsiam_jax.files import paths
from segsiam_jax.inputs import checkup
from segsiam_jax.report import bars

_logger = logging.getLogger(__name__)


def check(config: ml_collections.ConfigDict, workdir: str) -> None:
  """Reports on both splits, and writes a config that suits them.

  Args:
    config: of a run.
    workdir: takes the config that is written.

  Raises:
    UserError: the data have problems that training would refuse.
  """
  paths.make_writable("--workdir", workdir)
  with contextlib.ExitStack() as stack:
    shown = bars.make()
    if shown is not None:
      stack.enter_context(shown)
    found = checkup.check(
      config,
      workdir,
      lambda what, count: stack.enter_context(bars.bar(what, count, shown)),
    )
  for name, lines in found.facts.items():
    _logger.info("%s:", name)
    for line in lines:
      _logger.info("  %s", line)
  for line in checkup.grouped(found.findings):
    _logger.info("%s", line)
  fatal = [each for each in found.findings if each.fatal]
  unopened = {"train", "eval"} - set(found.facts)
  if not unopened:
    target = paths.resolve(workdir) / checkup.CONFIG_FILE
    text = checkup.config_text(found, " ".join(sys.argv[1:]))
    paths.write_text(target, text)
    _logger.info("a config that suits these data: %s", target)
  if fatal:
    raise UserError(
      f"{len(fatal)} problems, listed above, the first: {fatal[0].what}"
    )
  _logger.info("no errors found")
