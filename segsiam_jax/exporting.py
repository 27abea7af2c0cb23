"""`--mode=export`: a trained network in files for elsewhere."""

import logging

import jax
import ml_collections

from segsiam_jax import parts
from segsiam_jax.engine import checkpoint, meshes, runs
from segsiam_jax.errors import UserError, nearest
from segsiam_jax.export import description
from segsiam_jax.files import paths
from segsiam_jax.inputs import plan, shapes
from segsiam_jax.prediction.output import Output

_logger = logging.getLogger(__name__)

# Modules with FILES and `make`.
FORMATS = {
  "safetensors": "segsiam_jax.export.package",
  "stablehlo": "segsiam_jax.export.stablehlo",
}


def export(
  config: ml_collections.ConfigDict,
  workdir: str,
  file_format: str,
  output: str = "",
  which: str = "best",
) -> None:
  """Writes a network of a workdir.

  Args:
    config: of the run.
    workdir: of the run.
    file_format: a key of `FORMATS`.
    output: folder to write to; '' for workdir/export.
    which: checkpoint: 'best', 'latest' or a step.

  Raises:
    UserError: there is no such format, or the network cannot be exported.
  """
  if file_format not in FORMATS:
    close = nearest(file_format, FORMATS)
    hint = f"; did you mean {close!r}?" if close else ""
    raise UserError(
      f"--format={file_format}: expected {' or '.join(FORMATS)}{hint}"
    )
  if config.task not in description.INPUTS:
    raise UserError(
      f"--mode=export: the task {config.task!r} predicts no files"
    )
  output = output or str(paths.resolve(workdir) / "export")
  folder = checkpoint.find(
    workdir, which, config.train.best_metric, config.train.best_mode
  )
  paths.make_writable("--output", output)
  target = Output(paths.resolve(output), ())
  module = parts.load(FORMATS[file_format])
  target.claim(list(module.FILES))
  config = plan.planned(config, workdir)
  # One row on one device, whatever the run was trained on.
  config = config.copy_and_resolve_references()
  config.mesh.update(fsdp=1, space=1)
  config.backend = "jit"
  config, _, spec = shapes.of_config(config)
  task = runs.make_task(config, spec)
  mesh = meshes.make_mesh(jax.local_devices()[:1])
  state = runs.weights_only(task, folder, mesh)
  about = description.describe(config, folder)
  for name, content in module.make(config, task, state, about).items():
    target.write(name, content)
    _logger.info("%s: %s bytes", target.folder / name, f"{len(content):,}")
