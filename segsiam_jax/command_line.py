"""What the command line prints, and how it ends. Imports nothing heavy."""

import logging
import sys

import absl.logging
from absl import flags

EXIT_BAD_INPUT = 2
EXIT_PREEMPTED = 75


def log_to_stderr() -> None:
  """Shows this package's messages; libraries show their warnings."""
  handler = logging.StreamHandler()
  handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
  logger = logging.getLogger("segsiam_jax")
  logger.handlers, logger.propagate = [handler], False
  logger.setLevel(logging.INFO)
  if not flags.FLAGS["verbosity"].present:
    absl.logging.set_verbosity(absl.logging.WARNING)


def parse_flags(argv: list[str]) -> list[str]:
  """Like absl's parser, but a mistake is one line and exit code 2."""
  try:
    rest = flags.FLAGS(argv)
    if flags.FLAGS.config is not None:
      flags.FLAGS.config.keys()  # A file that is missing raises only when used.
    return rest
  except (flags.Error, OSError, AttributeError, ValueError, TypeError) as error:
    # A config file that raises comes as one of the last three.
    first, trace, rest = str(error).partition("Traceback (most recent call")
    if trace:  # Of a config file that raised: what it said is the last line.
      first += rest.strip().splitlines()[-1]
    print(f"error: {' '.join(first.split())}", file=sys.stderr)
    sys.exit(EXIT_BAD_INPUT)
