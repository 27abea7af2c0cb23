"""Examples that cannot be used: an error, or left out where a config says so.

A fault of one example (a file that cannot be read, a mask of another size, a
polygon of two points) can be left out. A fault of the data set as a whole (no
list of images, a table without its columns) is always an error.
"""

import contextlib
import contextvars
import logging
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
from typing import NamedTuple, TypeVar

from segsiam_jax.errors import UserError

_logger = logging.getLogger(__name__)

HINT = (
  "repair or remove it, or leave out what is broken with "
  "--config.data.skip_broken=True"
)
# Complaints that a warning repeats.
_MOST_SHOWN = 10

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class Collected(NamedTuple):
  """What is said of a data set.

  Attributes:
    complaints: about what is left out.
    notes: about what is odd.
  """

  complaints: list[str]
  notes: list[str]


_collected: contextvars.ContextVar[Collected | None] = contextvars.ContextVar(
  "collected", default=None
)


@contextlib.contextmanager
def collect() -> Iterator[Collected]:
  """Gathers what is said while it is open."""
  collected = Collected([], [])
  token = _collected.set(collected)
  try:
    yield collected
  finally:
    _collected.reset(token)


def note(text: str) -> None:
  """Warns of what is odd, or notes it for who collects."""
  collected = _collected.get()
  if collected is None:
    _logger.warning("%s", text)
  else:
    collected.notes.append(text)


class Broken:
  """The complaints about what is left out.

  Attributes:
    skip: whether anything may be.
  """

  def __init__(self, skip: bool):
    self.skip = skip
    self._complaints: list[str] = []

  def add(self, complaint: str | UserError) -> None:
    """Takes note of what is left out; raises `UserError` if nothing may be."""
    if not self.skip:
      raise UserError(f"{complaint}; {HINT}")
    self._complaints.append(str(complaint))
    collected = _collected.get()
    if collected is not None:
      collected.complaints.append(str(complaint))

  @property
  def count(self) -> int:
    """How many were left out."""
    return len(self._complaints)

  def warn(self, where: object, what: str, left: int) -> None:
    """Names in one warning what was left out, if anything was.

    Args:
      where: the file or folder.
      what: the items are called.
      left: number of good ones.

    Raises:
      UserError: none is left.
    """
    if not self.count or (left and _collected.get() is not None):
      return
    if not left:
      raise UserError(
        f"{where}: all of {self.count} {what} are broken, the first: "
        f"{self._complaints[0]}"
      )
    _logger.warning(
      "%s: %d of %d %s are broken and left out: %s%s",
      where,
      self.count,
      self.count + left,
      what,
      "; ".join(self._complaints[:_MOST_SHOWN]),
      "; ..." if self.count > _MOST_SHOWN else "",
    )

  def good(
    self, items: Iterable[_Item], check: Callable[[_Item], _Result]
  ) -> list[tuple[_Item, _Result]]:
    """The items that a check does not complain about, with what it returns.

    Args:
      items: in their order.
      check: runs in several threads; raises `UserError` for a broken item.

    Raises:
      UserError: of the first broken item, if nothing may be left out.
    """

    def attempt(item: _Item) -> tuple[_Item, _Result | None, UserError | None]:
      try:
        return item, check(item), None
      except UserError as error:
        if not self.skip:  # At once: the other items are not looked at.
          raise UserError(f"{error}; {HINT}") from error
        return item, None, error

    kept = []
    with futures.ThreadPoolExecutor() as pool:
      for item, result, error in pool.map(attempt, items):
        if error is None:
          kept.append((item, result))
        else:
          self.add(error)
    return kept


@contextlib.contextmanager
def suggest_skipping() -> Iterator[None]:
  """Errors within say how to go on without the example that is read."""
  try:
    yield
  except UserError as error:
    raise UserError(f"{error}; {HINT}") from error
