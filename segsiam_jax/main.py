"""The command line: flags -> one function.

  python -m segsiam_jax.main --config=configs/unet_digits.py --workdir=DIR

Fields that are often set (docs/fields.md and --mode=fields have all):

  --config.data.dir=DIR --config.train.epochs=50 --config.train.batch_size=8
  --config.optimizer.learning_rate=1e-3 --config.data.image_size='(256, 256)'
  --config.init_from=FILE --config.dtype=bfloat16 --config.predict.flips=all

A model, its fields and presets follow the config's colon, as in
--config=semantic:microscopy,unet,encoder=resnet34.

Exit codes: 0 finished, 1 another process of the run has ended, 2 bad input (do
not retry), 75 preempted and saved (retry), 130 interrupted and saved.
"""

import functools
import os

from absl import app, flags
from ml_collections import config_flags

from segsiam_jax import command_line, process
from segsiam_jax.errors import UserError, first_line

_CONFIG = config_flags.DEFINE_config_file(
  "config",
  None,
  "Config file; --config=FILE:debug runs for a few seconds. Without one, eval "
  "and predict use the workdir's. --config.FIELD changes a field of either.",
  lock_config=True,
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run.")
_MODE = flags.DEFINE_enum(
  "mode",
  "train",
  ["train", "eval", "predict", "export", "check", "fields", "plan"],
  "What to do; 'check' reads the data and writes a config that suits them, "
  "'fields' lists what a config may set, 'plan' compiles the steps for devices "
  "that are not here and says what they need.",
)
_TOPOLOGY = flags.DEFINE_string(
  "topology", "", "plan: devices, such as v5e:4x4, v5p:2x2x4 or cpu:8."
)
_FORMAT = flags.DEFINE_string(
  "format", "safetensors", "export: 'safetensors' or 'stablehlo'."
)
_INPUT = flags.DEFINE_list("input", [], "predict: image files or folders.")
_OUTPUT = flags.DEFINE_string(
  "output",
  "",
  "predict, export: folder to write to; WORKDIR/predictions or WORKDIR/export "
  "if not given.",
)
_CHECKPOINT = flags.DEFINE_string(
  "checkpoint", "best", "eval, predict, export: 'best', 'latest' or a step."
)
_PROFILE = flags.DEFINE_list(
  "profile", None, "train: first,last step to trace into WORKDIR/profile."
)


def _run() -> None:
  from segsiam_jax.config import of_workdir, reference, validate

  config, profile = _CONFIG.value, None
  if _MODE.value == "fields":
    if config is None:
      raise UserError("--config: name a config file, such as configs/X.py")
    command_line.show(reference.lines(config))
    return
  if _MODE.value == "plan":
    _plan(config)
    return
  if not _WORKDIR.value:
    raise UserError("--workdir: name a folder for the run")
  if config is not None:
    validate(config)
  elif _MODE.value in ("train", "check"):
    raise UserError("--config: name a config file, such as configs/X.py")
  else:
    config = of_workdir.get_config(_WORKDIR.value)
  if _PROFILE.value:
    try:
      first, last = map(int, _PROFILE.value)
    except ValueError:
      raise UserError("--profile: give two steps, such as 10,20") from None
    if not 1 <= first <= last:
      raise UserError(
        f"--profile={first},{last}: expected a first and a last step"
      )
    profile = (first, last)

  # Only now what takes seconds to import: a mistake is told at once.
  try:
    from segsiam_jax import check, evaluate, exporting, predict, train
    from segsiam_jax.engine import distributed, runtime
  except ValueError as error:  # JAX reads its variables when it is imported.
    raise UserError(
      f"{first_line(error)}; fix or unset the variable of the environment"
    ) from error

  if _MODE.value == "check":
    check.check(config, _WORKDIR.value)
    return
  runtime.enable_compilation_cache()
  with distributed.joined():
    if _MODE.value == "train":
      train.train_and_evaluate(config, _WORKDIR.value, profile)
    elif _MODE.value == "eval":
      evaluate.evaluate(config, _WORKDIR.value, _CHECKPOINT.value)
    elif _MODE.value == "export":
      exporting.export(
        config,
        _WORKDIR.value,
        _FORMAT.value,
        _OUTPUT.value,
        _CHECKPOINT.value,
      )
    else:
      predict.predict(
        config, _WORKDIR.value, _INPUT.value, _OUTPUT.value, _CHECKPOINT.value
      )


def _plan(config) -> None:
  from segsiam_jax.config import validate

  if config is None:
    raise UserError("--config: name a config file, such as configs/X.py")
  if not _TOPOLOGY.value:
    raise UserError("--topology: name the devices, such as v5e:4x4 or cpu:8")
  if not config.data.auto:  # No data are read.
    config.data.dir = config.data.dir or "DATA"
  validate(config)
  # Before jax is imported: nothing here is a TPU, nor looked for.
  os.environ |= {
    "JAX_PLATFORMS": "cpu",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-8",
    # Several plans at once: none of them holds a chip.
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
  }
  from segsiam_jax import capacity

  command_line.show(
    capacity.plan_steps(config, _TOPOLOGY.value, _WORKDIR.value or "")
  )


def main() -> None:
  process.configure_and_restart()
  app.run(
    functools.partial(command_line.run, _run),
    flags_parser=command_line.parse_flags,
  )


if __name__ == "__main__":
  main()
