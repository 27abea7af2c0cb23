"""What evaluation reports of objects and of identities, from files alone.

Computed with pycocotools, or with NumPy, from what prediction writes.
"""

import json

import numpy as np
import pytest

from segsiam_jax import evaluate, predict, train
from segsiam_jax.config import validate
from tests.cells import make_config as make_instance_config
from tests.cells import write_cells
from tests.scenes import read_pages
from tests.siamese_data import make_siamese_config, write_splits


@pytest.mark.slow
@pytest.mark.parametrize("model", ["mask_rcnn", "faster_rcnn"])
def test_objects(tmp_path, model):
  from pycocotools import mask as coco_masks
  from pycocotools.coco import COCO
  from pycocotools.cocoeval import COCOeval

  write_cells(tmp_path / "train", 8, 0)
  write_cells(tmp_path / "test", 5, 1)
  config = make_instance_config(tmp_path, model)
  # Files are seen at another size than their own.
  config.data.min_side, config.data.max_side = 48, 96
  config.train.update(num_steps=60, eval_every=60, checkpoint_every=60)
  config.optimizer.learning_rate = 5e-3
  validate(config)
  train.train_and_evaluate(config, str(tmp_path / "run"))
  reported = evaluate.evaluate(config, str(tmp_path / "run"))
  out = tmp_path / "out"
  images = str(tmp_path / "test/images")
  predict.predict(config, str(tmp_path / "run"), [images], str(out))
  known = json.loads((out / "images.json").read_text())
  for image in known["images"]:
    labels = read_pages(tmp_path / "test/labels" / image["file_name"])
    for number in range(1, labels.max() + 1):
      mask = labels == number
      if not mask.any():
        continue
      ys, xs = np.nonzero(mask)
      run = coco_masks.encode(np.asfortranarray(mask.astype(np.uint8)))
      x, y = int(xs.min()), int(ys.min())
      size = int(xs.max()) + 1 - x, int(ys.max()) + 1 - y
      known["annotations"].append(
        {
          "id": len(known["annotations"]) + 1,
          "image_id": image["id"],
          "category_id": 1,
          "bbox": [x, y, *size],
          "area": int(mask.sum()),
          "iscrowd": 0,
          "segmentation": run | {"counts": run["counts"].decode()},
        }
      )
  truth_file = tmp_path / "truth.json"
  truth_file.write_text(json.dumps(known))
  truth = COCO(str(truth_file))
  found = truth.loadRes(str(out / "results.json"))
  kinds = {"box": "bbox"} | ({"mask": "segm"} if "mask" in model else {})
  for name, kind in kinds.items():
    peer = COCOeval(truth, found, kind)
    peer.evaluate()
    peer.accumulate()
    peer.summarize()
    assert peer.stats[1] > 0
    assert reported[f"{name}/AP"] == pytest.approx(peer.stats[0], abs=1e-6)
    assert reported[f"{name}/AP50"] == pytest.approx(peer.stats[1], abs=1e-6)


def embeddings_of(out):
  """By file name, as they were written."""
  with np.load(out / "embeddings.npz") as saved:
    return dict(zip(saved["files"], saved["embeddings"], strict=True))


@pytest.mark.slow
def test_scores_of_pairs_and_rankings(tmp_path):
  root = write_splits(tmp_path / "data")
  files = sorted(root.glob("test/*/*.png"))
  pairs = [
    (str(one), str(two), one.parent == two.parent)
    for index, one in enumerate(files)
    for two in files[index + 1 :: 3]
  ]
  lines = [
    f"{one[len(str(root)) + 1 :]},{two[len(str(root)) + 1 :]},{int(same)}\n"
    for one, two, same in pairs
  ]
  (root / "pairs.csv").write_text("first,second,same\n" + "".join(lines))
  config = make_siamese_config(root)
  workdir, out = tmp_path / "run", tmp_path / "out"
  train.train_and_evaluate(config, str(workdir))
  predict.predict(config, str(workdir), [str(root / "test")], str(out))
  vectors = embeddings_of(out)
  assert len(vectors) == len(files)

  # Identification: the nearest other file is of the same identity.
  reported = evaluate.evaluate(config, str(workdir))
  rows = np.stack([vectors[str(path)] for path in files]).astype(np.float64)
  away = np.linalg.norm(rows[:, None] - rows, axis=-1)
  np.fill_diagonal(away, np.inf)
  names = np.array([path.parent.name for path in files])
  right = names[away.argmin(1)] == names
  assert reported["precision_at_1"] == pytest.approx(right.mean())
  lines = (out / "predictions.jsonl").read_text().splitlines()
  for line in map(json.loads, lines):
    nearest = files[
      int(away[files.index(type(files[0])(line["file"]))].argmin())
    ]
    assert line["nearest"] == str(nearest)

  # Verification: the area under the curve is the share of ordered pairs.
  config.data.name, config.data.eval_split = "pairs", "pairs"
  reported = evaluate.evaluate(config, str(workdir))
  distances = np.array(
    [np.linalg.norm(vectors[one] - vectors[two]) for one, two, _ in pairs]
  )
  same = np.array([same for _, _, same in pairs])
  near, far = distances[same][:, None], distances[~same]
  auc = (near < far).mean() + 0.5 * (near == far).mean()
  assert reported["auc"] == pytest.approx(auc, abs=1e-6)
  # One pair after the other, as people would ask.
  for one, two, _ in pairs[:2]:
    predict.predict(config, str(workdir), [one, two], str(out))
    line = json.loads((out / "predictions.jsonl").read_text())
    distance = np.linalg.norm(vectors[one] - vectors[two])
    assert line["distance"] == pytest.approx(distance, abs=1e-5)
    assert line["same"] == (line["score"] >= line["threshold"])
