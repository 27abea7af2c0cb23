"""What a step does whatever the task: parts, averages, frozen norms.

With a task of a few numbers, against NumPy; and with real ones where the models
have a say.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from segsiam_jax.engine import meshes, steps
from segsiam_jax.engine.state import create_state
from segsiam_jax.metrics.base import Mean, compute_all, widen
from segsiam_jax.models import layers, towers
from segsiam_jax.tasks import base
from tests import step_runs
from tests.cells import make_config, write_cells
from tests.siamese_data import make_siamese_config, write_splits


def line_task(axis_name=None):
  """Fits a number w to numbers x: two terms, which weigh rows differently.

  The loss is mean (w - x)^2 + 3 mean |w - x|, the second mean with the weights
  of the batch, which the task does not tell before it has run.
  """

  def sums_of(params, model_state, batch, rng):
    noise = jax.vmap(lambda key: jax.random.normal(key))(
      base.row_keys(rng, len(batch["x"]), axis_name, batch.get("row"))
    )
    off = params["w"] - batch["x"] - 0.1 * noise
    sums = {
      "square": Mean.of(off**2, batch["mask"]),
      "absolute": Mean.of(jnp.abs(off), batch["mask"] * batch["weight"]),
    }
    return sums, model_state

  def loss_of(sums):
    means = {name: base.mean_of(each) for name, each in sums.items()}
    loss = means["square"] + 3 * means["absolute"]
    return loss, {name: Mean.of(mean) for name, mean in means.items()}

  sums = base.LossSums(sums_of, loss_of)
  return base.Task(
    init=lambda rng: ({"w": jnp.zeros(())}, {}),
    loss_fn=sums.loss_fn(axis_name),
    eval_step=None,
    predict=None,
    empty_metrics=None,
    draw=None,
    sums=sums,
  )


@pytest.fixture
def numbers(rng):
  return {
    "x": rng.normal(2, 1, 8).astype(np.float32),
    "mask": np.array([1, 1, 0, 1, 1, 1, 1, 1], np.float32),
    "weight": np.array([0, 7, 1, 0, 3, 0, 0, 2], np.float32),
  }


def fit(batch, count, rate=0.1, backend="jit", devices=1, **options):
  """The states and metrics of a few steps of gradient descent."""
  mesh = meshes.make_mesh(jax.devices()[:devices])
  task, tx = line_task(steps.axis_name(backend)), optax.sgd(rate)
  state = create_state(
    task,
    tx,
    0,
    ema=options.get("ema_decay", 0) > 0,
    sharding=meshes.replicated(mesh),
  )
  step = steps.make_train_step(task, tx, mesh=mesh, backend=backend, **options)
  states, history = [], []
  for _ in range(count):
    state, metrics = step(state, meshes.to_global(batch, mesh, backend))
    states.append(jax.device_get((state.params, state.ema_params)))
    history.append(compute_all(widen(metrics)))
  return states, history


@pytest.mark.parametrize(
  "way", [(4, "jit", 1), (4, "jit", 2), (2, "pmap", 2), (4, "shard_map", 2)]
)
def test_parts_are_divided_by_the_sums_of_the_whole(numbers, way):
  """Random rows included: a row has the same key in whichever part it is."""
  parts, backend, devices = way
  whole, history = fit(numbers, 3)
  ours, our_history = fit(
    numbers, 3, backend=backend, devices=devices, grad_accum=parts
  )
  for one, other in zip(ours, whole, strict=True):
    assert one[0]["w"] == pytest.approx(other[0]["w"], rel=1e-5)
  for one, other in zip(our_history, history, strict=True):
    assert one == pytest.approx(other, rel=1e-5)


def test_a_task_without_sums_takes_its_batch_whole():
  task = line_task()._replace(sums=None)
  with pytest.raises(ValueError, match="grad_accum"):
    steps.make_train_step(
      task, optax.sgd(0.1), mesh=meshes.make_mesh(), grad_accum=2
    )


@pytest.mark.parametrize("backend", ["jit", "pmap"])
@pytest.mark.parametrize("decay", [0.3, 0.999])
def test_average_warms_up(numbers, backend, decay):
  states, _ = fit(numbers, 12, backend=backend, devices=2, ema_decay=decay)
  expected = 0.0
  for n, (params, average) in enumerate(states):
    at_most = min(decay, (1 + n) / (10 + n))
    expected = at_most * expected + (1 - at_most) * params["w"]
    assert average["w"] == pytest.approx(expected, rel=1e-5)


def test_average_of_a_short_run_has_left_the_first_parameters(numbers):
  """At full decay it would be at a quarter of the way."""
  [*_, (params, average)], _ = fit(numbers, 300, rate=0.02, ema_decay=0.999)
  assert params["w"] > 1.0
  assert average["w"] == pytest.approx(params["w"], rel=0.05)


def test_steps_that_are_not_finite_are_counted(numbers):
  _, history = fit(numbers, 2)
  assert [values["finite"] for values in history] == [1, 1]
  infinite = dict(numbers, x=np.full(8, 1e30, np.float32))
  _, history = fit(infinite, 2)
  assert [values["finite"] for values in history] == [0, 0]


def moved(config, frozen):
  """Names of the batch statistics that training has changed, or not."""
  state, *_ = step_runs.train(config, 1, frozen=frozen)
  fresh = {"mean": 0.0, "var": 1.0}
  changed, kept = set(), set()
  for path, leaf in jax.tree_util.tree_flatten_with_path(
    state.model_state["batch_stats"]
  )[0]:
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    same = (np.asarray(leaf) == fresh[name.split("/")[-1]]).all()
    (kept if same else changed).add(name)
  return changed, kept


def split_by(names, prefix):
  return {name.startswith(prefix) for name in names}


def test_frozen_layers_of_a_segmentation_net_keep_their_statistics(tiny_config):
  changed, kept = moved(tiny_config, "^encoder")
  assert split_by(kept, "encoder") == {True}
  assert split_by(changed, "encoder") == {False}


def test_frozen_layers_of_a_siamese_net_keep_their_statistics(tmp_path):
  config = make_siamese_config(write_splits(tmp_path))
  changed, kept = moved(config, "^tower/(conv|bn)[12]/")
  assert {name.split("/")[1] for name in kept} == {"bn1", "bn2"}
  assert {name.split("/")[1] for name in changed} == {"bn3", "bn4"}


@pytest.mark.slow
def test_frozen_layers_of_a_detector_keep_their_statistics(tmp_path):
  write_cells(tmp_path / "train", 8, 0)
  config = make_config(tmp_path)
  config.data.buckets = ("64x96",)
  config.model.update(head_norm="batch", box_convs=1)
  changed, kept = moved(config, "^(encoder|box_head)")
  assert {name.split("/")[0] for name in kept} == {"encoder", "box_head"}
  assert {name.split("/")[0] for name in changed} == {"fpn", "mask_head"}


def test_a_frozen_norm_normalises_with_its_running_statistics(rng):
  model = towers.Conv4(width=4)
  images = jnp.asarray(rng.normal(3, 2, (4, 16, 16, 3)), jnp.float32)
  variables = model.init(jax.random.key(0), images)
  variables["batch_stats"] = jax.tree.map(
    lambda leaf: leaf + 0.5, variables["batch_stats"]
  )

  def run(pattern):
    with layers.frozen_norms(pattern):
      return model.apply(variables, images, train=True, mutable=["batch_stats"])

  out, state = run(".")
  np.testing.assert_allclose(
    out, model.apply(variables, images, train=False), rtol=1e-6
  )
  jax.tree.map(
    np.testing.assert_array_equal,
    state["batch_stats"],
    variables["batch_stats"],
  )
  # Kernels alone are no reason to keep the statistics of what learns.
  expected, new = run("")
  out, state = run("kernel$")
  np.testing.assert_array_equal(out, expected)
  jax.tree.map(
    np.testing.assert_array_equal, state["batch_stats"], new["batch_stats"]
  )
