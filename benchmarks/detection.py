"""Detection ops side by side with torchvision.

    python -m benchmarks.detection

Prints a Markdown table of medians. Ours and torchvision's run in turns in one
process, on the same values, each in its own layout (channels last and first),
ours compiled; benchmarks/models.py has the whole model. `--only=NAME` runs the
cases whose names hold NAME. It needs torch 2.14.1 and torchvision 0.29.1 (CPU).
"""

import argparse
import functools
import warnings
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
import torch
from torchvision import ops as peers
from torchvision.models.detection import _utils
from torchvision.models.detection.roi_heads import paste_masks_in_image

from benchmarks.side_by_side import Case, print_table
from segsiam_jax import process
from segsiam_jax.ops.anchors import pyramid_anchors
from segsiam_jax.ops.boxes import pairwise_iou
from segsiam_jax.ops.masks import paste_masks
from segsiam_jax.ops.matching import BACKGROUND, balanced_sample, match
from segsiam_jax.ops.nms import nms
from segsiam_jax.ops.roi_align import METHODS, assign_levels, roi_align

SIZE = 512
STRIDES = (4, 8, 16, 32)
CHANNELS = 256
BATCH = 2


def clustered(rng: np.random.Generator, count: int, size: int) -> np.ndarray:
  """Boxes around a twentieth as many centres, as a detector's are."""
  centers = rng.uniform(0, size, (count // 20, 2))
  centers = centers[rng.integers(0, len(centers), count)]
  centers += rng.normal(0, 6, (count, 2))
  half = np.exp(rng.uniform(np.log(8), np.log(size / 4), (count // 20, 2)))
  half = half[rng.integers(0, len(half), count)] / 2
  boxes = np.concatenate([centers - half, centers + half], 1)
  return np.clip(boxes, 0, size).astype(np.float32)


def compiled(function: Callable, *arrays: np.ndarray) -> Callable[[], object]:
  function, arrays = jax.jit(function), jax.device_put(arrays)
  return lambda: jax.block_until_ready(function(*arrays))


def nms_cases(rng: np.random.Generator) -> Iterator[Case]:
  for count in (1000, 4000, 10_000):
    boxes = clustered(rng, count, SIZE)
    scores = rng.random(count).astype(np.float32)
    yield Case(
      f"NMS, {count} boxes",
      "torchvision nms",
      compiled(lambda b, s: nms(b, s, 0.5), boxes, scores),
      functools.partial(
        peers.nms, torch.tensor(boxes), torch.tensor(scores), 0.5
      ),
    )
  # What a region proposal network does in training: the best 1000 of the
  # boxes of five levels, of two images.
  count, most = 4500, 1000
  boxes = np.stack([clustered(rng, count, SIZE) for _ in range(2)])
  scores = rng.random((2, count)).astype(np.float32)
  levels = np.repeat(np.arange(5), count // 5)[None].repeat(2, 0)

  def theirs(boxes, scores, levels):
    for b, s, g in zip(boxes, scores, levels, strict=True):
      peers.batched_nms(b, s, g, 0.7)[:most]

  yield Case(
    f"NMS of 5 levels, 2 x {count} boxes, the best {most}",
    "torchvision batched_nms",
    compiled(
      lambda b, s, g: nms(b, s, 0.7, groups=g, max_outputs=most),
      *(boxes, scores, levels),
    ),
    functools.partial(theirs, *map(torch.tensor, (boxes, scores, levels))),
  )


def roi_align_cases(rng: np.random.Generator) -> Iterator[Case]:
  pyramid = [
    rng.normal(size=(1, SIZE // s, SIZE // s, CHANNELS)).astype(np.float32)
    for s in STRIDES
  ]
  for count, out in ((512, 7), (128, 14)):
    boxes = clustered(rng, count, SIZE)
    gradient = rng.normal(size=(1, count, out, out, CHANNELS))
    gradient = gradient.astype(np.float32)
    theirs = peers.MultiScaleRoIAlign(list("0123"), out, 2)
    levels = {
      name: torch.tensor(level.transpose(0, 3, 1, 2).copy()).requires_grad_()
      for name, level in zip("0123", pyramid, strict=True)
    }
    back = torch.tensor(gradient[0].transpose(0, 3, 1, 2).copy())

    def pool(boxes, theirs=theirs, levels=levels):
      return theirs(levels, [boxes], [(SIZE, SIZE)])

    def both(boxes, pool=pool, levels=levels, back=back):
      for level in levels.values():
        level.grad = None
      pool(boxes).backward(back)

    def forward(boxes, pool=pool):
      with torch.no_grad():
        pool(boxes)

    for method in METHODS:

      def ours(features, boxes, out=out, method=method):
        return roi_align(
          features,
          boxes,
          assign_levels(boxes, len(STRIDES)),
          output_size=out,
          strides=STRIDES,
          method=method,
        )

      def ours_both(features, boxes, gradient, ours=ours):
        pooled, back = jax.vjp(lambda f: ours(f, boxes), features)
        return pooled, back(gradient)

      name = f"{count} boxes of {out} x {out} x {CHANNELS}, {method}"
      yield Case(
        f"RoIAlign, forward, {name}",
        "torchvision MultiScaleRoIAlign",
        compiled(ours, pyramid, boxes[None]),
        functools.partial(forward, torch.tensor(boxes)),
      )
      yield Case(
        f"RoIAlign, forward and backward, {name}",
        "torchvision MultiScaleRoIAlign",
        compiled(ours_both, pyramid, boxes[None], gradient),
        functools.partial(both, torch.tensor(boxes)),
      )


def paste_case(rng: np.random.Generator) -> Case:
  count, size = 100, (480, 640)
  masks = rng.random((count, 28, 28)).astype(np.float32)
  boxes = clustered(rng, count, 480)
  theirs = torch.tensor(masks)[:, None], torch.tensor(boxes)
  return Case(
    f"Pasting {count} masks into {size[0]} x {size[1]}",
    "torchvision paste_masks_in_image",
    lambda: [mask.any() for mask in paste_masks(masks, boxes, size)],
    lambda: paste_masks_in_image(*theirs, size) >= 0.5,
  )


def matching_case(rng: np.random.Generator) -> Case:
  """The anchors of two images that a region proposal network learns from."""
  objects = 20
  grids = [(SIZE // s, SIZE // s) for s in (*STRIDES, 64)]
  anchors = np.concatenate(
    pyramid_anchors(
      (SIZE, SIZE), grids, [(32 * 2**k,) for k in range(5)], (0.5, 1.0, 2.0)
    )
  )
  truth = np.stack([clustered(rng, objects, SIZE) for _ in range(BATCH)])
  keys = jax.random.split(jax.random.key(0), BATCH)

  def ours(keys, truth, anchors):
    matches = match(
      pairwise_iou(truth, anchors),
      jnp.ones(truth.shape[:2]),
      high=0.7,
      low=0.3,
      keep_best=True,
    )
    return balanced_sample(
      keys,
      matches >= 0,
      matches == BACKGROUND,
      size=256,
      positive_fraction=0.5,
    )

  matcher = _utils.Matcher(0.7, 0.3, allow_low_quality_matches=True)
  sampler = _utils.BalancedPositiveNegativeSampler(256, 0.5)

  def theirs(truth, anchors):
    labels = []
    for boxes in truth:
      matches = matcher(peers.box_iou(boxes, anchors))
      label = (matches >= 0).float()
      label[matches == matcher.BETWEEN_THRESHOLDS] = -1.0
      labels.append(label)
    sampler(labels)

  return Case(
    f"Matching and sampling, {BATCH} x {len(anchors)} anchors, "
    f"{objects} objects",
    "torchvision Matcher and sampler",
    compiled(ours, keys, truth, anchors),
    functools.partial(theirs, torch.tensor(truth), torch.tensor(anchors)),
  )


def main() -> None:
  process.configure_and_restart()
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--repeats", type=int, default=5)
  parser.add_argument("--only", default="")
  args = parser.parse_args()
  warnings.simplefilter("ignore")
  rng = np.random.default_rng(0)

  def cases() -> Iterator[Case]:
    yield from nms_cases(rng)
    yield from roi_align_cases(rng)
    yield paste_case(rng)
    yield matching_case(rng)

  print_table(
    (case for case in cases() if args.only in case.name),
    args.repeats,
    torch.set_num_threads,
  )


if __name__ == "__main__":
  main()
