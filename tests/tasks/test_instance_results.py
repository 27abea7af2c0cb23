"""Detections and their scores, as pycocotools and people read them."""

import json

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from segsiam_jax import inputs
from segsiam_jax.data.instance.annotations import OneClass
from segsiam_jax.data.instance.coco import CocoSource
from segsiam_jax.errors import UserError
from segsiam_jax.metrics import encode_mask
from segsiam_jax.report import coco_results
from segsiam_jax.tasks.detections import Found, InstanceMetrics
from tests.cells import make_config


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
