"""PyTorch's models as a contender: `python -m benchmarks.models_peers ROW`.

Before it is timed, the contender finds its own best way to run: channels first
or last, one thread or all, eager or compiled. See benchmarks/models.py, which
starts it. It needs torch, torchvision and segmentation-models-pytorch.
"""

import argparse
import os
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import segmentation_models_pytorch as smp
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

from benchmarks import alone, contenders, model_rows
from benchmarks.model_rows import Row


class Case(NamedTuple):
  """A model, its images (B, C, *S), and outputs to loss."""

  model: nn.Module
  images: torch.Tensor
  loss: Callable[[Any], torch.Tensor]
  optimizer: torch.optim.Optimizer


def _images(row: Row) -> torch.Tensor:
  return torch.tensor(np.moveaxis(row.inputs()[0], -1, 1).copy())


def _case(model: nn.Module, images: torch.Tensor, loss: Callable) -> Case:
  # As optax.adamw(1e-3).
  optimizer = torch.optim.AdamW(model.parameters(), 1e-3, weight_decay=1e-4)
  return Case(model, images, loss, optimizer)


def _segmentation(row: Row, model: nn.Module) -> Case:
  labels = torch.tensor(row.inputs()[1])

  def loss(outputs):
    logits = outputs["out"] if isinstance(outputs, dict) else outputs
    return F.cross_entropy(logits, labels)

  return _case(model, _images(row), loss)


class _UNet(nn.Module):
  """The plain U-Net of `segsiam_jax.models.unet`, for images or volumes."""

  def __init__(self, channels, classes, width, depth, axes):
    super().__init__()
    conv = nn.Conv2d if axes == 2 else nn.Conv3d
    norm = nn.BatchNorm2d if axes == 2 else nn.BatchNorm3d
    up = nn.ConvTranspose2d if axes == 2 else nn.ConvTranspose3d
    pool = nn.MaxPool2d if axes == 2 else nn.MaxPool3d

    def block(inputs, outputs):
      layers = []
      for size in (inputs, outputs):
        layers += [
          conv(size, outputs, 3, padding=1, bias=False),
          norm(outputs),
          nn.ReLU(inplace=True),
        ]
      return nn.Sequential(*layers)

    widths = [width * 2**n for n in range(depth + 1)]
    self.down = nn.ModuleList(map(block, [channels, *widths], widths))
    self.pool = pool(2)
    self.up = nn.ModuleList(
      up(2 * one, one, 2, stride=2) for one in reversed(widths[:-1])
    )
    self.join = nn.ModuleList(
      block(2 * one, one) for one in reversed(widths[:-1])
    )
    self.logits = conv(width, classes, 1)

  def forward(self, x):
    skips = []
    for level, block in enumerate(self.down):
      x = block(self.pool(x) if level else x)
      skips.append(x)
    for up, join, skip in zip(self.up, self.join, skips[-2::-1], strict=True):
      x = join(torch.cat([skip, up(x)], 1))
    return self.logits(x)


def unet(row: Row) -> Case:
  return _segmentation(row, _UNet(row.shape[-1], row.classes, 32, 4, 2))


def unet_3d(row: Row) -> Case:
  return _segmentation(row, _UNet(row.shape[-1], row.classes, 16, 3, 3))


def unet_resnet34(row: Row) -> Case:
  model = smp.Unet("resnet34", encoder_weights=None, classes=row.classes)
  return _segmentation(row, model)


def fcn(row: Row) -> Case:
  model = torchvision.models.segmentation.fcn_resnet50(
    weights=None, weights_backbone=None, num_classes=row.classes
  )
  return _segmentation(row, model)


class _Koch(nn.Module):
  def __init__(self):
    super().__init__()
    self.tower = nn.Sequential(
      nn.Conv2d(1, 64, 10),
      nn.ReLU(),
      nn.MaxPool2d(2),
      nn.Conv2d(64, 128, 7),
      nn.ReLU(),
      nn.MaxPool2d(2),
      nn.Conv2d(128, 128, 4),
      nn.ReLU(),
      nn.MaxPool2d(2),
      nn.Conv2d(128, 256, 4),
      nn.ReLU(),
      nn.Flatten(),
      nn.Linear(9216, 4096),
      nn.Sigmoid(),
    )
    self.head = nn.Linear(4096, 1)

  def forward(self, images):
    x = self.tower(images)
    if not self.training:
      return x
    half = len(x) // 2
    return self.head((x[:half] - x[half:]).abs())[:, 0]


def koch(row: Row) -> Case:
  same = torch.arange(row.shape[0] // 2) % 2
  return _case(
    _Koch(),
    _images(row),
    lambda logits: F.binary_cross_entropy_with_logits(logits, same.float()),
  )


def batch_hard(row: Row) -> Case:
  labels = torch.arange(row.shape[0]) // 4
  same = labels[:, None] == labels
  model = torchvision.models.resnet18(weights=None, num_classes=128)

  def loss(embeddings):
    distances = torch.cdist(embeddings, embeddings)
    positive = torch.where(same, distances, 0.0).amax(1)
    negative = torch.where(same, torch.inf, distances).amin(1)
    return F.relu(positive - negative + 0.3).mean()

  return _case(model, _images(row), loss)


class _Detector(nn.Module):
  """torchvision's detector, which takes a list of images and targets."""

  def __init__(self, model, targets):
    super().__init__()
    self.model, self.targets = model, targets

  def forward(self, images):
    images = list(images)
    return self.model(images, self.targets if self.training else None)


def mask_rcnn(row: Row) -> Case:
  # Weights by a formula, so that as much is found as by a trained detector.
  from cases.torchvision_detectors import make

  with torch.device("cpu"):
    model = make("v1")
  model.to(torch.get_default_device())
  model.roi_heads.detections_per_img = 100
  model.transform.min_size = (row.shape[1],)
  boxes, classes = model_rows.objects(row)
  targets = []
  for own, kinds in zip(boxes, classes, strict=True):
    masks = np.zeros((len(own), *row.shape[1:3]), np.uint8)
    for mask, (x0, y0, x1, y1) in zip(masks, own.astype(int), strict=True):
      mask[y0:y1, x0:x1] = 1
    targets.append(
      {
        "boxes": torch.tensor(own),
        "labels": torch.tensor(kinds).long(),
        "masks": torch.tensor(masks),
      }
    )
  optimizer = torch.optim.SGD(model.parameters(), 1e-6, 0.9)
  return Case(
    _Detector(model, targets),
    _images(row),
    lambda found: sum(found.values()),
    optimizer,
  )


MODELS = {
  function.__name__: function
  for function in (
    unet,
    unet_resnet34,
    unet_3d,
    fcn,
    koch,
    batch_hard,
    mask_rcnn,
  )
}


def _functions(case: Case) -> dict[str, Callable[[], object]]:
  def train(model=case.model):
    model.train()
    case.optimizer.zero_grad()
    case.loss(model(case.images)).backward()
    case.optimizer.step()

  def infer(model=case.model):
    model.eval()
    with torch.inference_mode():
      return model(case.images)

  return {"train": train, "inference": infer}


class _Way(NamedTuple):
  """One way to run: a model, its images' layout, and threads."""

  name: str
  functions: dict[str, Callable[[], object]]
  threads: int


def _layout(case: Case) -> torch.memory_format:
  """Channels last, of images or volumes."""
  volumes = case.images.ndim == 5
  return torch.channels_last_3d if volumes else torch.channels_last


def _ways(make: Callable[[], Case], compiles: bool):
  """All ways to run a case, with models of their own."""
  threads = sorted({1, len(os.sched_getaffinity(0))})
  for compiled in (False, True) if compiles else (False,):
    for last in (False, True):
      case = make()
      if last:
        layout = _layout(case)
        case.model.to(memory_format=layout)
        case = case._replace(images=case.images.to(memory_format=layout))
      if compiled:
        case = case._replace(model=torch.compile(case.model))
      # Compiled code is the better for all threads.
      for number in threads[-1:] if compiled else threads:
        name = f"{'compiled' if compiled else 'eager'}, channels "
        name += f"{'last' if last else 'first'}, {number} threads"
        yield _Way(name, _functions(case), number)


def _fastest(ways: list[_Way], function: str) -> _Way:
  """The way whose second run is the fastest."""
  seconds = []
  for way in ways:
    torch.set_num_threads(way.threads)
    try:
      way.functions[function]()
      start = time.perf_counter()
      way.functions[function]()
      seconds.append(time.perf_counter() - start)
    except Exception:
      if "compiled" not in way.name:
        raise
      # What torch.compile cannot do yet is not its best way.
      seconds.append(float("inf"))
  return ways[seconds.index(min(seconds))]


def _on_device(
  name: str,
  row: Row,
  make: Callable[[Row], Case],
  device: str,
  turns: alone.Turns,
) -> str:
  """A line of the table of benchmarks/accelerator.py."""
  torch.set_default_device(device)
  case = make(row)
  case.model.to(memory_format=_layout(case))
  model = case.model if row.objects else torch.compile(case.model)
  images = case.images.to(memory_format=_layout(case))
  functions = _functions(case._replace(model=model, images=images)).values()

  def run(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    with torch.autocast(device, torch.bfloat16):
      function()
    if device == "cuda":
      torch.cuda.synchronize()
    return time.perf_counter() - start

  for function in functions:
    run(function)
  seconds = []
  with turns.timing():
    for function in functions:
      taken = [run(function) for _ in range(23)]
      seconds.append(statistics.median(taken[3:]))
  peak = ""
  if device == "cuda":
    peak = f"{torch.cuda.max_memory_allocated() / 2**30:.1f}"
  step, inference = seconds
  return (
    f"| {name}, {' x '.join(map(str, row.shape))}, torch | bfloat16 "
    f"| {step * 1e3:.1f} | {row.shape[0] / step:.0f} | | "
    f"| {row.shape[0] / inference:.0f} | {peak} | |"
  )


def main() -> None:
  parser = argparse.ArgumentParser()
  parser.add_argument("row", choices=model_rows.ROWS)
  parser.add_argument("--tiny", action="store_true")
  parser.add_argument("--save", default="", help="state dict, as .npz")
  parser.add_argument("--no-compile", action="store_true")
  parser.add_argument(
    "--first-step", action="store_true", help="one step, eager, and serve it"
  )
  parser.add_argument("--device", default="", help="a line of its table")
  parser.add_argument("--batch-factor", type=int, default=1)
  parser.add_argument("--together", default="", help="folder, see alone.py")
  parser.add_argument("--patience", type=float, default=0.0)
  args = parser.parse_args()
  warnings.simplefilter("ignore")
  row = model_rows.find(args.row, args.tiny, args.batch_factor)
  make = MODELS[row.model]
  if args.device:
    turns = alone.Turns(args.together, args.patience)
    print(_on_device(args.row, row, make, args.device, turns))
    return
  if args.save:
    state = make(row).model.state_dict()
    arrays = {
      name.removeprefix("model."): value.numpy()
      for name, value in state.items()
    }
    np.savez(args.save, **arrays)
    return
  if args.first_step:
    functions = _functions(make(row))
    functions["train"]()
    contenders.serve(functions)
    return
  # A detector's shapes are not static: compiling them takes longer than the
  # benchmark.
  compiles = not (row.objects or args.no_compile)
  ways = list(_ways(lambda: make(row), compiles))
  best = {name: _fastest(ways, name) for name in ("train", "inference")}

  def run(name: str) -> Callable[[], object]:
    def function():
      torch.set_num_threads(best[name].threads)
      return best[name].functions[name]()

    return function

  contenders.serve(
    {name: run(name) for name in best},
    **{name: way.name for name, way in best.items()},
  )


if __name__ == "__main__":
  main()
