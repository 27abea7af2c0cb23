"""The instance task: losses, buckets, AP and pictures."""

import dataclasses
import json
import logging
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segsiam_jax import inputs, train
from segsiam_jax.config import default_config, validate
from segsiam_jax.engine import meshes, runs, steps
from segsiam_jax.engine.state import create_state, make_optimizer
from segsiam_jax.errors import UserError
from segsiam_jax.evaluate import evaluate
from segsiam_jax.metrics.base import compute_all, widen
from segsiam_jax.models.mask_rcnn import FORMS, MaskRCNN
from segsiam_jax.predict import predict
from tests.cells import SIZES, make_config


@pytest.fixture(scope="module")
def losses(cells):
  """A function of a batch: loss, gradients and metrics, of one compilation.

  Rows know nothing of each other, as there is no batch norm.
  """
  config = make_config(cells)
  config.data.buckets = ("64x96",)
  config.model.norm = "group"
  config.loss.roi_box, config.loss.mask = 0.5, 2.0
  config.augment.contrast, config.augment.invert = (0.4, 0.6), 0.5
  task = runs.make_task(config, inputs.open_inputs(config, train=True)[3])
  params, model_state = jax.jit(task.init)(jax.random.key(0))

  @jax.jit
  def step(batch):
    def loss(params):
      out = task.loss_fn(params, model_state, batch, jax.random.key(1))
      return out.loss, out.metrics

    return jax.value_and_grad(loss, has_aux=True)(params)

  def losses(batch):
    (total, metrics), grads = step(batch)
    return float(total), grads, compute_all(widen(metrics))

  return losses


@pytest.fixture
def config(cells):
  return make_config(cells)


@pytest.mark.slow
def test_one_compilation_a_bucket(config, caplog):
  mesh = meshes.make_mesh(jax.devices()[:1])
  data = inputs.open_inputs(config, train=True)
  eval_data = inputs.open_inputs(config, train=False)
  config = inputs.of_training(config, data.source)
  task = runs.make_task(config, data.element_spec)
  tx, _ = make_optimizer(config.optimizer, 10)
  state = create_state(task, tx, 0, sharding=meshes.replicated(mesh))
  train_step = steps.make_train_step(task, tx, mesh=mesh)
  predict_step = steps.make_predict_step(task, mesh=mesh)
  shapes, seen = set(), []
  with jax.log_compiles(), caplog.at_level(logging.WARNING):
    iterator = iter(data.batches)
    for _ in range(6):
      batch = next(iterator)
      shapes.add(batch["image"].shape)
      batch = meshes.to_global(batch, mesh, "jit")
      state, metrics = train_step(state, batch)
      assert np.isfinite(compute_all(widen(metrics))["loss"])
    iterator.close()
    for batch in [*eval_data.batches] * 2:
      seen += batch["index"][batch["mask"] > 0].tolist()
      predict_step(state, meshes.to_global(batch, mesh, "jit"))
  assert shapes == {(4, *size, 3) for size in SIZES}
  assert sorted(seen) == sorted([*range(5)] * 2)
  messages = [record.getMessage() for record in caplog.records]
  for name in ("train_step", "predict_step"):
    compiled = [text for text in messages if f"Compiling jit({name})" in text]
    assert len(compiled) == len(SIZES), messages


@pytest.fixture
def batch(config):
  config.data.buckets = ("64x96",)
  iterator = iter(inputs.open_inputs(config, train=True).batches)
  taken = next(iterator)
  iterator.close()
  return taken


@pytest.mark.slow
def test_images_without_objects_give_finite_gradients(losses, batch):
  batch = dict(
    batch, valid=np.zeros_like(batch["valid"]), boxes=0 * batch["boxes"]
  )
  total, grads, metrics = losses(batch)
  assert np.isfinite(total)
  assert metrics["rpn_box"] == metrics["mask"] == metrics["roi_box"] == 0
  for leaf in jax.tree.leaves(grads):
    assert jnp.isfinite(leaf).all()


def test_the_loss_is_the_sum_of_global_means(losses, batch):
  total, _, metrics = losses(batch)
  weights = {"roi_box": 0.5, "mask": 2.0}
  expected = sum(
    weights.get(name, 1.0) * metrics[name]
    for name in ("rpn_objectness", "rpn_box", "roi_class", "roi_box", "mask")
  )
  assert total == pytest.approx(expected, rel=1e-5)
  assert metrics["loss"] == pytest.approx(total)


def test_padding_rows_count_for_nothing(losses, batch):
  batch = dict(batch, mask=np.array([1, 1, 0, 0], np.float32))
  other = {name: np.copy(values) for name, values in batch.items()}
  other["image"][2:], other["valid"][2:] = 99, False
  assert losses(batch)[0] == pytest.approx(losses(other)[0])


def test_padding_of_an_image_is_the_mean(losses, batch):
  """What lies beyond the image's size never reaches the model."""
  other = {name: np.copy(values) for name, values in batch.items()}
  for row, (height, width) in enumerate(batch["size"]):
    other["image"][row, height:] = 200
    other["image"][row, :, width:] = 100
  assert (batch["size"] < (64, 96)).any()
  assert losses(batch)[0] == pytest.approx(losses(other)[0], rel=1e-6)


def test_a_run_knows_the_numbers_of_its_classes(cells):
  source = SimpleNamespace(category_ids=(3, 17), class_names=("cat", "dog"))
  config = inputs.of_training(make_config(cells), source)
  assert config.data.category_ids == (3, 17)
  again = inputs.of_evaluation(config, source, ("cat", "dog"))
  assert again.data.category_ids == (3, 17)
  config.data.category_ids = (3,)
  with pytest.raises(UserError, match="category_ids"):
    validate(config)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["mask_rcnn", "faster_rcnn"])
def test_trains_evaluates_and_predicts(cells, model, tmp_path):
  config = make_config(cells, model)
  config.data.stretch = True
  config.augment.scale = (0.5, 2.0)
  config.augment.noise, config.augment.contrast = 0.02, (0.8, 1.2)
  config.augment.flip_left_right = config.augment.transpose = True
  config.augment.invert = 0.5
  if model == "mask_rcnn":
    config.augment.copy_paste = 0.5
  config.eval.max_detections = config.model.max_detections = 200
  config.model.max_candidates = 200
  config.train.best_metric = "box/AP"
  config.predict.min_score = 0.0
  validate(config)
  workdir = str(tmp_path)
  train.train_and_evaluate(config, workdir)
  lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
  [scores] = [
    line for line in map(json.loads, lines) if line["split"] == "eval"
  ]
  assert ("mask/AP50_covered" in scores) == (model == "mask_rcnn")
  assert {"box/AP", "box/AR_100", "box/AP_200", "left_out"} <= set(scores)
  assert list((tmp_path / "images").iterdir())

  again = evaluate(config, workdir)
  assert again["box/AP"] == scores["box/AP"]
  found = json.loads((tmp_path / "detections.json").read_text())
  names = {f"{index:03d}" for index in range(5)}
  assert found and {one["image_id"] for one in found} <= names
  assert ("segmentation" in found[0]) == (model == "mask_rcnn")

  inputs_ = [str(cells / "test" / "images")]
  assert predict(config, workdir, inputs_) == 5
  results = json.loads((tmp_path / "predictions/results.json").read_text())
  images = json.loads((tmp_path / "predictions/images.json").read_text())
  assert len(images["images"]) == 5
  assert images["categories"] == [{"id": 1, "name": "cell"}]
  # The data set's own number of the class, as evaluation writes it.
  config.data.category_ids = (17,)
  assert predict(config, workdir, inputs_, str(tmp_path / "numbered")) == 5
  numbered = json.loads((tmp_path / "numbered/results.json").read_text())
  assert numbered == [one | {"category_id": 17} for one in results]
  text = (tmp_path / "numbered/images.json").read_text()
  assert json.loads(text)["categories"] == [{"id": 17, "name": "cell"}]
  for result in results:
    image = images["images"][result["image_id"] - 1]
    x, y, width, height = result["bbox"]
    assert x + width <= image["width"] + 0.1
    assert y + height <= image["height"] + 0.1
    if model == "mask_rcnn":
      size = result["segmentation"]["size"]
      assert size == [image["height"], image["width"]]
  assert len(list((tmp_path / "predictions/overlays").iterdir())) == 5


@pytest.mark.parametrize(
  ("field", "value", "message"),
  [
    ("data.buckets", ("64",), "HEIGHTxWIDTH, such as '800x1344'; got '64'"),
    ("data.buckets", ("64x100",), "must be multiples of 32"),
    ("data.buckets", (), "give at least one"),
    ("data.dir", "", "the folder that holds the images is needed"),
    ("eval.max_detections", 500, "returns model.max_detections = 16"),
    ("data.name", "coco/2017", "has no masks; .*'faster_rcnn' will do"),
    ("data.one_class", "thing", "a folder has one class where"),
  ],
)
def test_mistakes_are_told_before_anything_runs(config, field, value, message):
  section, name = field.split(".")
  config[section][name] = value
  with pytest.raises(UserError, match=rf"config\.{field} = .*{message}"):
    validate(config)


def test_every_field_of_a_model_is_in_the_config():
  """And the other way round, with the same default."""
  ours = {
    field.name: field.default
    for field in dataclasses.fields(MaskRCNN)
    if field.name
    not in ("num_classes", "with_masks", "dtype", "axis_name", "parent", "name")
  }
  ours["roi_chunk"] = 0
  for model in ("mask_rcnn", "faster_rcnn"):
    config = default_config("instance", model).model.to_dict()
    assert config.pop("name") == model
    assert config == ours
    # A detector of boxes has no mask head.
    ours.pop("mask_convs", None)
  for form in FORMS.values():
    make = default_config("instance", "mask_rcnn")
    make.model.update(form)
    make.data.one_class = "digit"
    validate(make)


@pytest.mark.slow
def test_backends_agree(config):
  """One step of jit on one device, and of pmap on two."""
  config.data.buckets = ("32x32",)
  # Nothing is chosen by a score, where the last digits would decide: all 258
  # anchors are proposals, and all proposals are learned from.
  config.model.rpn_pre_nms = config.model.rpn_post_nms = (258, 258)
  config.model.rpn_threshold = 1.0
  config.model.rpn_samples = config.model.roi_samples = 600
  config.model.rpn_positives = config.model.roi_positives = 0.5
  config.optimizer.name, config.optimizer.learning_rate = "momentum", 0.01
  results = []
  for backend, count in (("jit", 1), ("jit", 2), ("pmap", 2), ("shard_map", 2)):
    config.backend = backend
    mesh = meshes.make_mesh(jax.devices()[:count])
    data = inputs.open_inputs(config, train=True)
    task = runs.make_task(config, data.element_spec)
    tx, _ = make_optimizer(config.optimizer, 10)
    state = create_state(task, tx, 0, sharding=meshes.replicated(mesh))
    step = steps.make_train_step(task, tx, mesh=mesh, backend=backend)
    iterator = iter(data.batches)
    batch = meshes.to_global(next(iterator), mesh, backend)
    iterator.close()
    state, metrics = step(state, batch)
    results.append((compute_all(widen(metrics)), jax.device_get(state.params)))
  (values, params), *others = results
  for other_values, other_params in others:
    assert other_values == pytest.approx(values, rel=1e-4)
    for one, other in zip(
      jax.tree.leaves(params), jax.tree.leaves(other_params), strict=True
    ):
      np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)
