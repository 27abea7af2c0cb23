"""What a run leaves behind and shows: JSON lines, TensorBoard, the terminal.

Only process 0 writes. On a terminal there is a live progress bar; anywhere
else (a log file, a pod) there are plain lines.
"""

import contextlib
import logging
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from PIL import Image

from segsiam_jax.files import paths
from segsiam_jax.report import bars, metrics_log, tensorboard
from segsiam_jax.report import goodput as goodput_lib

_logger = logging.getLogger(__name__)


class Writer:
  """Scalars and pictures of a run; does nothing on other processes."""

  def __init__(
    self,
    workdir: str,
    total_steps: int,
    start_step: int = 0,
    *,
    trains: bool = False,
    evaluated: bool = True,
    goodput: goodput_lib.Goodput | None = None,
  ):
    """Opens the run's files, which are added to.

    Args:
      workdir: of the run.
      total_steps: for the progress bar.
      start_step: where this process starts.
      trains: whether steps after `start_step` come anew: what a killed process
        has written of them is cut off.
      evaluated: whether that is true of the evaluation at `start_step`, too.
      goodput: whose seconds are in each line; None for none.
    """
    self._active = jax.process_index() == 0
    self._total, self._goodput = total_steps, goodput
    if not self._active:
      return
    self._folder = paths.resolve(workdir)
    if trains:
      metrics_log.keep(
        self._folder,
        lambda line: (
          line["step"] < start_step + (evaluated or line["split"] != "eval")
        ),
      )
    self._board = tensorboard.EventFile(
      self._folder / "tensorboard",
      purge_step=start_step + 1 if trains else None,
    )
    self._progress = bars.make() if trains else None
    if self._progress is not None:
      self._bar = self._progress.add_task(
        "train", total=total_steps, completed=start_step, status=""
      )
      self._progress.start()

  def scalars(self, step: int, split: str, values: Mapping[str, float]) -> None:
    """Appends values to metrics.jsonl and TensorBoard, and shows them.

    Args:
      step: of the state that the values belong to.
      split: 'train', 'eval' or another name of where they come from.
      values: by name.
    """
    if not self._active:
      return
    line = {"step": step, "split": split, "time": round(time.time(), 3)}
    if self._goodput is not None:
      line[goodput_lib.FIELD] = self._goodput.seconds()
    metrics_log.add(self._folder, line | dict(values))
    for name, value in values.items():
      if math.isfinite(value):
        self._board.scalar(f"{split}/{name}", value, step)

  def advance(self, step: int) -> None:
    """Moves the bar, where there is one."""
    if self._active and self._progress is not None:
      self._progress.update(self._bar, completed=step)

  def evaluating(
    self, batches: int
  ) -> contextlib.AbstractContextManager[Callable[[], None]]:
    """A bar of an evaluation; see `bars.bar`."""
    if not self._active:
      return contextlib.nullcontext(lambda: None)
    return bars.bar("evaluate", batches, self._progress)

  def log_train(
    self, step: int, values: Mapping[str, float], seconds_left: float
  ) -> None:
    """Shows the state of training: one line, or the bar."""
    if not self._active:
      return
    status = (
      f"loss {values['loss']:.4f}  {values['images_per_second']:.1f} images/s"
    )
    if self._progress is not None:
      self._progress.update(self._bar, completed=step, status=status)
    else:
      _logger.info(
        "step %d/%d  %s  %s left",
        step,
        self._total,
        status,
        _duration(seconds_left),
      )

  def event(self, message: str, *args: Any) -> None:
    """A line for people, above the bar where there is one."""
    if not self._active:
      return
    if self._progress is not None:
      self._progress.console.print(
        message % args, highlight=False, markup=False
      )
    else:
      _logger.info(message, *args)

  def image(self, step: int, name: str, picture: np.ndarray) -> None:
    """Keeps a (h, w, 3) uint8 picture in images/ and TensorBoard."""
    if not self._active:
      return
    folder = self._folder / "images"
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}_{step:07d}.png"
    with paths.naming(path), path.open("wb") as file:
      Image.fromarray(picture).save(file, "PNG")
    self._board.image(name, picture, step)

  def close(self) -> None:
    if not self._active:
      return
    if self._progress is not None:
      self._progress.stop()
    try:
      self._board.close()
    except OSError as error:
      # Not an error of its own: one that ends the run comes first.
      _logger.warning("TensorBoard's last events are not written: %s", error)


class Clock:
  """Throughput and time left, evaluation and saving not counted."""

  def __init__(self, batch_size: int):
    self._batch_size = batch_size
    self._since = time.perf_counter()
    self._seconds_a_step = 0.0

  def restart(self) -> float:
    """Starts anew; returns the seconds since the last start."""
    now = time.perf_counter()
    passed, self._since = now - self._since, now
    return passed

  def images_per_second(self, steps_done: int) -> float:
    self._seconds_a_step = self.restart() / steps_done
    return self._batch_size / self._seconds_a_step

  def seconds_left(self, steps_left: int) -> float:
    return steps_left * self._seconds_a_step


def _duration(seconds: float) -> str:
  """Hours, minutes and seconds, as in 1:02:03 or 2:03.

  >>> _duration(3723.4), _duration(123)
  ('1:02:03', '2:03')
  """
  minutes, seconds = divmod(round(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  if hours:
    return f"{hours}:{minutes:02d}:{seconds:02d}"
  return f"{minutes}:{seconds:02d}"


def table(values: Mapping[str, float]) -> str:
  """Metrics as lines for people: totals first, then one line a class.

  Names of the form 'metric/class' make a table with a row a class.
  """
  totals = {k: v for k, v in values.items() if "/" not in k}
  lines = ["  ".join(f"{k} {v:.4f}" for k, v in totals.items())]
  columns = list(dict.fromkeys(k.split("/")[0] for k in values if "/" in k))
  rows = list(dict.fromkeys(k.split("/", 1)[1] for k in values if "/" in k))
  if rows:
    width = max(len(row) for row in rows)
    lines.append(" " * width + "".join(f"{c:>10}" for c in columns))
    for row in rows:
      cells = (values.get(f"{c}/{row}", math.nan) for c in columns)
      lines.append(f"{row:<{width}}" + "".join(f"{v:10.4f}" for v in cells))
  return "\n".join(lines)
