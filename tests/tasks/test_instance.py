"""The instance task: losses, buckets, AP and pictures."""

import dataclasses
import json
import logging
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from segsiam_jax import inputs, train
from segsiam_jax.config import default_config, validate
from segsiam_jax.data.instance.annotations import OneClass
from segsiam_jax.data.instance.coco import CocoSource
from segsiam_jax.engine import runs, runtime, steps
from segsiam_jax.engine.state import create_state, make_optimizer
from segsiam_jax.errors import UserError
from segsiam_jax.evaluate import evaluate
from segsiam_jax.metrics import encode_mask
from segsiam_jax.metrics.base import compute_all, widen
from segsiam_jax.models.mask_rcnn import FORMS, MaskRCNN
from segsiam_jax.predict import predict
from segsiam_jax.report import coco_results
from segsiam_jax.tasks.detections import Found, InstanceMetrics
from tests.cells import SIZES, make_config, write_cells


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
  root = tmp_path_factory.mktemp("cells")
  write_cells(root / "train", 8, 0)
  write_cells(root / "test", 5, 1)
  return root


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


def perfect(source, index, size, count=6):
  """A row of predictions that is the truth of an example, seen at `size`."""
  objects = source.annotations(index)
  ratio = np.divide(size, objects.size)
  row = {
    "boxes": np.zeros((count, 4), np.float32),
    "classes": np.zeros(count, np.int32),
    "scores": np.zeros(count, np.float32),
    "valid": np.zeros(count, bool),
    "masks": np.zeros((count, 28, 28), np.float32),
  }
  for k, box in enumerate(objects.boxes):
    row["boxes"][k] = box * np.tile(ratio[::-1], 2)
    row["classes"][k] = objects.classes[k]
    row["scores"][k] = 0.9
    row["valid"][k] = True
    x1, y1, x2, y2 = box.astype(int)
    mask = objects.masks[k].whole(objects.size)[y1:y2, x1:x2]
    scaled = Image.fromarray(mask.astype(np.float32)).resize((28, 28))
    row["masks"][k] = np.asarray(scaled)
  return row


def test_true_detections_have_an_ap_of_one(config):
  """Brought back from the size that the model saw; padding does not count."""
  data = inputs.open_inputs(config, train=False)
  source = data.source
  size = np.array([32, 40])
  rows = [perfect(source, index, size) for index in range(5)]
  metrics = InstanceMetrics(source, ("cell",), 100)
  predictions = {
    name: np.stack([row[name] for row in rows] + [rows[0][name]])
    for name in rows[0]
  }
  batch = {
    "mask": np.array([1, 1, 1, 1, 1, 0], np.float32),
    "index": np.array([0, 1, 2, 3, 4, -1]),
    "size": np.tile(size, (6, 1)),
  }
  metrics.add(batch, predictions)
  values = metrics.gather().compute()
  assert values["box/AP"] == pytest.approx(1.0)
  assert values["mask/AP50"] == pytest.approx(1.0)
  assert values["mask/AP"] > 0.8
  # The objects that a batch leaves out are in the truth all the same.
  predictions["valid"][:, 1:] = False
  metrics = InstanceMetrics(source, ("cell",), 100)
  metrics.add(batch, predictions)
  assert metrics.compute()["box/AR_100"] < 0.5


def write_coco(source, root):
  """The examples of a source as a COCO folder, with ids that are not counts."""
  (root / "val" / "images").mkdir(parents=True)
  content = {
    "images": [],
    "annotations": [],
    "categories": [{"id": 4, "name": "cell"}],
  }
  for index in range(len(source)):
    example = source[index]
    objects, image_id = example["objects"], 100 - 7 * index
    name = f"{index}.png"
    Image.fromarray(example["image"]).save(root / "val" / "images" / name)
    height, width = objects.size
    content["images"].append(
      {"id": image_id, "file_name": name, "height": height, "width": width}
    )
    for box, crop in zip(objects.boxes, objects.masks, strict=True):
      x1, y1, x2, y2 = box.tolist()
      content["annotations"].append(
        {
          "id": len(content["annotations"]) + 1,
          "image_id": image_id,
          "category_id": 4,
          "bbox": [x1, y1, x2 - x1, y2 - y1],
          "area": int(crop.mask.sum()),
          "iscrowd": 0,
          "segmentation": encode_mask(crop.whole(objects.size)),
        }
      )
  (root / "val" / "instances.json").write_text(json.dumps(content))


def test_results_score_the_same_with_the_users_own_file(
  config, tmp_path, capsys
):
  """pycocotools, given the data set's JSON and our results, finds our AP."""
  write_coco(inputs.open_inputs(config, train=False).source, tmp_path)
  source = CocoSource(str(tmp_path), "val")
  metrics = InstanceMetrics(source, source.class_names, 100)
  random = np.random.default_rng(0)
  size = np.array([64, 64])
  for index in range(len(source)):
    row = perfect(source, index, size)
    shifts = random.integers(-3, 4, row["boxes"].shape)
    row["boxes"] = np.rint(row["boxes"]) + shifts
    row["scores"] = row["valid"] * random.uniform(0.1, 1.0, 6).round(2)
    batch = {"mask": [1.0], "index": [index], "size": size[None]}
    metrics.add(batch, {name: value[None] for name, value in row.items()})
  file = tmp_path / "detections.json"
  metrics.write(str(tmp_path))
  truth = COCO(str(tmp_path / "val" / "instances.json"))
  found = truth.loadRes(str(file))
  ours = metrics.compute()
  for kind, name in (("bbox", "box"), ("segm", "mask")):
    evaluation = COCOeval(truth, found, kind)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert 0.05 < evaluation.stats[0] < 0.95
    assert ours[f"{name}/AP"] == evaluation.stats[0]
    assert ours[f"{name}/AR_100"] == evaluation.stats[8]
  capsys.readouterr()


def test_other_categories_in_evaluation_are_refused(config, tmp_path):
  """Classes are known by their place, so names would be mixed up."""
  write_coco(inputs.open_inputs(config, train=False).source, tmp_path)
  config.data.name, config.data.dir = "coco", str(tmp_path)
  config.data.class_names = ()
  config.data.train_split = config.data.eval_split = "val"
  config.data.allow_overlap = True
  data = inputs.open_inputs(config, train=True)
  inputs.check_together(config, data, data)
  other = data._replace(source=OneClass(data.source, "nucleus"))
  with pytest.raises(UserError, match="has the classes nucleus, and .* cell"):
    inputs.check_together(config, data, other)


def test_results_are_written_whole_or_not_at_all(tmp_path):
  file = tmp_path / "detections.json"
  with coco_results.write_results(file):
    pass
  assert json.loads(file.read_text()) == []
  with (
    pytest.raises(KeyError),
    coco_results.write_results(file) as add,
  ):
    add(coco_results.result("a", 1, (0, 0, 1, 1), 0.5))
    raise KeyError
  assert json.loads(file.read_text()) == []
  assert [one.name for one in tmp_path.iterdir()] == ["detections.json"]


@pytest.mark.slow
def test_one_compilation_a_bucket(config, caplog):
  mesh = runtime.make_mesh(jax.devices()[:1])
  data = inputs.open_inputs(config, train=True)
  eval_data = inputs.open_inputs(config, train=False)
  config = inputs.of_training(config, data.source)
  task = runs.make_task(config, data.element_spec)
  tx, _ = make_optimizer(config.optimizer, 10)
  state = create_state(task, tx, 0, sharding=runtime.replicated(mesh))
  train_step = steps.make_train_step(task, tx, mesh=mesh)
  predict_step = steps.make_predict_step(task, mesh=mesh)
  shapes, seen = set(), []
  with jax.log_compiles(), caplog.at_level(logging.WARNING):
    iterator = iter(data.batches)
    for _ in range(6):
      batch = next(iterator)
      shapes.add(batch["image"].shape)
      batch = runtime.to_global(batch, mesh, "jit")
      state, metrics = train_step(state, batch)
      assert np.isfinite(compute_all(widen(metrics))["loss"])
    iterator.close()
    for batch in [*eval_data.batches] * 2:
      seen += batch["index"][batch["mask"] > 0].tolist()
      predict_step(state, runtime.to_global(batch, mesh, "jit"))
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


def test_drawing_names_what_it_shows():
  found = Found(
    size=(40, 60),
    boxes=np.array([[5, 5, 25, 30], [30, 10, 50, 35]], np.float32),
    classes=np.array([1, 2]),
    scores=np.array([0.9, 0.4], np.float32),
    masks=np.ones((2, 28, 28), np.float32),
  )
  image = np.zeros((40, 60, 1), np.uint8)
  picture = found.draw(image, ("hen", "fox"), zoom=2)
  assert picture.shape == (80, 120, 3)
  assert picture[20:50, 20:40].any() and not picture[:, 104:].any()
  sure = found.above(0.5).draw(image, ("hen", "fox"), zoom=2)
  assert not sure[:, 56:].any()


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
    mesh = runtime.make_mesh(jax.devices()[:count])
    data = inputs.open_inputs(config, train=True)
    task = runs.make_task(config, data.element_spec)
    tx, _ = make_optimizer(config.optimizer, 10)
    state = create_state(task, tx, 0, sharding=runtime.replicated(mesh))
    step = steps.make_train_step(task, tx, mesh=mesh, backend=backend)
    iterator = iter(data.batches)
    batch = runtime.to_global(next(iterator), mesh, backend)
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
