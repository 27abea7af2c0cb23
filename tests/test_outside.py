"""What evaluation reports is what the files say that prediction writes.

Nothing here uses the package's metrics: scores are computed with NumPy, or
with pycocotools, from files alone.
"""

import json

import jax
import numpy as np
import pytest
from PIL import Image

from segsiam_jax import (
  checkpoint,
  evaluate,
  inputs,
  predict,
  runs,
  runtime,
  train,
)
from segsiam_jax.config import default_config, validate
from segsiam_jax.data.builders.digits import png
from segsiam_jax.errors import UserError
from segsiam_jax.evaluate import Evaluator
from segsiam_jax.prediction.labels import label_pixels
from segsiam_jax.prediction.probabilities import Probabilities
from tests.data.tfds_fakes import fake, prepare
from tests.siamese_data import make_siamese_config, write_splits
from tests.tasks.test_instance import make_config as make_instance_config
from tests.tasks.test_instance import write_cells

CLASSES = ("ground", "disc", "rim")
# The second is a row's size, the first is larger than any row, and the third
# smaller in one axis.
SIZES = ((70, 52), (32, 32), (24, 60), (41, 33), (32, 32))
VOLUMES = ((5, 40, 33), (4, 32, 32), (3, 24, 40))


def write_scenes(folder, sizes, channels, dtype, seed):
  """Discs with rims in noise, some pixels of the masks ignored."""
  random = np.random.default_rng(seed)
  for kind in ("images", "masks"):
    (folder / kind).mkdir(parents=True)
  for index, size in enumerate(sizes):
    place = np.stack(np.indices(size), -1)
    center = np.array(size) * random.uniform(0.3, 0.7, len(size))
    distance = np.linalg.norm(place - center, axis=-1)
    radius = 0.3 * min(size[-2:])
    mask = (distance < radius).astype(np.uint8)
    mask[(distance >= radius) & (distance < 1.4 * radius)] = 2
    bright = np.array([70, 170, 120])[mask][..., None]
    image = bright + random.normal(0, 35, (*size, channels))
    image = np.clip(image, 0, 255).astype(dtype)
    mask[random.random(size) < 0.02] = 255
    if channels in (1, 3) and len(size) == 2:
      Image.fromarray(image[..., 0] if channels == 1 else image).save(
        folder / f"images/{index}.png"
      )
      Image.fromarray(mask).save(folder / f"masks/{index}.png")
    else:
      np.save(folder / f"images/{index}.npy", image)
      np.save(folder / f"masks/{index}.npy", mask)


def read_pages(path):
  """Whatever Pillow or NumPy make of a file of one number a pixel."""
  if path.suffix == ".npy":
    return np.load(path)
  with Image.open(path) as image:
    pages = []
    for page in range(getattr(image, "n_frames", 1)):
      image.seek(page)
      pages.append(np.asarray(image))
  return np.stack(pages) if path.suffix == ".tif" else pages[0]


def scores_of_files(labels, masks, classes):
  """The usual scores of files with the same names in two folders."""
  counts = np.zeros((len(classes), len(classes)), np.int64)
  written = {path.stem: path for path in labels.iterdir()}
  assert len(written) == len(list(masks.iterdir()))
  for path in masks.iterdir():
    mask, label = read_pages(path), read_pages(written[path.stem])
    assert label.shape == mask.shape
    for true in range(len(classes)):
      for found in range(len(classes)):
        counts[true, found] += ((mask == true) & (label == found)).sum()
  # Else anything would do.
  assert (counts.sum(0) > 0).sum() > 1
  right, true, found = counts.diagonal(), counts.sum(1), counts.sum(0)
  iou, dice = right / (true + found - right), 2 * right / (true + found)
  scores = {
    "mean_iou": iou.mean(),
    "mean_dice": dice.mean(),
    "pixel_accuracy": right.sum() / counts.sum(),
    "mean_accuracy": (right / true).mean(),
    "frequency_weighted_iou": (true * iou).sum() / counts.sum(),
  }
  for index, name in enumerate(classes):
    scores[f"iou/{name}"], scores[f"dice/{name}"] = iou[index], dice[index]
    scores[f"accuracy/{name}"] = right[index] / true[index]
  return scores


def trained(root, channels=3, dtype="uint8", sizes=SIZES, **data):
  """(config, workdir) of a short run on scenes in `root`."""
  write_scenes(root / "train", sizes, channels, dtype, 0)
  write_scenes(root / "test", sizes, channels, dtype, 1)
  config = default_config("semantic", "unet")
  config.data.update(
    name="folder",
    dir=str(root),
    class_names=CLASSES,
    image_size=(32, 32),
    fit="crop",
    channels=channels,
    image_dtype=dtype,
    mean=(110.0,) * channels,
    std=(50.0,) * channels,
    threads=2,
  )
  config.data.update(data)
  config.model.update(depth=1, base_width=4, norm="none")
  config.loss.class_weights = (0.3, 1.0, 1.7)
  config.optimizer.learning_rate = 2e-2
  config.train.update(
    batch_size=4,
    eval_batch_size=4,
    num_steps=40,
    eval_every=40,
    checkpoint_every=40,
    num_pictures=1,
    best_metric="mean_iou",
  )
  validate(config)
  train.train_and_evaluate(config, str(root / "run"))
  return config, root / "run"


def changed(config, **fields):
  """A copy with 'SECTION.FIELD's set."""
  config = config.copy_and_resolve_references()
  for name, value in fields.items():
    section, _, field = name.rpartition("__")
    node = config[section] if section else config
    node[field] = value
  validate(config)
  return config


def check(config, workdir, out):
  """Evaluates, predicts, and compares; returns what was reported."""
  reported = evaluate.evaluate(config, str(workdir))
  test = f"{config.data.dir}/test"
  predict.predict(config, str(workdir), [f"{test}/images"], str(out))
  expected = scores_of_files(
    out / "labels", (workdir.parent / "test/masks"), CLASSES
  )
  assert {name: reported[name] for name in expected} == pytest.approx(
    expected, rel=1e-9
  )
  return reported


@pytest.fixture(scope="module")
def colours(tmp_path_factory):
  return trained(tmp_path_factory.mktemp("colours"))


def last_evaluation(workdir):
  lines = (workdir / "metrics.jsonl").read_text().splitlines()
  lines = [json.loads(line) for line in lines]
  return [line for line in lines if line["split"] == "eval"][-1]


@pytest.mark.parametrize(
  "fields",
  [
    pytest.param({"data__fit": "crop"}, id="crop"),
    pytest.param({"data__fit": "resize"}, id="resize"),
    pytest.param({"data__fit": "pad"}, id="pad"),
    pytest.param(
      {"data__fit": "resize", "data__eval_image_size": (48, 40)},
      id="resize to another size",
    ),
    pytest.param(
      {"data__fit": "pad", "data__eval_image_size": (64, 48)},
      id="pad to another size",
      marks=pytest.mark.slow,
    ),
    pytest.param(
      {"data__fit": "crop", "data__eval_image_size": (70, 52)},
      id="crop, rows as large as one file",
      marks=pytest.mark.slow,
    ),
    pytest.param({"predict__window": (32, 32)}, id="windows"),
    pytest.param(
      {
        "data__fit": "pad",
        "predict__window": (24, 40),
        "predict__overlap": 0.25,
        "predict__blend": "center",
      },
      id="pad, windows",
      marks=pytest.mark.slow,
    ),
    pytest.param(
      {
        "predict__window": (32, 32),
        "predict__blend": "constant",
        "predict__flips": "horizontal",
      },
      id="windows, flips",
      marks=pytest.mark.slow,
    ),
    pytest.param(
      {"data__fit": "resize", "predict__flips": "all"}, id="resize, flips"
    ),
    pytest.param(
      {"data__fit": "crop", "predict__flips": "all"},
      id="crop, flips",
      marks=pytest.mark.slow,
    ),
    pytest.param({"backend": "pmap", "data__fit": "resize"}, id="pmap, resize"),
    pytest.param(
      {"backend": "pmap", "data__fit": "crop"},
      id="pmap, crop",
      marks=pytest.mark.slow,
    ),
    pytest.param(
      {"backend": "pmap", "predict__window": (32, 32)},
      id="pmap, windows",
      marks=pytest.mark.slow,
    ),
  ],
)
def test_labels_of_images(colours, tmp_path, fields):
  config, workdir = colours
  check(changed(config, **fields), workdir, tmp_path / "out")


def test_training_reports_the_same(colours, tmp_path):
  """And so does the best checkpoint, which it chooses."""
  config, workdir = colours
  reported = check(config, workdir, tmp_path / "out")
  last = last_evaluation(workdir)
  assert {name: last[name] for name in reported} == pytest.approx(
    reported, rel=1e-6
  )


@pytest.mark.parametrize("fit", ["resize", "crop"])
def test_weights_that_are_nan_have_no_score(colours, tmp_path, fit):
  config, workdir = colours
  config = changed(config, data__fit=fit)
  data = inputs.open_inputs(config, train=False)
  task = runs.make_task(config, data.element_spec)
  mesh = runtime.make_mesh()
  folder = checkpoint.find(str(workdir), "latest", "", "max")
  state = runs.weights_only(task, folder, runtime.replicated(mesh))
  spoiled = jax.tree.map(lambda leaf: leaf * np.nan, state.params)
  state = state.replace(params=spoiled)
  with pytest.raises(UserError, match="NaN.*earlier checkpoint"):
    Evaluator(config, task, data, mesh=mesh)(state)
  image = np.zeros((40, 50, 3), np.uint8)
  predictor = Probabilities(config).with_weights(state)
  with pytest.raises(UserError, match="NaN"):
    label_pixels(predictor(image), (40, 50))


@pytest.mark.parametrize("fit", ["resize", "crop"])
def test_the_rand_score_is_that_of_the_files(colours, tmp_path, fit):
  """At a threshold of one half, which argmax is, with two classes."""
  from scipy import ndimage

  config, workdir = colours
  root = tmp_path / "data"
  for kind in ("images", "masks"):
    (root / "test" / kind).mkdir(parents=True)
  source = workdir.parent / "test"
  for path in (source / "images").iterdir():
    (root / "test/images" / path.name).write_bytes(path.read_bytes())
    Image.fromarray(read_pages(source / "masks" / path.name) % 2).save(
      root / "test/masks" / path.name
    )
  two = changed(
    config,
    data__dir=str(root),
    data__train_split="test",
    data__class_names=("ground", "disc"),
    loss__class_weights=(1.0, 1.0),
    data__fit=fit,
    eval__rand_class="disc",
  )
  train.train_and_evaluate(two, str(tmp_path / "run"))
  reported = evaluate.evaluate(two, str(tmp_path / "run"))
  out = tmp_path / "out"
  images = str(root / "test/images")
  predict.predict(two, str(tmp_path / "run"), [images], str(out))
  scores = []
  for path in (root / "test/masks").iterdir():
    truth, _ = ndimage.label(read_pages(path) == 1)
    label = read_pages(out / "labels" / path.name)
    parts, count = ndimage.label(label == 1)
    if count:
      _, nearest = ndimage.distance_transform_edt(
        parts == 0, return_indices=True
      )
      parts = parts[tuple(nearest)]
    inside = truth > 0
    both = np.zeros((count + 1, truth.max() + 1))
    np.add.at(both, (parts[inside], truth[inside]), 1)
    total = (both.sum(0) ** 2).sum() + (both.sum(1) ** 2).sum()
    scores.append(2 * (both**2).sum() / total)
  assert reported["rand"] == pytest.approx(np.mean(scores), rel=1e-9)


@pytest.mark.parametrize("fit", ["crop", "resize"])
def test_labels_of_grey_images(tmp_path, fit):
  config, workdir = trained(tmp_path, channels=1, fit=fit)
  check(config, workdir, tmp_path / "out")


def test_labels_of_a_tfds_set(colours, tmp_path):
  """Pets of several sizes, and the trimaps 1 pet, 2 background, 3 border."""
  import tensorflow_datasets as tfds

  config, workdir = colours
  examples = []
  for path in sorted((workdir.parent / "test/images").iterdir()):
    mask = read_pages(workdir.parent / "test/masks" / path.name)
    mask = np.where(mask == 255, 0, mask) + np.uint8(1)
    image = read_pages(path)
    examples.append({"image": png(image), "segmentation_mask": png(mask)})
    for kind, array in (("images", image), ("masks", mask - np.uint8(1))):
      (tmp_path / kind).mkdir(exist_ok=True)
      Image.fromarray(array).save(tmp_path / kind / path.name)
  features = {
    "image": tfds.features.Image(shape=(None, None, 3)),
    "segmentation_mask": tfds.features.Image(shape=(None, None, 1)),
  }
  version = str(tfds.builder_cls("oxford_iiit_pet").VERSION)
  cls = fake("oxford_iiit_pet", version, features, examples)
  prepare(tmp_path / "tfds", cls)
  config = config.copy_and_resolve_references()
  config.data.update(
    name="oxford_iiit_pet",
    dir=str(tmp_path / "tfds"),
    train_split="train",
    eval_split="train",
    class_names=(),
    fit="resize",
  )
  validate(config)
  train.train_and_evaluate(config, str(tmp_path / "run"))
  reported = evaluate.evaluate(config, str(tmp_path / "run"))
  config.data.class_names = ("pet", "background", "border")
  out = tmp_path / "out"
  images = str(tmp_path / "images")
  predict.predict(config, str(tmp_path / "run"), [images], str(out))
  names = config.data.class_names
  expected = scores_of_files(out / "labels", tmp_path / "masks", names)
  assert {name: reported[name] for name in expected} == pytest.approx(
    expected, rel=1e-9
  )


@pytest.mark.slow
def test_labels_of_five_channels_of_sixteen_bits(tmp_path):
  config, workdir = trained(tmp_path, channels=5, dtype="uint16")
  for name, fields in {
    "crop": {},
    "resize": {"data__fit": "resize"},
    "pad": {"data__fit": "pad"},
    "windows": {"predict__window": (32, 32)},
  }.items():
    check(changed(config, **fields), workdir, tmp_path / name)


@pytest.mark.slow
def test_labels_of_volumes(tmp_path):
  config, workdir = trained(
    tmp_path,
    channels=1,
    dtype="uint16",
    sizes=VOLUMES,
    image_size=(4, 32, 32),
  )
  for name, fields in {
    "crop": {},
    "windows": {"predict__window": (2, 24, 24)},
    "flips": {"predict__flips": "horizontal"},
  }.items():
    check(changed(config, **fields), workdir, tmp_path / name)


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
