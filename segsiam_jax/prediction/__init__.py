"""What a task makes of files: `PREDICTORS[config.task]`.

A predictor is called with the config, a checkpoint's folder, the files (each
with the stem of the names of what it writes) and the folder to write to, and
returns a line for every file that it could not predict. `files.predict_each`
is the loop that most of them need.
"""

import pathlib
from collections.abc import Callable, Mapping

import ml_collections
from etils import epath

from segsiam_jax.prediction import instance, semantic, siamese

Predictor = Callable[
  [
    ml_collections.ConfigDict,
    str,
    Mapping[pathlib.Path, str],
    epath.Path,
  ],
  list[str],
]

PREDICTORS: dict[str, Predictor] = {
  "instance": instance.predict_files,
  "semantic": semantic.predict_files,
  "siamese": siamese.predict_files,
}
