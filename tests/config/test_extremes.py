"""Values at the ends of every field: refused in one line, or valid."""

import time

import jax
import pytest

from segsiam_jax import parts
from segsiam_jax.config import default_config, fields, validate
from segsiam_jax.data import pipeline
from segsiam_jax.data.semantic import rows as semantic_rows
from segsiam_jax.engine import meshes, room, runs, state
from segsiam_jax.errors import UserError
from segsiam_jax.fields import common
from segsiam_jax.fields.tasks import TASKS

NAN, INFINITY = float("nan"), float("inf")
WHOLE = (-(2**63), -1, 0, 1, 10**6, 10**9, 2**31, 2**32, 2**63, 10**400)
REAL = (NAN, INFINITY, -INFINITY, -1e308, -1.0, 0.0, 1e-320, 1.0, 1e308)
TEXTS = ("", "\0", "x" * 10_000, "(", "\ud800", "a\nb", "../..")
MODELS = [
  (task, model)
  for task, of_task in TASKS.items()
  for model in parts.load(of_task.fields).MODELS
]


def ends(default):
  """Values of a field's type and of others, that nobody means."""
  if isinstance(default, tuple):
    items = list(ends(default[0]))
    return [(), *((item,) for item in items), *((x, x) for x in items)] + [
      (default[0],) * 10_000,
      None,
    ]
  if isinstance(default, bool):
    return [0, 1, None, "x"]
  if isinstance(default, int):
    return [*WHOLE, 0.5, NAN, True, None, "1"]
  if isinstance(default, float):
    return [*REAL, *WHOLE, True, None, "1"]
  return [*TEXTS, None, 1, b"x"]


def changed(task, model, name, value):
  config = default_config(task, model)
  if name.startswith("task") or name == "model.name":
    config = config.copy_and_resolve_references()
  *sections, last = name.split(".")
  node = config
  for section in sections:
    node = node[section]
  with node.ignore_type():
    node[last] = value
  return config


@pytest.mark.parametrize(("task", "model"), MODELS)
def test_every_field_takes_or_refuses_its_ends(task, model):
  """In one short line, within a second; 10^400 and NaN are never valid."""
  of_model = fields(task, model)
  if model != next(model for name, model in MODELS if name == task):
    of_model = {
      name: field
      for name, field in of_model.items()
      if name.startswith("model.")
    }
  for name, field in of_model.items():
    for value in ends(field.default):
      try:
        config = changed(task, model, name, value)
      except OverflowError:
        continue  # Of ml_collections, which the command line tells.
      since = time.monotonic()
      try:
        validate(config)
      except UserError as error:
        line = str(error)
        assert "\n" not in line and len(line) < 700, (name, line)
        assert line.startswith("config."), line
      else:
        flat = value if isinstance(value, tuple) else (value,)
        for item in flat:
          if isinstance(item, int | float):
            assert abs(item) <= 3.4e38, (name, value)
      assert time.monotonic() - since < 1, (name, str(value)[:50])


@pytest.mark.parametrize("value", [[0.5, 0.5], [NAN, 0.5], []])
def test_lists_are_as_good_as_tuples(value):
  config = changed("semantic", "unet", "optimizer.step_boundaries", value)
  if NAN in value:
    with pytest.raises(UserError, match="finite"):
      validate(config)
  else:
    validate(config)


def test_the_largest_seed_seeds_all():
  largest = 2**32 - 1
  assert common.FIELDS["seed"].check(largest) == ""
  assert common.FIELDS["seed"].check(largest + 1)
  jax.random.key(largest)
  dataset = pipeline.make_pipeline(
    range(4),
    semantic_rows.SemanticRows((4, 4), channels=1, fit="resize", train=True),
    batch_size=2,
    train=True,
    seed=largest,
  )
  dataset.__iter__().close()


def wide(task, model):
  """Fields that make a model wide, and a config in which 10^6 is valid."""
  for name, field in fields(task, model).items():
    value = 10**6
    if isinstance(field.default, tuple):
      value = (10**6,) * len(field.default)
    if not name.startswith("model.") or type(field.default) in (bool, str):
      continue
    config = changed(task, model, name, value)
    try:
      validate(config)
    except UserError:
      continue
    yield name, config


@pytest.mark.slow
@pytest.mark.parametrize(("task", "model"), MODELS)
def test_models_that_no_memory_holds_are_told_with_their_size(
  monkeypatch, task, model
):
  """Whatever makes them wide; they are traced, and nothing is made."""
  monkeypatch.setattr(room, "host", lambda: 0.0)
  for name, config in wide(task, model):
    config.data.class_names = ("a", "b")
    size = (96, 96) if task == "instance" else tuple(config.data.image_size)
    spec = {"image": jax.ShapeDtypeStruct((8, *size, 3), "uint8")}
    made = runs.make_task(config, spec)
    tx, _ = state.make_optimizer(config.optimizer, 10)
    with pytest.raises(UserError, match=r"the parameters [\d,.]+ GB, ") as told:
      state.create_state(
        made, tx, 0, sharding=meshes.replicated(meshes.make_mesh())
      )
    assert "\n" not in str(told.value), name


def test_a_batch_that_no_machine_holds_is_told_with_its_size():
  spec = {
    "image": jax.ShapeDtypeStruct((10**9, 512, 512, 3), "uint8"),
    "mask": jax.ShapeDtypeStruct((10**9,), "float32"),
  }
  with pytest.raises(
    UserError,
    match=r"a batch of 1,000,000,000 rows 786,43\d\.\d GB: this machine has "
    r"[\d.,]+ GB of memory; lower config.train.batch_size",
  ):
    room.check_batch("train.batch_size", spec)
  room.check_batch(
    "train.batch_size",
    {name: jax.ShapeDtypeStruct((8, 8, 8, 3), "uint8") for name in spec},
  )
  assert room.nbytes(spec) == 10**9 * (512 * 512 * 3 + 4)
