"""Compiles a config's instance step for TPU v5e, on a machine without one.

    python -m benchmarks.tpu_compile --config=configs/maskrcnn_r50_coco.py \
      --size=1024x1024 --images=1 --mode=train --config.model.roi_method=matmul

The TPU's own compiler (`pip install jax[tpu]`) says what a chip of eight would
hold and do; nothing is run. Prints a row of a Markdown table: memory in GiB of
the arguments (the state and the batch), of the temporaries, and of both at the
worst moment; TFLOP a step, of which the compiler counts a loop's body once;
collectives; and how long the compilation took. Where a step does not fit into a
chip's memory the compiler refuses, and says how much it would need.

`--chips=0` compiles for this machine's CPU instead.
"""

import collections
import os
import re
import time

# Before jax is imported: no TPU is looked for.
os.environ.update(
  JAX_PLATFORMS="cpu",
  TPU_SKIP_MDS_QUERY="1",
  TPU_ACCELERATOR_TYPE="v5litepod-8",
  TPU_WORKER_HOSTNAMES="localhost",
)

import jax
from absl import app, flags
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from ml_collections import config_flags

from segsiam_jax.data import pipeline
from segsiam_jax.data.instance.rows import InstanceRows
from segsiam_jax.engine import meshes, runs, steps
from segsiam_jax.engine.state import TrainState, make_optimizer
from segsiam_jax.fields.instance import canvas

_CONFIG = config_flags.DEFINE_config_file("config", None, "Config file.")
_MODE = flags.DEFINE_enum("mode", "train", ["train", "predict"], "Which step.")
_SIZE = flags.DEFINE_string("size", "1024x1024", "HEIGHTxWIDTH of the images.")
_IMAGES = flags.DEFINE_integer("images", 1, "Of a chip.")
_CLASSES = flags.DEFINE_integer("classes", 80, "Without the background.")
_CHIPS = flags.DEFINE_integer("chips", 8, "8, or 0 for this machine's CPU.")


def make_mesh(chips: int) -> Mesh:
  if not chips:
    return meshes.make_mesh(jax.devices()[:1])
  topology = topologies.get_topology_desc(
    platform="tpu", topology_name="v5e:2x4"
  )
  return meshes.make_mesh(list(topology.devices))


def lower(mesh: Mesh) -> jax.stages.Lowered:
  """The step of `--mode`, for shapes that are on no device."""
  config = _CONFIG.value.copy_and_resolve_references()
  config.data.class_names = tuple(map(str, range(_CLASSES.value)))
  rows = InstanceRows(
    canvas(_SIZE.value), 3, config.data.max_objects, config.data.mask_size
  )
  spec = pipeline.element_spec(rows, _IMAGES.value * mesh.size)
  task = runs.make_task(config, spec)
  tx, _ = make_optimizer(config.optimizer, config.train.num_steps)

  def create() -> TrainState:
    params, model_state = task.init(jax.random.key(0))
    return TrainState(
      0, params, model_state, tx.init(params), jax.random.key(0)
    )

  def place(tree, spec):
    sharding = NamedSharding(mesh, spec)
    return jax.tree.map(
      lambda leaf: jax.ShapeDtypeStruct(
        leaf.shape, leaf.dtype, sharding=sharding
      ),
      tree,
    )

  state = place(jax.eval_shape(create), P())
  if _MODE.value == "train":
    step = steps.make_train_step(
      task, tx, mesh=mesh, frozen=config.optimizer.frozen
    )
  else:
    step = steps.make_predict_step(task, mesh=mesh)
    state = state.replace(opt_state=())
  return step.lower(state, place(spec, P(meshes.AXIS)))


def main(argv: list[str]) -> None:
  del argv
  model = _CONFIG.value.model
  name = (
    f"| {_MODE.value} | {model.roi_method} | {_CONFIG.value.dtype} "
    f"| {'yes' if model.remat else 'no'} | {_IMAGES.value} x {_SIZE.value} |"
  )
  lowered = lower(make_mesh(_CHIPS.value))
  start = time.perf_counter()
  try:
    compiled = lowered.compile()
  except jax.errors.JaxRuntimeError as error:
    needed = re.search(r"Used .* hbm\.", str(error))
    print(f"{name} {needed[0] if needed else error}", flush=True)
    return
  seconds = time.perf_counter() - start
  memory, gib = compiled.memory_analysis(), 2.0**30
  held, temporary = memory.argument_size_in_bytes, memory.temp_size_in_bytes
  # The CPU's compiler leaves temporaries out of its peak.
  sizes = [held, temporary, max(held + temporary, memory.peak_memory_in_bytes)]
  flops = compiled.cost_analysis()["flops"] / 1e12
  collectives = collections.Counter(
    re.findall(
      r" (all-reduce|all-gather|all-to-all|collective-permute)(?:-start)?\(",
      compiled.as_text(),
    )
  )
  print(
    name,
    " | ".join(f"{size / gib:.2f}" for size in sizes),
    f"| {flops:.2f} | {dict(collectives)} | {seconds:.0f} s |",
    flush=True,
  )


if __name__ == "__main__":
  flags.mark_flag_as_required("config")
  app.run(main)
