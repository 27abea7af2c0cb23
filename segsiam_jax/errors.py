"""The ways in which a run ends early on purpose."""

import difflib
import re
from collections.abc import Iterable, Sequence, Sized

# Characters of a value in a message.
_LONGEST = 100
_LONGEST_MESSAGE = 1000
# And line ends of Unicode.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class UserError(Exception):
  """Bad input: the message says what, where and how to fix it, in one line.

  `main` prints the message alone and exits with code 2. Names of files may
  hold any character, and be of any length in a list: what would end the line
  or steer a terminal is escaped, and the middle of a long message left out.
  """

  def __str__(self) -> str:
    text = super().__str__()
    if len(text) > _LONGEST_MESSAGE:
      half = _LONGEST_MESSAGE // 2
      text = f"{text[:half]} ... {text[-half:]}"
    return _CONTROL.sub(lambda one: repr(one[0])[1:-1], text)


class Lost(UserError):
  """What the run needs has died, and may be waited for in vain.

  `main` leaves at once: nothing is done at the end of the interpreter.

  Attributes:
    exit_code: that `main` exits with: 2, or 1 where running again may do.
  """

  def __init__(self, message: str, exit_code: int = 2):
    super().__init__(message)
    self.exit_code = exit_code


def first_line(error: Exception) -> str:
  """The first line of what a library's exception says.

  >>> first_line(ValueError("bad shape\\nand more")), first_line(ValueError())
  ('bad shape', 'ValueError')
  """
  lines = str(error).strip().splitlines()
  return lines[0] if lines else type(error).__name__


def shown(value: object) -> str:
  """A value for a message: its repr, cut where that is long.

  >>> shown((1, 2)), shown("x" * 100)[-20:]
  ('(1, 2)', 'xxxx... (100 in all)')
  """
  return _cut(repr(value), value)


def listed(names: Sequence[str]) -> str:
  """Names for a message, cut where they are many."""
  return _cut(", ".join(names), names)


def nearest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
  """The name that was most likely meant, or '' if none is near.

  >>> nearest("mean_iuo", ["loss", "mean_iou"]), nearest("x", ["loss"])
  ('mean_iou', '')
  """
  close = difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)
  return close[0] if close else ""


def _cut(text: str, value: object) -> str:
  if len(text) <= _LONGEST:
    return text
  count = f" ({len(value)} in all)" if isinstance(value, Sized) else ""
  return f"{text[: _LONGEST // 2]}...{count}"


class Preempted(Exception):
  """Training was told to stop, and has saved; run it again to continue.

  Attributes:
    exit_code: that `main` exits with: 75 after SIGTERM, 130 after SIGINT.
  """

  def __init__(self, where: str, exit_code: int = 75):
    super().__init__(where)
    self.exit_code = exit_code
