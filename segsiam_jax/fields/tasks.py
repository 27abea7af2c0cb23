"""The table of tasks: all that the loop and the commands know of one."""

from typing import NamedTuple

from segsiam_jax import parts
from segsiam_jax.errors import UserError, first_line, nearest, shown


class TaskParts(NamedTuple):
  """The parts of a task, as references (see `parts.load`).

  Attributes:
    fields: a module with `FIELDS`, `MODELS` (of `base.Model`) and `check`.
    make_task: (config, element_spec, axis_name) -> `tasks.base.Task`.
    open_split: (config, train) -> `inputs.Opened`.
    rows_of: (config, train) -> what makes an example a row, and the branches of
      a batch (see `data.pipeline.element_spec`), without any data; '' if that
      cannot be said.
    predict_files: (config, checkpoint, files, output) -> complaints, see
      `predict.predict`; '' if it predicts no files.
    complete: (config, training source or None) fills in what the training
      data say, such as class weights; '' for nothing but the class names.
    choose: (config) -> values of `data` fields that suit the training data, see
      `inputs.plan`; '' for none.
    describe: (config, source, train) -> lines about a split, and lines about
      what is odd, for `--mode=check`; '' for none.
    suit: (config, training source) -> more values of `data` fields, as `choose`
      gives them, that need the whole split; it may set others in place. '' for
      none.
    check_splits: (config, training source, evaluation source) raises
      `UserError` if they do not go together; '' for splits that share examples
      alone.
    check_classes: (config, source, learned class names) does if a split has
      other classes than were learned; '' if it may.
    host_metrics: (config, source) -> a function of a state, or None, that
      starts `tasks.base.HostMetrics`; '' for the task's own.
    hooks: an `engine.hooks.Hooks`, which acts between steps; '' for none.
  """

  fields: str
  make_task: str
  open_split: str
  rows_of: str = ""
  predict_files: str = ""
  complete: str = ""
  choose: str = ""
  describe: str = ""
  suit: str = ""
  check_splits: str = ""
  check_classes: str = ""
  host_metrics: str = ""
  hooks: str = ""


TASKS: dict[str, TaskParts] = {
  "semantic": TaskParts(
    fields="segsiam_jax.fields.semantic",
    make_task="segsiam_jax.tasks.semantic:make_task",
    open_split="segsiam_jax.inputs.semantic:open_split",
    rows_of="segsiam_jax.inputs.semantic:rows_of",
    predict_files="segsiam_jax.prediction.semantic:predict_files",
    complete="segsiam_jax.inputs.semantic:complete",
    choose="segsiam_jax.inputs.semantic:choose",
    describe="segsiam_jax.inputs.semantic:describe",
    suit="segsiam_jax.inputs.semantic:suit",
    host_metrics="segsiam_jax.prediction.labels:host_metrics",
  ),
  "instance": TaskParts(
    fields="segsiam_jax.fields.instance",
    make_task="segsiam_jax.tasks.instance:make_task",
    open_split="segsiam_jax.inputs.instance:open_split",
    rows_of="segsiam_jax.inputs.instance:rows_of",
    predict_files="segsiam_jax.prediction.instance:predict_files",
    complete="segsiam_jax.inputs.instance:complete",
    choose="segsiam_jax.inputs.instance:choose",
    describe="segsiam_jax.inputs.instance:describe",
    suit="segsiam_jax.inputs.instance:suit",
    check_classes="segsiam_jax.inputs.instance:check_classes",
  ),
  "siamese": TaskParts(
    fields="segsiam_jax.fields.siamese",
    make_task="segsiam_jax.tasks.siamese:make_task",
    open_split="segsiam_jax.inputs.siamese:open_split",
    rows_of="segsiam_jax.inputs.siamese:rows_of",
    predict_files="segsiam_jax.prediction.siamese:predict_files",
    choose="segsiam_jax.inputs.siamese:choose",
    describe="segsiam_jax.inputs.siamese:describe",
    check_splits="segsiam_jax.inputs.siamese:check_splits",
    hooks="segsiam_jax.inputs.hard_negatives:Miner",
  ),
}


def find(task: str) -> TaskParts:
  """The parts of a task.

  Args:
    task: a key of `TASKS`, or a reference such as 'my_package.depth:TASK' to
      the parts of one that is not registered here.

  Raises:
    UserError: there is no such task.

  >>> find("semantic").make_task
  'segsiam_jax.tasks.semantic:make_task'
  """
  if isinstance(task, str) and task in TASKS:
    return TASKS[task]
  where = f"config.task = {shown(task)}"
  if not isinstance(task, str) or ":" not in task:
    close = nearest(str(task), TASKS)
    hint = f"; did you mean {close!r}?" if close else ""
    raise UserError(
      f"{where}: expected one of {', '.join(map(repr, TASKS))}, or "
      f"'module:name' of your own{hint}"
    )
  try:
    found = parts.load(task)
  except (ImportError, AttributeError, ValueError) as error:
    raise UserError(
      f"{where}: cannot be loaded ({first_line(error)}); run from the folder "
      "that holds the module, or put it on PYTHONPATH"
    ) from error
  if not isinstance(found, TaskParts):
    raise UserError(f"{where}: not a segsiam_jax.fields.tasks.TaskParts")
  return found
