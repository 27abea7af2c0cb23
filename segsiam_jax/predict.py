"""Prediction on files, whatever the task."""

import logging
from collections.abc import Sequence

import ml_collections

from segsiam_jax import parts
from segsiam_jax.engine import checkpoint
from segsiam_jax.errors import UserError
from segsiam_jax.fields import tasks
from segsiam_jax.files import paths
from segsiam_jax.inputs import plan
from segsiam_jax.prediction import files as files_lib
from segsiam_jax.prediction.output import Output

_logger = logging.getLogger(__name__)


def predict(
  config: ml_collections.ConfigDict,
  workdir: str,
  inputs: Sequence[str],
  output: str = "",
  which: str = "best",
) -> int:
  """Predicts on image files; what is written is the task's choice.

  Args:
    config: of the run.
    workdir: of the run.
    inputs: image files, or folders of them.
    output: folder to write to; '' for workdir/predictions.
    which: checkpoint: 'best', 'latest' or a step.

  Returns:
    The number of files.

  Raises:
    UserError: an input is not an image; the others are predicted all the
      same. Or a file that no prediction wrote would be overwritten; then
      nothing is done.
  """
  config = plan.planned(config, workdir)
  of_task = tasks.find(config.task)
  if not of_task.predict_files:
    raise UserError(
      f"--mode=predict: the task {config.task!r} predicts no files"
    )
  files = files_lib.list_files(inputs)
  output = output or str(paths.resolve(workdir) / "predictions")
  folder = checkpoint.find(
    workdir, which, config.train.best_metric, config.train.best_mode
  )
  paths.make_writable("--output", output)
  target = paths.resolve(output)
  predict_files = parts.load(of_task.predict_files)
  complaints = predict_files(config, folder, files, Output(target, files))
  done = len(files) - len(complaints)
  _logger.info("%d files predicted with %s: %s", done, folder, target)
  if complaints:
    raise UserError(
      f"{len(complaints)} of {len(files)} inputs could not be predicted, the "
      f"first: {complaints[0]}; the others are in {target}"
    )
  return done
