"""The command line: flags -> one function.

  python -m segsiam_jax.main --config=configs/unet_digits.py --workdir=DIR

Exit codes: 0 finished, 2 bad input (do not retry), 75 preempted and saved
(retry).
"""

import logging
import sys

import absl.logging
from absl import app, flags
from ml_collections import config_flags

EXIT_BAD_INPUT = 2
EXIT_PREEMPTED = 75

_CONFIG = config_flags.DEFINE_config_file(
  "config",
  None,
  "Config file; --config=FILE:debug for a run of seconds. eval and predict "
  "take the workdir's own where none is given.",
  lock_config=True,
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run.")
_MODE = flags.DEFINE_enum("mode", "train", ["train", "eval", "predict"], "")
_INPUT = flags.DEFINE_list("input", [], "predict: image files or folders.")
_OUTPUT = flags.DEFINE_string(
  "output", "", "predict: folder to write to; WORKDIR/predictions if not given."
)
_CHECKPOINT = flags.DEFINE_string(
  "checkpoint", "best", "eval, predict: 'best', 'latest' or a step."
)
_PROFILE = flags.DEFINE_list(
  "profile", None, "train: first,last step to trace into WORKDIR/profile."
)


def _log_to_stderr() -> None:
  """Shows this package's messages; libraries show their warnings."""
  handler = logging.StreamHandler()
  handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
  logger = logging.getLogger("segsiam_jax")
  logger.handlers, logger.propagate = [handler], False
  logger.setLevel(logging.INFO)
  if not flags.FLAGS["verbosity"].present:
    absl.logging.set_verbosity(absl.logging.WARNING)


def _run() -> None:
  from segsiam_jax.config import validate
  from segsiam_jax.errors import UserError

  if not _WORKDIR.value:
    raise UserError("--workdir: name a folder for the run")
  config, profile = _CONFIG.value, None
  if config is not None:
    validate(config)
  elif _MODE.value == "train":
    raise UserError("--config: name a config file, such as configs/X.py")
  if _PROFILE.value:
    try:
      first, last = map(int, _PROFILE.value)
    except ValueError:
      raise UserError("--profile: give two steps, such as 10,20") from None
    profile = (first, last)

  # Only now what takes seconds to import: a mistake is told at once.
  from segsiam_jax import evaluate, predict, runs, runtime, train

  runtime.enable_compilation_cache()
  runtime.initialize_distributed()
  if config is None:
    config = runs.load_config(_WORKDIR.value)
  if _MODE.value == "train":
    train.train_and_evaluate(config, _WORKDIR.value, profile)
  elif _MODE.value == "eval":
    evaluate.evaluate(config, _WORKDIR.value, _CHECKPOINT.value)
  else:
    predict.predict(
      config, _WORKDIR.value, _INPUT.value, _OUTPUT.value, _CHECKPOINT.value
    )


def _parse_flags(argv: list[str]) -> list[str]:
  """Like absl's parser, but a mistake is one line and exit code 2."""
  try:
    rest = flags.FLAGS(argv)
    if _CONFIG.value is not None:
      _CONFIG.value.keys()  # A file that is missing raises only when used.
    return rest
  except (flags.Error, OSError, AttributeError, ValueError, TypeError) as error:
    # A config file that raises comes as one of the last three.
    first, trace, rest = str(error).partition("Traceback (most recent call")
    if trace:  # Of a config file that raised: what it said is the last line.
      first += rest.strip().splitlines()[-1]
    print(f"error: {' '.join(first.split())}", file=sys.stderr)
    sys.exit(EXIT_BAD_INPUT)


def main(argv: list[str]) -> None:
  from segsiam_jax.errors import Preempted, UserError

  _log_to_stderr()
  try:
    if len(argv) > 1:
      raise UserError(f"{argv[1]!r} is no flag; see --help")
    _run()
  except UserError as error:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(EXIT_BAD_INPUT)
  except Preempted as stop:
    print(f"preempted: saved at {stop}; run again to go on", file=sys.stderr)
    sys.exit(EXIT_PREEMPTED)


if __name__ == "__main__":
  app.run(main, flags_parser=_parse_flags)
