"""The same numbers on the default device as on the CPU.

Started by benchmarks/accelerator.py; prints a line of its table for each check,
as soon as it is known, and ends with code 1 if one of them differs.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks import model_rows
from benchmarks.models_ours import MODELS
from cases.public_functions import trials
from cases.public_functions_tables import TABLES
from segsiam_jax.config import default_config
from segsiam_jax.engine import meshes, runtime, steps
from segsiam_jax.engine.state import create_state
from segsiam_jax.errors import first_line
from segsiam_jax.metrics.base import compute_all, widen
from segsiam_jax.tasks import semantic


class Check(NamedTuple):
  """Something to compute on two devices.

  Attributes:
    name: what it is.
    results: computes arrays or numbers on the default device.
    tolerance: of the difference, as a share of the largest value.
  """

  name: str
  results: Callable[[], Any]
  tolerance: float


def functions() -> Iterator[Check]:
  """Every public function of losses, metrics and ops that a device computes."""
  for table in TABLES:
    for trial in trials(table.CASES):
      if not trial.case.host:
        yield Check(
          trial.name,
          # As arguments: what a program is built on, a compiler computes.
          lambda trial=trial: jax.jit(trial.call)(**trial.case.arrays),
          max(1e-4, trial.case.rtol),
        )


def models() -> Iterator[Check]:
  """A train step and the outputs of every model of the benchmarks."""
  for name in model_rows.ROWS:
    row = model_rows.find(name, tiny=True)

    def results(row=row):
      case = MODELS[row.model](row, jnp.float32)
      outputs = case.infer(case.variables, case.batch[0])
      state, loss = case.step(case.state(), *case.batch)
      # Of single weights Adam's first step is the sign of the gradient.
      return outputs, loss, optax.tree.norm(state[0])

    yield Check(f"model {name}", results, 2e-3)


def backends() -> Iterator[Check]:
  """Three steps of a U-Net as jit runs them and as pmap does."""

  def results(backend, devices):
    config = default_config("semantic", "unet")
    config.backend = backend
    config.data.class_names = ("background", "object")
    config.model.depth = 1
    config.model.base_width = 4
    config.augment.rotate = 10.0
    rng = np.random.default_rng(0)
    batch = {
      "image": rng.integers(0, 256, (8, 32, 32, 3), np.uint8),
      "label": rng.integers(0, 2, (8, 32, 32), np.uint8),
      "mask": np.ones(8, np.float32),
    }
    spec = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), batch)
    mesh = meshes.make_mesh(devices)
    task = semantic.make_task(config, spec, steps.axis_name(backend))
    tx = optax.sgd(0.1)
    state = create_state(task, tx, 0, sharding=meshes.replicated(mesh))
    step = steps.make_train_step(task, tx, mesh=mesh, backend=backend)
    history = []
    for _ in range(3):
      state, metrics = step(state, meshes.to_global(batch, mesh, backend))
      history.append(compute_all(widen(metrics)))
    return jax.device_get((history, state.params))

  # Eight rows are spread over as many devices as divide them.
  count = max(n for n in (1, 2, 4, 8) if n <= jax.device_count())

  def devices():
    chosen = jax.config.jax_default_device
    return jax.devices()[:count] if chosen is None else [chosen]

  for backend in ("jit", "pmap", "shard_map"):
    yield Check(
      f"three steps of {backend} on {count} devices",
      lambda backend=backend: results(backend, devices()),
      1e-3,
    )


def difference(ours: Any, right: Any) -> float:
  """The largest, as a share of the largest value; infinite for other ones."""
  worst = 0.0
  for one, other in zip(
    jax.tree.leaves(ours), jax.tree.leaves(right), strict=True
  ):
    one, other = (np.asarray(x).astype(np.float64) for x in (one, other))
    same = np.array_equal(one, other, equal_nan=True)
    if same or one.size == 0:
      continue
    finite = np.isfinite(one) & np.isfinite(other)
    if not np.array_equal(one[~finite], other[~finite], equal_nan=True):
      return np.inf
    scale = max(np.abs(other[finite]).max(initial=0.0), 1e-6)
    worst = max(worst, np.abs(one - other)[finite].max() / scale)
  return worst


def main() -> None:
  parser = argparse.ArgumentParser()
  parser.add_argument("--only", default="", help="part of a check's name")
  parser.add_argument(
    "--part", default="0/1", help="I/N: every Nth check, from the Ith on"
  )
  args = parser.parse_args()
  first, step = map(int, args.part.split("/"))
  runtime.enable_compilation_cache()
  # Models first: they take the longest.
  checks = [
    check
    for check in (*models(), *backends(), *functions())
    if args.only in check.name
  ]
  verdicts = []
  for check in checks[first::step]:
    cells, verdict = compare(check)
    verdicts.append(verdict)
    print(f"| {check.name} | {cells} | {verdict} |", flush=True)
  sys.exit(not all(verdict == "same" for verdict in verdicts))


def compare(check: Check) -> tuple[str, str]:
  """The difference and its limit, and 'same' or what is wrong."""
  try:
    # A matrix unit's short products would be a difference of their own.
    with jax.default_matmul_precision("highest"):
      ours = jax.device_get(check.results())
      with jax.default_device(jax.devices("cpu")[0]):
        right = jax.device_get(check.results())
  except Exception as error:
    return "|", f"FAILS: {type(error).__name__}: {first_line(error)[:200]}"
  found = difference(ours, right)
  verdict = "same" if found <= check.tolerance else "DIFFERS"
  return f"{found:.1e} | {check.tolerance:.0e}", verdict


if __name__ == "__main__":
  main()
