"""Objects in image files of any size."""

import dataclasses
import pathlib
from collections import Counter
from collections.abc import Callable, Mapping

import ml_collections
import numpy as np

from segsiam_jax.data import images
from segsiam_jax.data.instance.annotations import Annotations
from segsiam_jax.data.instance.rows import InstanceRows, assign_buckets
from segsiam_jax.errors import UserError
from segsiam_jax.fields.instance import canvas
from segsiam_jax.files import strict_json
from segsiam_jax.prediction import files as files_lib
from segsiam_jax.prediction.output import Output
from segsiam_jax.prediction.predictor import Predictor
from segsiam_jax.report import coco_results
from segsiam_jax.tasks.detections import Found, results_of

RESULTS_FILE = "results.json"
IMAGES_FILE = "images.json"
# Pictures of small images are enlarged to about this many pixels per side.
_PICTURE_SIDE = 512
# Of larger images every second pixel, every third and so on is shown.
_LARGEST_PICTURE = 2048


def predict_files(
  config: ml_collections.ConfigDict,
  checkpoint: str,
  files: Mapping[pathlib.Path, str],
  output: Output,
) -> list[str]:
  """Finds the objects in image files.

  Writes, for an image NAME.jpg, `overlays/NAME.png` with the objects that
  score `predict.min_score`, and a line in `predictions.jsonl`. All detections
  are in `results.json`, in COCO's format of results with masks as run lengths
  at the images' own size; `images.json` has the images and the categories that
  it refers to, so that `COCO("images.json").loadRes("results.json")` reads it.

  Args:
    config: of the run.
    checkpoint: its folder.
    files: see `files.list_files`.
    output: what is written to.

  Returns:
    A complaint for every file that could not be predicted. If all fail, what
    was there before stays.

  Raises:
    UserError: see `Output.claim`.
  """
  output.claim(
    [
      *(files_lib.LINES_FILE, RESULTS_FILE, IMAGES_FILE),
      *(f"overlays/{stem}.png" for stem in files.values()),
    ]
  )
  class_names = tuple(config.data.class_names)
  category_ids = tuple(config.data.category_ids) or range(
    1, len(class_names) + 1
  )
  image_format = images.ImageFormat(config.data.channels)
  find = Finder(config, checkpoint)
  known: list[dict] = []

  def predict_all(add: Callable[[Mapping], None]) -> list[str]:
    def predict_one(path: pathlib.Path, stem: str) -> dict:
      image = images.read_as(path, image_format)
      try:
        found_at = find(image)
        found = found_at(image.shape[:2])
      except UserError as error:
        raise UserError(f"{path}: {error}") from error
      height, width = image.shape[:2]
      image_id = len(known) + 1
      for result in results_of(image_id, found.encoded(), category_ids):
        add(result)
      known.append(
        {
          "id": image_id,
          "file_name": path.name,
          "height": height,
          "width": width,
        }
      )
      step = -(-max(height, width) // _LARGEST_PICTURE)
      small = image[::step, ::step]
      shown = found_at(small.shape[:2]).above(config.predict.min_score)
      zoom = max(1, _PICTURE_SIDE // max(height, width))
      picture = shown.draw(small, class_names, zoom)
      output.write(f"overlays/{stem}.png", files_lib.png(picture))
      counts = Counter(shown.classes.tolist())
      return {
        "height": height,
        "width": width,
        "image_id": image_id,
        "objects": {
          name: counts[label] for label, name in enumerate(class_names, 1)
        },
      }

    return files_lib.predict_each(files, output, predict_one)

  try:
    with (
      output.open_text(RESULTS_FILE) as file,
      coco_results.as_list(file) as add,
    ):
      complaints = predict_all(add)
      if not known:
        raise _NothingFoundError
  except _NothingFoundError:
    return complaints
  categories = [
    {"id": number, "name": name}
    for number, name in zip(category_ids, class_names, strict=True)
  ]
  header = {
    # Some versions of pycocotools ask for it.
    "info": {},
    "images": known,
    "categories": categories,
    "annotations": [],
  }
  text = strict_json.dumps(header, indent=1) + "\n"
  output.write(IMAGES_FILE, text.encode())
  return complaints


class _NothingFoundError(Exception):
  """No file could be predicted, so that earlier results stay."""


class Finder:
  """(H, W, C) uint8 of any size -> what is found in it, at a size wanted."""

  def __init__(self, config: ml_collections.ConfigDict, checkpoint: str):
    data = config.data
    self._canvases = [canvas(b) for b in data.eval_buckets or data.buckets]
    self._rows = InstanceRows(
      canvas=self._canvases[0],
      channels=data.channels,
      max_objects=1,
      min_side=data.min_side,
      max_side=data.max_side,
      enlarge_only=data.enlarge_only,
      stretch=data.stretch,
    )
    self._predictor = Predictor(config, checkpoint, self._rows.spec())

  def __call__(self, image: np.ndarray) -> Callable[[tuple[int, int]], Found]:
    size, rows = image.shape[:2], self._rows
    [bucket] = assign_buckets(
      np.array([size]),
      self._canvases,
      rows.min_side,
      rows.max_side,
      rows.enlarge_only,
    )
    rows = dataclasses.replace(rows, canvas=self._canvases[bucket])
    nothing = Annotations(
      id=0,
      size=size,
      boxes=np.zeros((0, 4), np.float32),
      classes=np.zeros(0, np.int32),
      is_crowd=np.zeros(0, bool),
      masks=None,
    )
    row = rows({"image": image, "objects": nothing}, np.random.default_rng(0))
    [out] = self._predictor([{name: row[name] for name in ("image", "size")}])
    return lambda wanted: Found.of(out, row["size"], wanted)
