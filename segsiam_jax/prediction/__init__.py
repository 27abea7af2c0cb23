"""What a task makes of files: `PREDICTORS[config.task]`.

A predictor is called with the config, a checkpoint's folder, the files (each
with the stem of the names of what it writes) and the output, of which it claims
what it will write before it does anything else. It returns a line for every
file that it could not predict. `files.predict_each` is the loop that most of
them need.
"""

import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import ml_collections

from segsiam_jax.prediction import instance, semantic, siamese
from segsiam_jax.prediction.labels import FileScores
from segsiam_jax.prediction.output import Output
from segsiam_jax.prediction.probabilities import Probabilities
from segsiam_jax.state import TrainState
from segsiam_jax.tasks.base import HostMetrics, Task

Predictor = Callable[
  [
    ml_collections.ConfigDict,
    str,
    Mapping[pathlib.Path, str],
    Output,
  ],
  list[str],
]

PREDICTORS: dict[str, Predictor] = {
  "instance": instance.predict_files,
  "semantic": semantic.predict_files,
  "siamese": siamese.predict_files,
}


def host_metrics(
  config: ml_collections.ConfigDict, task: Task, source: Any
) -> Callable[[TrainState | None], HostMetrics] | None:
  """What a split is scored by on the host, once for every evaluation.

  Where the model does not see files as they are, these are scores of what
  `PREDICTORS` would write.

  Args:
    config: of the run; `data.class_names` are known.
    task: of the config.
    source: of the split.

  Returns:
    A function that starts empty metrics for a state, or None. Of no state it
    makes metrics that know their names alone.
  """
  if config.task == "semantic":
    probabilities = Probabilities(config)
    return lambda state: FileScores(config, source, probabilities, state)
  if task.host_metrics is None:
    return None
  return lambda state: task.host_metrics(source)
