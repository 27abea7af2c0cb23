"""Detection ops and Mask R-CNN side by side with torchvision.

    python -m benchmarks.detection

Prints a Markdown table of medians. Ours and torchvision's run in turns in one
process, on the same values and weights, each in its own layout (channels last
and first), ours compiled. `--only=NAME` runs the cases whose names hold NAME.
It needs torch 2.14.1 and torchvision 0.29.1 (CPU).
"""

import argparse
import functools
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from torchvision import ops as peers
from torchvision.models.detection import _utils
from torchvision.models.detection.roi_heads import paste_masks_in_image

from benchmarks.side_by_side import Case, print_table
from segsiam_jax.models.mask_rcnn import FORMS, MaskRCNN
from segsiam_jax.ops.anchors import pyramid_anchors
from segsiam_jax.ops.boxes import pairwise_iou
from segsiam_jax.ops.masks import paste_masks
from segsiam_jax.ops.matching import BACKGROUND, balanced_sample, match
from segsiam_jax.ops.nms import nms
from segsiam_jax.ops.roi_align import METHODS, assign_levels, roi_align
from segsiam_jax.pretrained import torchvision_detection
from tests.golden.detection_inputs import picture
from tests.golden.detection_peers import make, tensor

SIZE = 512
STRIDES = (4, 8, 16, 32)
CHANNELS = 256
NUM_CLASSES = 91
# Of the images that the whole model sees, and how many at once.
MODEL_SIZE = 256
BATCH = 2
MODEL_NAME = (
  f"Mask R-CNN, ResNet-50, {BATCH} images of {MODEL_SIZE} x {MODEL_SIZE}"
)
MODEL_PEER = "torchvision maskrcnn_resnet50_fpn"


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


def model_cases(rng: np.random.Generator) -> Iterator[Case]:
  """torchvision's first version with 100 detections an image."""
  theirs = make("v1")
  theirs.roi_heads.detections_per_img = 100
  theirs.transform.min_size = (MODEL_SIZE,)
  model = MaskRCNN(NUM_CLASSES, **FORMS["v1"])
  pictures = np.stack(
    [picture(MODEL_SIZE, MODEL_SIZE), picture(MODEL_SIZE, MODEL_SIZE)[::-1]]
  )
  sizes = np.full((BATCH, 2), MODEL_SIZE)
  template = jax.eval_shape(model.init, jax.random.key(0), pictures, sizes)
  state_dict = {
    name: value.numpy() for name, value in theirs.state_dict().items()
  }
  variables = torchvision_detection.rcnn(state_dict, template)
  images = [tensor(one) for one in pictures]

  def detect():
    theirs.eval()
    with torch.no_grad():
      found = theirs(images)
    assert [len(one["scores"]) for one in found] == [100] * BATCH

  apply = compiled(model.apply, variables, pictures, sizes)

  def ours():
    assert apply()["valid"].all()

  yield Case(f"{MODEL_NAME}: inference", MODEL_PEER, ours, detect)
  for objects in (8, 128):
    yield train_case(rng, model, variables, theirs, pictures, objects)


def train_case(
  rng: np.random.Generator,
  model: MaskRCNN,
  variables: dict[str, Any],
  theirs: torch.nn.Module,
  pictures: np.ndarray,
  objects: int,
) -> Case:
  """A train step on images of so many objects.

  torchvision's mask head sees the proposals that are on an object, ours always
  as many as there may be, 128 an image. With 128 objects both see as many.
  """
  images, sizes = [*map(tensor, pictures)], np.full((BATCH, 2), MODEL_SIZE)
  side = 64
  corners = rng.integers(0, MODEL_SIZE - side, (BATCH, objects, 2))
  boxes = np.concatenate([corners, corners + side], -1).astype(np.float32)
  classes = rng.integers(1, NUM_CLASSES, (BATCH, objects)).astype(np.int32)
  targets = {
    "boxes": boxes,
    "classes": classes,
    "valid": np.ones((BATCH, objects), bool),
    "masks": np.ones((BATCH, objects, 28, 28), np.float32),
  }
  whole = np.zeros((BATCH, objects, MODEL_SIZE, MODEL_SIZE), np.uint8)
  for row, slot in np.ndindex(BATCH, objects):
    x, y = corners[row, slot]
    whole[row, slot, y : y + side, x : x + side] = 1
  their_targets = [
    {
      "boxes": torch.tensor(boxes[row]),
      "labels": torch.tensor(classes[row]).long(),
      "masks": torch.tensor(whole[row]),
    }
    for row in range(BATCH)
  ]
  rate, momentum = 1e-6, 0.9
  tx = optax.sgd(rate, momentum)

  @functools.partial(jax.jit, donate_argnums=0)
  def step(state, images, sizes, targets, keys):
    params, rest, opt_state = state

    def loss(params):
      losses = model.apply(
        {"params": params, **rest}, images, sizes, targets, keys, train=True
      )
      return sum(part.mean() for part in losses.values())

    value, gradient = jax.value_and_grad(loss)(params)
    updates, opt_state = tx.update(gradient, opt_state)
    return (optax.apply_updates(params, updates), rest, opt_state), value

  # A copy, which the steps may overwrite.
  rest = jax.tree.map(jnp.array, dict(variables))
  params = rest.pop("params")
  state = [(params, rest, tx.init(params))]
  batch = jax.device_put((pictures, sizes, targets))
  keys = jax.random.split(jax.random.key(0), BATCH)

  def train():
    state[0], value = step(state[0], *batch, keys)
    return value.block_until_ready()

  optimizer = torch.optim.SGD(theirs.parameters(), rate, momentum)

  def train_theirs():
    theirs.train()
    optimizer.zero_grad()
    sum(theirs(images, their_targets).values()).backward()
    optimizer.step()

  return Case(
    f"{MODEL_NAME}: train step, {objects} objects",
    MODEL_PEER,
    train,
    train_theirs,
  )


def main() -> None:
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
    yield from model_cases(rng)

  print_table(
    (case for case in cases() if args.only in case.name),
    args.repeats,
    torch.set_num_threads,
  )


if __name__ == "__main__":
  main()
