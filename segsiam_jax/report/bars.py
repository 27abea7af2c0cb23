"""Progress bars, on a terminal; elsewhere there are none."""

import contextlib
import sys
from collections.abc import Callable, Iterator

import rich.console
import rich.progress


def make() -> rich.progress.Progress | None:
  """Bars with a status after each, not yet started; None without a terminal."""
  if not sys.stderr.isatty():
    return None
  return rich.progress.Progress(
    rich.progress.TextColumn("{task.description}"),
    rich.progress.BarColumn(),
    rich.progress.MofNCompleteColumn(),
    rich.progress.TextColumn("{task.fields[status]}"),
    rich.progress.TimeRemainingColumn(),
    console=rich.console.Console(stderr=True),
  )


@contextlib.contextmanager
def bar(
  what: str, total: int, bars: rich.progress.Progress | None = None
) -> Iterator[Callable[[], None]]:
  """A bar while something is done; call what it gives after each part.

  Args:
    what: is done.
    total: number of parts.
    bars: that are shown already, to show it among them; None for others.
  """
  with contextlib.ExitStack() as stack:
    if bars is None:
      bars = make()
      if bars is None:
        yield lambda: None
        return
      stack.enter_context(bars)
    task = bars.add_task(what, total=total, status="")
    stack.callback(bars.remove_task, task)
    yield lambda: bars.advance(task)
