"""What the command line prints, and how it ends. Imports nothing heavy."""

import logging
import os
import pathlib
import re
import sys
from collections.abc import Callable

import absl.logging
from absl import flags

from segsiam_jax.errors import Preempted, UserError

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


def run(function: Callable[[], None], argv: list[str]) -> None:
  """Runs a command, and ends the process with the code of how it went."""
  log_to_stderr()
  try:
    if len(argv) > 1:
      raise UserError(f"{argv[1]!r} is no flag; see --help")
    function()
  except UserError as error:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(EXIT_BAD_INPUT)
  except Preempted as stop:
    print(f"preempted: saved at {stop}; run again to go on", file=sys.stderr)
    sys.exit(EXIT_PREEMPTED)


def parse_flags(argv: list[str]) -> list[str]:
  """Like absl's parser, but a mistake is one line and exit code 2."""
  try:
    expand_config(argv)
    name_workdir_config(argv)
    rest = flags.FLAGS(argv)
    if "config" in flags.FLAGS and flags.FLAGS.config is not None:
      flags.FLAGS.config.keys()  # A file that is missing raises only when used.
    return rest
  except UserError as error:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(EXIT_BAD_INPUT)
  except (flags.Error, OSError, AttributeError, ValueError, TypeError) as error:
    # A config file that raises comes as one of the last three.
    print(f"error: {_in_a_line(error)}", file=sys.stderr)
    sys.exit(EXIT_BAD_INPUT)


def _in_a_line(error: Exception) -> str:
  """What a parser's error says, or a config file's or a config's within it."""
  cause = error.args[0] if error.args else None
  if isinstance(cause, KeyError):  # A field that a config does not have.
    field, _, hint = cause.args[0].partition("\n")
    return f"--config: there is no field {field}" + (
      f"; {hint}" if hint else ""
    )
  first, trace, rest = str(error).partition("Traceback (most recent call")
  if trace:  # Of a config file that raised: what it said is the last line.
    first += rest.strip().splitlines()[-1]
  return " ".join(first.split())


def expand_config(argv: list[str]) -> None:
  """Puts the home folder for the `~` of a config file, in place.

  The shell leaves that of `--config=~/FILE` alone.
  """
  for index, flag in enumerate(argv):
    if match := re.fullmatch(r"(--?config=)(~.*)", flag, re.DOTALL):
      argv[index] = match[1] + os.path.expanduser(match[2])


def name_workdir_config(argv: list[str]) -> None:
  """Lets --config.FIELD flags change a workdir's own config.

  Such flags need a config to change. Where eval or predict got none, the
  workdir's is named in front of them, in place: the flag reads `sys.argv`.
  """
  changed = any(re.match(r"--?config\.", flag) for flag in argv)
  given = any(re.match(r"--?config(=|$)", flag) for flag in argv)
  workdir = _value(argv, "workdir")
  if (
    changed
    and not given
    and workdir
    and _value(argv, "mode") in ("eval", "predict")
  ):
    log_to_stderr()
    file = pathlib.Path(__file__).with_name("workdir_config.py")
    argv.insert(1, f"--config={file}:{workdir}")


def _value(argv: list[str], name: str) -> str:
  """The value of a flag before flags are parsed, '' if it is not there."""
  for index, flag in enumerate(argv):
    if match := re.fullmatch(rf"--?{name}(?:=(.*))?", flag):
      return (
        match[1] if match[1] is not None else "".join(argv[index + 1 :][:1])
      )
  return ""
