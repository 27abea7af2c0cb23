"""What the command line prints, and how it ends. Imports nothing heavy."""

import contextlib
import errno
import logging
import os
import pathlib
import re
import sys
import traceback
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

import absl.logging
from absl import flags

from segsiam_jax.errors import Lost, Preempted, UserError, first_line, nearest

_logger = logging.getLogger(__name__)

EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130
# Of the system: no room, and what files there cannot be.
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
# What a name, a right or a disk makes impossible.
_NO_FILE = (
  *(errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR),
  *(errno.EACCES, errno.EPERM, errno.EIO),
)
_at_once = False


def log_to_stderr() -> None:
  """Shows this package's messages; libraries show their warnings."""
  handler = logging.StreamHandler()
  handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
  logger = logging.getLogger("segsiam_jax")
  logger.handlers, logger.propagate = [handler], False
  logger.setLevel(logging.INFO)
  if not flags.FLAGS["verbosity"].present:
    absl.logging.set_verbosity(absl.logging.WARNING)
    # An exception that Orbax logs is raised, too, and told in our line.
    absl.logging.get_absl_handler().addFilter(_is_no_trace_of_orbax)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    sys.unraisablehook = _without_closed_loops


def _is_no_trace_of_orbax(record: logging.LogRecord) -> bool:
  return not (record.exc_info and "orbax" in record.pathname)


def _without_closed_loops(ignored: Any) -> None:
  """TensorStore answers tasks of a save that has failed: to nobody."""
  if str(ignored.exc_value) != "Event loop is closed":
    sys.__unraisablehook__(ignored)


def say(line: str) -> None:
  """Prints a line on stderr, which may be closed or full."""
  with contextlib.suppress(OSError):
    print(line, file=sys.stderr, flush=True)


def show(lines: Iterable[str]) -> None:
  """Prints lines on stdout, which a pager may close before the last."""
  try:
    for line in lines:
      print(line)
    sys.stdout.flush()
  except BrokenPipeError:
    # Nothing is left to say, at the end of the program either.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def run(function: Callable[[], None], argv: list[str]) -> None:
  """Runs a command, and ends the process with the code of how it went."""
  log_to_stderr()
  try:
    if len(argv) > 1:
      raise UserError(f"{argv[1]!r} is not a flag; see --help")
    function()
  except Lost as error:
    leave(error)
  except UserError as error:
    _end(f"error: {error}", EXIT_BAD_INPUT)
  except Preempted as stop:
    told = "interrupted" if stop.exit_code == EXIT_INTERRUPTED else "preempted"
    say(f"{told}: saved at {stop}; run again to continue")
    sys.exit(stop.exit_code)
  except KeyboardInterrupt:
    say("interrupted")
    sys.exit(EXIT_INTERRUPTED)
  except OSError as error:
    if error.errno not in (*_NO_ROOM, *_NO_FILE):
      if not _at_once:
        raise
      _end(traceback.format_exc(), 1)
    where = f"{error.filename}: " if error.filename else ""
    room = "make room, and run again to continue"
    advice = room if error.errno in _NO_ROOM else "name another, or repair it"
    told = UserError(f"{where}{error.strerror}; {advice}")
    _end(f"error: {told}", EXIT_BAD_INPUT)
  except Exception as error:
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
      _end(
        f"error: memory ran out ({first_line(error)}); take smaller batches or "
        "images, or a smaller model, and run again to go on",
        EXIT_BAD_INPUT,
      )
    if not _at_once:
      raise
    _end(traceback.format_exc(), 1)


def leave_at_once() -> None:
  """Errors end the process without what Python does at the end of a program.

  One of several processes would wait there for others, which wait for it.
  """
  global _at_once
  _at_once = True


def leave(error: Lost) -> NoReturn:
  """Says what is lost and ends the process, whatever its threads wait for."""
  leave_at_once()
  _end(f"error: {error}", error.exit_code)


def _end(message: str, exit_code: int) -> NoReturn:
  say(message)
  if not _at_once:
    sys.exit(exit_code)
  with contextlib.suppress(OSError):
    sys.stdout.flush()
  os._exit(exit_code)


def parse_flags(argv: list[str]) -> list[str]:
  """Like absl's parser, but a mistake is one line and exit code 2."""
  try:
    keep_last(argv)
    expand_config(argv)
    name_workdir_config(argv)
    rest = flags.FLAGS(argv)
    if "config" in flags.FLAGS and flags.FLAGS.config is not None:
      flags.FLAGS.config.keys()  # A file that is missing raises only when used.
    return rest
  except UserError as error:
    say(f"error: {error}")
    sys.exit(EXIT_BAD_INPUT)
  except (
    flags.Error,
    OSError,
    ArithmeticError,
    AttributeError,
    ValueError,
    TypeError,
  ) as error:
    # A config file that raises comes as one of the last four.
    say(f"error: {_in_a_line(error)}")
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


def keep_last(argv: list[str]) -> None:
  """Of a --config.FIELD that is given several times only the last one counts.

  ml_collections would append tuples to one another, but take the last of all
  other values. A message names such a field. Changes `argv` in place, as the
  flag of the config reads `sys.argv`.
  """
  last: dict[str, tuple[int, int]] = {}
  dropped: list[int] = []
  repeated: dict[str, None] = {}
  for index, flag in enumerate(argv):
    match = re.fullmatch(r"--?(?:no)?(config\.[^=]+)(=.*)?", flag, re.DOTALL)
    if not match:
      continue
    value = argv[index + 1 : index + 2]
    own = match[2] is not None or not value or value[0].startswith("-")
    if match[1] in last:
      dropped += range(*last[match[1]])
      repeated[match[1]] = None
    last[match[1]] = (index, index + (1 if own else 2))
  for index in sorted(dropped, reverse=True):
    del argv[index]
  if repeated:
    log_to_stderr()
    _logger.warning(
      "given several times; the last counts: %s",
      ", ".join(f"--{name}" for name in repeated),
    )


def expand_config(argv: list[str]) -> None:
  """Puts the path of a config file for its name, in place.

  The shell leaves the `~` of `--config=~/FILE` alone; `--config=unet_digits` is
  a config of the package, unless there is such a file here.
  """
  for index, flag in enumerate(argv):
    match = re.fullmatch(r"(--?config=)([^:]*)(.*)", flag, re.DOTALL)
    if not match:
      continue
    path = os.path.expanduser(match[2])
    if re.fullmatch(r"\w+", path) and not os.path.exists(path):
      own = pathlib.Path(__file__).with_name("configs") / f"{path}.py"
      if not own.exists():
        names = sorted(file.stem for file in own.parent.glob("[!_]*.py"))
        close = nearest(path, names)
        hint = f"; did you mean {close!r}?" if close else ""
        raise UserError(
          f"--config={path}: neither a file nor a config of the package, which "
          f"has {', '.join(names)}{hint}"
        )
      path = str(own)
    argv[index] = match[1] + path + match[3]


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
    file = pathlib.Path(__file__).with_name("config") / "of_workdir.py"
    argv.insert(1, f"--config={file}:{workdir}")


def _value(argv: list[str], name: str) -> str:
  """The value of a flag before flags are parsed, '' if it is not there."""
  for index, flag in enumerate(argv):
    if match := re.fullmatch(rf"--?{name}(?:=(.*))?", flag):
      return (
        match[1] if match[1] is not None else "".join(argv[index + 1 :][:1])
      )
  return ""
