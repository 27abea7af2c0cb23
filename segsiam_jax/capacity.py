"""What the steps of a config need on devices that are not here: `--mode=plan`.

The compiler of the devices compiles the train and the evaluation step of the
config, for shapes alone; nothing is run, and no data are read. TPUs need the
extra `tpu`, which has their compiler.
"""

import collections
import functools
import math
import re
import time
from collections.abc import Mapping
from typing import NamedTuple

import jax
import ml_collections
from jax.experimental import topologies
from jax.sharding import Mesh

from segsiam_jax.engine import chips, meshes, room, runs, runtime, steps
from segsiam_jax.engine.state import (
  TrainState,
  make_optimizer,
  new_state,
  placed,
)
from segsiam_jax.errors import UserError, first_line
from segsiam_jax.inputs import plan, shapes

# Examples of a data set whose size nobody knows: epochs need a number.
_MANY = 10_000
# A collective of the compiled program, with the type of its result. Those that
# are started and awaited count where they start.
_COLLECTIVE = re.compile(
  r"= (?P<type>\([^=]*?\)|\S+) (?P<kind>all-reduce|all-gather|reduce-scatter|"
  r"all-to-all|collective-permute)(?P<start>-start)?\("
)
_COMMENT = re.compile(r"/\*.*?\*/")
_ARRAY = re.compile(r"([a-z]+)(\d+)?\[([\d,]*)\]")
_OUT_OF_MEMORY = re.compile(r"Used ([\d.]+)([GMK]) of [\d.]+[GMK] hbm")
_UNITS = {"K": 2.0**10, "M": 2.0**20, "G": 2.0**30}


class Needs(NamedTuple):
  """What a compiled step needs of a device.

  Attributes:
    arguments: bytes of the state and the batch.
    temporaries: bytes of what is between.
    peak: bytes at the worst moment.
    flops: of a step; the compiler counts the body of a loop once.
    traffic: bytes that it reads and writes in its memory.
    collectives: bytes by kind.
    counts: number of them by kind.
    seconds: that compiling took.
    refusal: why the compiler refused it, '' if it did not.
  """

  arguments: int = 0
  temporaries: int = 0
  peak: float = 0.0
  flops: float = 0.0
  traffic: float = 0.0
  collectives: Mapping[str, int] = {}
  counts: Mapping[str, int] = {}
  seconds: float = 0.0
  refusal: str = ""


def plan_steps(
  config: ml_collections.ConfigDict, topology: str, workdir: str
) -> list[str]:
  """Compiles both steps, and says what they need.

  Args:
    config: of a run.
    topology: such as 'v5e:4x4', or 'cpu:8'.
    workdir: of the run, whose config says what its data have chosen; '' for
      none.

  Returns:
    Lines for people.

  Raises:
    UserError: there is no such topology, or no compiler for it.
  """
  kind, _, grid = topology.partition(":")
  devices = _devices(kind, grid, topology)
  shapes.check_suits(config, "--mode=plan")
  config = runs.in_steps(plan.planned(config, workdir), _MANY)
  mesh = meshes.of_config(config, devices)
  settings = config.train
  meshes.check_batches(config, mesh)
  config, train_spec, eval_spec = shapes.of_config(config)
  task = runs.make_task(config, train_spec)
  tx, _ = make_optimizer(config.optimizer, settings.num_steps)
  state = jax.eval_shape(
    functools.partial(
      new_state, task, tx, config.seed, ema=settings.ema_decay > 0
    )
  )
  state = placed(state, meshes.of_state(mesh, state))
  train = runs.make_train_step(config, task, tx, mesh)
  evaluate = steps.make_eval_step(
    runs.make_task(config, eval_spec), mesh=mesh, backend=config.backend
  )
  empty = placed(jax.eval_shape(task.empty_metrics), meshes.replicated(mesh))
  found = {
    "train": _compile(train, state, _batch(train_spec, mesh)),
    "eval": _compile(evaluate, state, _batch(eval_spec, mesh), empty),
  }
  chip = chips.TPUS.get(kind)
  lines = [*_about(config, mesh, topology, state)]
  for name, needs in found.items():
    rows = settings.batch_size if name == "train" else settings.eval_batch_size
    lines += _report(name, needs, rows, mesh, chip)
  lines += _advice(config, found["train"], chip)
  return lines


def _devices(kind: str, grid: str, topology: str) -> list[jax.Device]:
  if kind == "cpu" and grid.isdecimal() and int(grid):
    jax.config.update("jax_num_cpu_devices", int(grid))
    return runtime.all_devices()
  if kind not in chips.TPUS or not re.fullmatch(r"\d+(x\d+){1,2}", grid):
    raise UserError(
      f"--topology={topology}: expected {', '.join(chips.TPUS)} and a grid of "
      "chips, such as v5e:4x4 or v5p:2x2x4, or cpu:8"
    )
  try:
    found = topologies.get_topology_desc(platform="tpu", topology_name=topology)
  except Exception as error:
    # JAX raises what the plugin says, in several types.
    raise UserError(
      f"--topology={topology}: {first_line(error)}; the compiler of TPUs comes "
      "with pip install 'segsiam_jax[tpu]', and a grid has even sides"
    ) from error
  return list(found.devices)


def _batch(spec: shapes.Spec, mesh: Mesh) -> shapes.Spec:
  return {
    name: placed(leaf, meshes.of_batch(mesh, name, len(leaf.shape)))
    for name, leaf in spec.items()
  }


def _compile(step, *arguments) -> Needs:
  start = time.perf_counter()
  try:
    compiled = step.lower(*arguments).compile()
  except jax.errors.JaxRuntimeError as error:
    seconds = time.perf_counter() - start
    over = _OUT_OF_MEMORY.search(str(error))
    if over is None:
      raise
    peak = float(over[1]) * _UNITS[over[2]]
    return Needs(peak=peak, seconds=seconds, refusal=over[0])
  seconds = time.perf_counter() - start
  memory, cost = compiled.memory_analysis(), compiled.cost_analysis() or {}
  held, temporary = memory.argument_size_in_bytes, memory.temp_size_in_bytes
  sizes, counts = collections.Counter(), collections.Counter()
  for match in _COLLECTIVE.finditer(_COMMENT.sub("", compiled.as_text())):
    counts[match["kind"]] += 1
    sizes[match["kind"]] += _bytes(match["type"], bool(match["start"]))
  return Needs(
    held,
    temporary,
    # The CPU's compiler leaves temporaries out of its peak.
    max(held + temporary, memory.peak_memory_in_bytes),
    cost.get("flops", 0.0),
    cost.get("bytes accessed", 0.0),
    sizes,
    counts,
    seconds,
  )


def _bytes(kind: str, starts: bool) -> int:
  """Of the arrays in an HLO type; one that starts has its operands, too.

  >>> _bytes("(f32[2,3]{1,0}, bf16[4])", False)
  32
  """
  total = 0
  for letters, bits, shape in _ARRAY.findall(kind):
    width = int(bits or 8) // 8 if letters != "pred" else 1
    total += width * math.prod(int(n) for n in shape.split(",") if n)
  return total // 2 if starts else total


def _about(
  config: ml_collections.ConfigDict,
  mesh: Mesh,
  topology: str,
  state: TrainState,
) -> list[str]:
  axes = " x ".join(meshes.axes_of(mesh))
  numbers = sum(math.prod(x.shape) for x in jax.tree.leaves(state.params))

  return [
    f"{config.task}, {config.model.name}, {config.dtype}, {config.backend}: "
    f"{topology}, {mesh.size} devices ({axes or 'one'})",
    f"  parameters: {numbers:,}, {_size(room.nbytes(state.params))}; "
    f"{_size(room.nbytes_on_device(state.params))} a device",
    f"  optimizer: {_size(room.nbytes(state.opt_state))}; "
    f"{_size(room.nbytes_on_device(state.opt_state))} a device",
  ]


def _report(
  name: str, needs: Needs, rows: int, mesh: Mesh, chip: chips.Chip | None
) -> list[str]:
  """Lines about a step."""
  lines = [f"{name} step of {rows} rows, compiled in {needs.seconds:.0f} s"]
  if needs.refusal:
    return [*lines, f"  does not fit: {needs.refusal}"]
  against = f" of {_size(chip.memory)}" if chip else ""
  lines.append(
    f"  memory a device: arguments {_size(needs.arguments)}, temporaries "
    f"{_size(needs.temporaries)}, peak {_size(needs.peak)}{against}"
  )
  lines.append(
    f"  {needs.flops / 1e9:,.1f} GFLOP and {_size(needs.traffic)} of memory "
    "traffic a device (a loop counts once)"
  )
  total = sum(needs.collectives.values())
  kinds = ", ".join(
    f"{needs.counts[kind]} {kind} {_size(size)}"
    for kind, size in sorted(needs.collectives.items())
  )
  lines.append(f"  collectives: {kinds or 'none'}")
  if chip:
    times = {
      "arithmetic": needs.flops / chip.flops,
      "memory": needs.traffic / chip.bandwidth,
      "links": total / chip.links,
    }
    slowest = max(times, key=times.__getitem__)
    seconds = times[slowest]
    if seconds:
      lines.append(
        f"  at most {rows / seconds:,.0f} images/s on {mesh.size} devices, "
        f"bound by {slowest}: "
        + ", ".join(f"{k} {1e3 * v:.2f} ms" for k, v in times.items())
      )
  return lines


def _advice(
  config: ml_collections.ConfigDict, needs: Needs, chip: chips.Chip | None
) -> list[str]:
  """What to change where the train step does not fit."""
  if chip is None or needs.peak <= chip.memory:
    return []
  tries = []
  if config.dtype == "float32":
    tries.append("config.dtype=bfloat16")
  if not config.model.get("remat", True):
    tries.append("config.model.remat=True")
  if config.backend == "jit":
    tries.append("config.mesh.fsdp")
    if config.task == "semantic":
      tries.append("config.mesh.space")
  tries += ["config.train.grad_accum", "a smaller config.train.batch_size"]
  return [f"the train step does not fit; try {', '.join(tries)}"]


def _size(size: float) -> str:
  for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
    if size >= factor:
      return f"{size / factor:,.2f} {unit}"
  return f"{size:.0f} B"
