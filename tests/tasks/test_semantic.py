import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from segsiam_jax import inputs, losses, parts, train
from segsiam_jax.config import default_config
from segsiam_jax.data.semantic import class_balance
from segsiam_jax.engine import meshes, runs, steps
from segsiam_jax.engine.state import create_state
from segsiam_jax.errors import UserError
from segsiam_jax.fields.semantic_models import MODELS
from segsiam_jax.metrics.base import compute_all, widen


@pytest.fixture
def setup(tiny_config):
  """(config, task, params, model_state, last evaluation batch)."""
  data = inputs.open_inputs(tiny_config, train=False)
  task = runs.make_task(tiny_config, data.element_spec)
  params, model_state = jax.jit(task.init)(jax.random.key(0))
  *_, batch = data.batches
  return tiny_config, task, params, model_state, batch


def test_padding_rows_count_for_nothing(setup):
  _, task, params, model_state, batch = setup
  assert batch["mask"].tolist() == [1, 0, 0, 0]
  eval_step = jax.jit(task.eval_step)
  padded = compute_all(widen(eval_step(params, model_state, batch)))
  other = dict(batch, image=batch["image"].copy(), label=batch["label"].copy())
  other["image"][1:], other["label"][1:] = 200, 1
  assert padded == compute_all(widen(eval_step(params, model_state, other)))


@pytest.mark.slow
def test_scores_are_those_of_the_predictions(setup):
  config, task, params, model_state, batch = setup
  out = jax.jit(task.predict)(params, model_state, batch)
  np.testing.assert_array_equal(out["label"], out["probabilities"].argmax(-1))
  np.testing.assert_allclose(out["probabilities"].sum(-1), 1, rtol=1e-5)
  metrics = compute_all(
    widen(jax.jit(task.eval_step)(params, model_state, batch))
  )
  label, predicted = batch["label"][0], np.asarray(out["label"][0])
  assert metrics["pixel_accuracy"] == pytest.approx((label == predicted).mean())
  logits = jnp.log(out["probabilities"][:1])
  entropy = losses.softmax_cross_entropy(logits, batch["label"][:1])
  assert metrics["cross_entropy"] == pytest.approx(float(entropy[0]), rel=1e-4)
  dice = losses.dice_loss(
    logits, batch["label"][:1], smooth=config.loss.dice_smooth
  )
  assert metrics["loss"] == pytest.approx(float((entropy + dice)[0]), rel=1e-4)
  assert set(task.empty_metrics()) == set(
    task.eval_step(params, model_state, batch)
  )


def test_evaluation_applies_the_model_once(setup):
  """To count and to predict: the compiler joins both."""
  _, task, _, _, batch = setup
  mesh = meshes.make_mesh(jax.devices()[:1])
  state = create_state(task, optax.identity(), 0)
  placed = meshes.to_global(batch, mesh, "jit")
  both = steps.make_eval_step(task, mesh=mesh)
  both = both.lower(state, placed, task.empty_metrics()).compile()
  alone = steps.make_predict_step(task, mesh=mesh)
  alone = alone.lower(state, placed).compile()
  flops = [step.cost_analysis()["flops"] for step in (both, alone)]
  assert flops[0] < 1.3 * flops[1]


def test_rows_that_are_no_whole_files_are_not_counted(setup):
  _, task, params, model_state, batch = setup
  assert batch["whole"].tolist() == [1, 0, 0, 0]
  batch = dict(batch, whole=np.zeros(4, np.float32))
  state = jax.jit(task.eval_step)(params, model_state, batch)
  assert state[""].counts.sum() == 0
  assert state["loss"].count == 1


def test_every_field_of_a_model_is_in_the_config():
  """And the other way round, with the same default."""
  for name, model in MODELS.items():
    config = default_config("semantic", name).model.to_dict()
    ours = {
      field.name: field.default
      for field in dataclasses.fields(parts.load(model.make))
      if field.name
      # Labels have the image's size, so logits have: there is no choice of pad.
      not in ("num_classes", "dtype", "axis_name", "parent", "name", "pad")
    }
    config.pop("name")
    if "base_width" in config:
      # The paper's width is not the one to start with.
      config["base_width"] = ours["base_width"]
    assert config == ours


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fcn", "fcn_resnet", "unet_paper"])
def test_other_models_learn(tiny_config, name, tmp_path):
  config = default_config("semantic", name)
  for section in ("data", "augment", "loss", "train", "optimizer"):
    config[section] = tiny_config[section]
  config.optimizer.learning_rate = 1e-3
  if name == "unet_paper":
    config.model.base_width = 4
  if name == "fcn":
    config.model.width = 16
    # 232 pixels a side with its padding: slow.
    config.train.batch_size, config.train.num_steps = 4, 8
    config.train.log_every, config.train.eval_every = 4, 8
    config.optimizer.learning_rate = 1e-4
  train.train_and_evaluate(config, str(tmp_path))
  lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
  losses_ = [
    line["loss"] for line in map(json.loads, lines) if line["split"] == "train"
  ]
  assert losses_[-1] < losses_[0]


def test_pictures_show_valid_rows_alone(setup):
  _, task, params, model_state, batch = setup
  out = jax.device_get(jax.jit(task.predict)(params, model_state, batch))
  [picture] = task.draw(batch, out)
  assert picture.shape == (32, 3 * 32, 3)


def test_gradients_are_finite_when_everything_is_ignored(setup):
  _, task, params, model_state, batch = setup
  batch = dict(batch, label=np.full_like(batch["label"], 255))

  def loss(params):
    return task.loss_fn(params, model_state, batch, jax.random.key(0)).loss

  value, grads = jax.jit(jax.value_and_grad(loss))(params)
  assert value == 0
  for leaf in jax.tree.leaves(grads):
    assert jnp.isfinite(leaf).all()


@pytest.mark.slow
def test_losses_of_the_config_add_up(setup):
  config, task, params, model_state, batch = setup
  config = config.copy_and_resolve_references()
  config.loss.update(
    focal=0.5, jaccard=0.25, tversky=2.0, lovasz=0.125, dice=0.0
  )
  config.loss.class_weights = (0.5, 1.5)
  config.loss.hardest_fraction = 0.5
  task = runs.make_task(config, inputs.open_inputs(config, train=False)[3])
  state = compute_all(
    widen(jax.jit(task.eval_step)(params, model_state, batch))
  )
  logits = jnp.log(
    jax.jit(task.predict)(params, model_state, batch)["probabilities"][:1]
  )
  labels, weights = batch["label"][:1], (0.5, 1.5)
  expected = {
    "cross_entropy": losses.softmax_cross_entropy(
      logits, labels, class_weights=weights, hardest_fraction=0.5
    ),
    "focal": losses.focal_loss(logits, labels, class_weights=weights),
    "jaccard": losses.jaccard_loss(logits, labels, smooth=1.0),
    "tversky": losses.tversky_loss(logits, labels, smooth=1.0),
    "lovasz": losses.lovasz_softmax_loss(logits, labels),
  }
  total = 0.0
  for name, value in expected.items():
    assert state[name] == pytest.approx(float(value[0]), rel=1e-4)
    total += config.loss[name] * float(value[0])
  assert state["loss"] == pytest.approx(total, rel=1e-4)
  assert "dice" not in state


def test_class_weights_come_from_the_training_set(tiny_config):
  source = inputs.open_inputs(tiny_config, train=True).source
  counts = class_balance.class_pixels(source)
  assert counts.sum() == 12 * 32 * 32 and counts[0] > counts[1] > 0
  tiny_config.loss.balance = "inverse"

  def of_run(config):
    weights = inputs.of_training(config, source).loss.class_weights
    names = ("background", "disc")
    again = inputs.of_evaluation(config, source, names).loss.class_weights
    assert weights == again
    return np.array(weights)

  weights = of_run(tiny_config)
  np.testing.assert_allclose(
    weights * counts, weights[0] * counts[0], rtol=1e-3
  )
  assert weights.mean() == pytest.approx(1.0, abs=1e-3)
  tiny_config.loss.balance = "inverse_sqrt"
  root = of_run(tiny_config)
  assert root[1] / root[0] == pytest.approx(
    np.sqrt(weights[1] / weights[0]), rel=1e-3
  )
  tiny_config.loss.class_weights = (1.0, 3.0)
  assert of_run(tiny_config).tolist() == [1.0, 3.0]


@pytest.mark.slow
def test_training_with_a_weight_map_and_a_rand_score(tiny_config, tmp_path):
  tiny_config.loss.weight_map = 10.0
  tiny_config.data.foreground_crops = 0.5
  tiny_config.data.image_size = (24, 24)
  tiny_config.data.eval_image_size = (32, 32)
  tiny_config.eval.rand_class = "disc"
  tiny_config.train.num_steps = 2
  train.train_and_evaluate(tiny_config, str(tmp_path))
  lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
  last = json.loads(lines[-1])
  assert 0 < last["rand"] <= last["rand_best"] <= 1


def test_a_wrong_rand_class_is_told(tiny_config):
  spec = inputs.open_inputs(tiny_config, train=False).element_spec
  tiny_config.eval.rand_class = "disk"
  with pytest.raises(UserError, match="background, disc"):
    runs.make_task(tiny_config, spec)
