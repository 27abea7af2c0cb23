"""Several processes as one run: how they join, and how all end when one does.

A process that has failed leaves at once. What Python and JAX do at the end of a
program would wait for the others, which wait for it in a step. The others learn
of it from a collective that fails, or from JAX's coordination service, which
misses its heartbeat.
"""

import contextlib
import logging
import os
import re
from collections.abc import Iterator
from typing import NoReturn

import jax

from segsiam_jax import command_line
from segsiam_jax.engine.last_words import LastWords
from segsiam_jax.errors import Lost, Preempted, UserError, first_line

_logger = logging.getLogger(__name__)

# Seconds until a silent process counts as dead.
_SILENT = 30
# Lives as long as the process.
_words: list[LastWords] = []
# What collectives, barriers and the service say of a process that is gone.
_OF_OTHERS = re.compile(
  "gloo|nccl|heartbeat|coordination|barrier|connection|peer|another task"
  "|distributed service|unavailable",
  re.IGNORECASE,
)


@contextlib.contextmanager
def joined() -> Iterator[None]:
  """Joins the other processes where the environment says that there are some.

  JAX finds Cloud TPU pods, Slurm, Open MPI and Kubernetes by itself. Elsewhere
  JAX_COORDINATOR_ADDRESS (host:port of process 0), JAX_NUM_PROCESSES and
  JAX_PROCESS_ID say it; without them this is one process.

  Raises:
    UserError: joining failed.
  """
  if not jax.distributed.is_initialized():
    _join()
  if not jax.distributed.is_initialized():
    yield
    return
  command_line.leave_at_once()
  _words.append(LastWords(_leave))
  try:
    yield
  except (Preempted, Lost):
    raise
  except Exception as error:
    leave_if_lost(error)
    raise


def _leave(text: str = "") -> NoReturn:
  command_line.leave(Lost(_lost(text), exit_code=1))


def leave_if_lost(error: Exception) -> None:
  """Ends the process at once, with one line, if an error is of another one.

  Call it before anything is closed: that would wait for the other process.
  """
  if jax.distributed.is_initialized() and (text := _of_another(error)):
    _leave(text)


def _join() -> None:
  """Raises `UserError` if that fails; returns without any other process."""
  numbers: dict[str, int] = {}
  try:
    numbers = {
      name.lower().removeprefix("jax_"): int(os.environ[name])
      for name in ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
      if name in os.environ
    }
    jax.distributed.initialize(**numbers, heartbeat_timeout_seconds=_SILENT)
  except (ValueError, RuntimeError) as error:
    if "coordinator_address should be defined" in str(error) and not numbers:
      return
    raise UserError(
      f"joining the other processes failed ({first_line(error)}); check "
      "JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID"
    ) from error


def _lost(text: str) -> str:
  told = f" ({' '.join(text.split())[:200]})" if text else ""
  return (
    "another process of this run has ended; its own messages say why, and "
    f"running all of them again goes on from the last checkpoint{told}"
  )


def _of_another(error: BaseException | None) -> str:
  """What an error or its cause says of other processes, or ''."""
  while error is not None:
    line = first_line(error)
    if not isinstance(error, UserError) and _OF_OTHERS.search(line):
      return line
    error = error.__cause__ or error.__context__
  return ""
