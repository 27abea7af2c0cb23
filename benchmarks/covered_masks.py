"""What a trained Mask R-CNN predicts for occluded digits.

    python -m benchmarks.covered_masks --workdir=runs/maskrcnn_digits

Takes the detection with the best box for every digit of the test scenes. Prints
one row of a Markdown table per range of the hidden share of a digit: how many
digits there are; the share whose box has an IoU of 0.5; and means over those:
IoU of the mask with the visible part of the digit and with the whole digit; the
share of the mask that lies on other digits; pixels of the mask and of the
visible part; and, for comparison, the IoU of the true mask with itself after
resampling to a mask head's 28x28 cells and back.
"""

import argparse
import io
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image

from segsiam_jax import inputs, process
from segsiam_jax.config import of_workdir
from segsiam_jax.data.builders.digit_scenes import DigitScenes, make_scene
from segsiam_jax.data.instance.annotations import Annotations, Crop
from segsiam_jax.data.instance.rows import mask_in_box
from segsiam_jax.engine import checkpoint, meshes, runs, steps
from segsiam_jax.ops.boxes import pairwise_iou
from segsiam_jax.ops.masks import paste_masks
from segsiam_jax.tasks.detections import Found

# Shares of a digit that are hidden.
RANGES = ((0.0, 0.001), (0.001, 0.25), (0.25, 0.4), (0.4, 0.7))
CELLS = 28


class Row(NamedTuple):
  """Of one digit; what is of a mask is NaN where no box is found."""

  hidden: float
  found: float
  iou_seen: float
  iou_whole: float
  on_others: float
  pixels: float
  pixels_seen: float
  iou_of_cells: float


def iou(a: np.ndarray, b: np.ndarray) -> float:
  return float((a & b).sum() / max(1, (a | b).sum()))


def whole_masks(index: int) -> list[np.ndarray]:
  """Of a test scene's digits, from the bottom of the pile to its top."""
  config = next(c for c in DigitScenes.BUILDER_CONFIGS if c.name == "crowds")
  masks = []
  for one in make_scene(index, "test", config)["objects"]:
    left, top = one["box"][:2].astype(int)
    mask = np.asarray(Image.open(io.BytesIO(one["mask"]))) != 0
    masks.append(Crop(top, left, mask).whole((config.size, config.size)))
  return masks


def rows_of(truth: Annotations, found: Found) -> Iterator[Row]:
  masks = list(found.whole_masks())
  overlaps = np.asarray(pairwise_iou(truth.boxes, found.boxes))
  seen = [crop.whole(truth.size) for crop in truth.masks]
  for number, (own, whole) in enumerate(
    zip(seen, whole_masks(truth.id), strict=True)
  ):
    cells = mask_in_box(truth.masks[number], truth.boxes[number], CELLS)
    [pasted] = paste_masks(
      cells[None] / 255.0, truth.boxes[number][None], truth.size
    )
    values = [np.nan] * 4
    hit = bool(masks) and overlaps[number].max() >= 0.5
    if hit:
      mask = masks[overlaps[number].argmax()]
      others = np.any(seen[:number] + seen[number + 1 :], axis=0)
      on_others = (mask & others).sum() / max(1, mask.sum())
      values = [iou(mask, own), iou(mask, whole), on_others, mask.sum()]
    yield Row(truth.covered[number], hit, *values, own.sum(), iou(pasted, own))


def main() -> None:
  process.configure_and_restart()
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--workdir", required=True)
  workdir = parser.parse_args().workdir
  config = of_workdir.read(workdir)
  data = inputs.open_inputs(config, train=False)
  config = inputs.of_evaluation(config, data.source, ())
  mesh = meshes.make_mesh()
  task = runs.make_task(config, data.element_spec)
  folder = checkpoint.find(
    workdir, "best", config.train.best_metric, config.train.best_mode
  )
  state = runs.weights_only(task, folder, mesh)
  predict = steps.make_predict_step(task, mesh=mesh, backend=config.backend)
  rows: list[Row] = []
  for batch in data.batches:
    placed = meshes.to_global(batch, mesh, config.backend)
    out = meshes.to_local(predict(state, placed), config.backend)
    for row in np.flatnonzero(batch["mask"]):
      truth = data.source.annotations(int(batch["index"][row]))
      one = {name: values[row] for name, values in out.items()}
      found = Found.of(one, batch["size"][row], truth.size)
      rows += rows_of(truth, found)
  print(
    "| hidden | digits | box found | IoU with the visible part "
    "| with the whole digit | on other digits | mask pixels | visible pixels "
    "| IoU of 28x28 cells |"
  )
  print("|---|---|---|---|---|---|---|---|---|")
  values = np.array(rows)
  for low, high in RANGES:
    part = values[(values[:, 0] >= low) & (values[:, 0] < high)]
    means = Row(*np.nanmean(part, axis=0))
    print(
      f"| {low:.0%} to {high:.0%} | {len(part)} | {means.found:.2f} "
      f"| {means.iou_seen:.2f} | {means.iou_whole:.2f} "
      f"| {means.on_others:.2f} | {means.pixels:.0f} "
      f"| {means.pixels_seen:.0f} | {means.iou_of_cells:.2f} |"
    )


if __name__ == "__main__":
  main()
