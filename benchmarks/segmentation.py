"""Segmentation losses and metrics side by side with PyTorch libraries.

    python -m benchmarks.segmentation

Prints a Markdown table of medians. Ours and theirs run in turns in one
process, on the same values, each in its own layout (channels last and first)
and compiled or not as its users would run it. It needs torch 2.13.0 (CPU),
torchmetrics 1.9.0, segmentation-models-pytorch 0.6.0 and monai 1.6.1.
"""

import argparse
import functools
import importlib.util
import sys
import types
import warnings
from collections.abc import Callable, Iterator

import jax
import numpy as np
import torch
from monai.metrics import compute_hausdorff_distance
from torchmetrics.classification import MulticlassJaccardIndex
from torchmetrics.segmentation import MeanIoU

from benchmarks.side_by_side import Case, print_table
from segsiam_jax import losses, metrics, process
from segsiam_jax.metrics.base import widen

# SMP's top package imports timm and torchvision for its models; its losses do
# not.
_spec = importlib.util.find_spec("segmentation_models_pytorch")
_package = types.ModuleType("segmentation_models_pytorch")
_package.__path__ = list(_spec.submodule_search_locations)
sys.modules["segmentation_models_pytorch"] = _package

from segmentation_models_pytorch import losses as smp_losses  # noqa: E402

K = 19
SIZE = 512


def gradient_case(
  name: str,
  ours: Callable[..., jax.Array],
  peer: str,
  theirs: torch.nn.Module,
  logits: np.ndarray,
  labels: np.ndarray,
) -> Case:
  """Forward and backward of a loss."""
  compiled = jax.jit(jax.value_and_grad(lambda x, y: ours(x, y).mean()))
  arrays = jax.device_put((logits, labels))
  x = torch.tensor(logits).movedim(-1, 1).contiguous().requires_grad_()
  y = torch.tensor(labels.astype(np.int64))

  def run_theirs() -> None:
    x.grad = None
    theirs(x, y).backward()

  return Case(
    f"{name}, forward and backward, 1 x {SIZE} x {SIZE} x {K}",
    peer,
    lambda: jax.block_until_ready(compiled(*arrays)),
    run_theirs,
  )


def loss_cases(logits: np.ndarray, labels: np.ndarray) -> Iterator[Case]:
  logits, labels = logits[:1], labels[:1]
  yield gradient_case(
    "Cross-entropy",
    losses.softmax_cross_entropy,
    "torch.nn.CrossEntropyLoss",
    torch.nn.CrossEntropyLoss(ignore_index=255),
    logits,
    labels,
  )
  yield gradient_case(
    "Dice",
    losses.dice_loss,
    "SMP DiceLoss",
    smp_losses.DiceLoss("multiclass", ignore_index=255),
    logits,
    labels,
  )
  yield gradient_case(
    "Lovász-Softmax",
    losses.lovasz_softmax_loss,
    "SMP LovaszLoss",
    smp_losses.LovaszLoss("multiclass", ignore_index=255),
    logits,
    labels,
  )


def mean_iou_cases(
  logits: np.ndarray, labels: np.ndarray, num_images: int
) -> Iterator[Case]:
  """Streams batches; each library starts from its own type of label."""
  predictions = logits.argmax(-1).astype(np.int32)
  targets = torch.tensor(labels.astype(np.int64))

  @jax.jit
  def update(state, predictions, labels):
    if predictions.ndim > labels.ndim:
      predictions = predictions.argmax(-1)
    of_batch = metrics.ConfusionMatrix.of(predictions, labels, classes=K)
    return state.merge(of_batch)

  def ours(num_images: int, *arrays: jax.Array) -> dict[str, float]:
    state = metrics.ConfusionMatrix.empty(K)
    for _ in range(num_images // len(labels)):
      state = update(state, *arrays)
    return widen(state).compute()

  def theirs(
    num_images: int,
    metric: torch.nn.Module,
    preds: torch.Tensor,
    targets: torch.Tensor,
  ) -> float:
    metric.reset()
    for _ in range(num_images // len(labels)):
      metric.update(preds, targets)
    return float(metric.compute())

  on_device = jax.device_put((predictions, labels))
  maps = torch.tensor(predictions.astype(np.int64))
  jaccard = MulticlassJaccardIndex(K, ignore_index=255, validate_args=False)
  yield Case(
    f"mIoU of {num_images} label maps, {SIZE} x {SIZE}, {K} classes",
    "torchmetrics MulticlassJaccardIndex",
    functools.partial(ours, num_images, *on_device),
    functools.partial(theirs, num_images, jaccard, maps, targets),
  )
  yield Case(
    f"mIoU of {num_images} logits, {SIZE} x {SIZE} x {K}",
    "torchmetrics MulticlassJaccardIndex",
    functools.partial(ours, num_images, *jax.device_put((logits, labels))),
    functools.partial(
      theirs,
      num_images,
      jaccard,
      torch.tensor(logits).movedim(-1, 1).contiguous(),
      targets,
    ),
  )
  # A tenth of the images: it is that slow.
  few = num_images // 10
  per_image = MeanIoU(K, input_format="index")
  void_free = torch.where(targets == 255, 0, targets)
  yield Case(
    f"mIoU of {few} label maps, {SIZE} x {SIZE}, {K} classes",
    "torchmetrics MeanIoU (mean over images)",
    functools.partial(ours, few, *on_device),
    functools.partial(theirs, few, per_image, maps, void_free),
  )


def hausdorff_case(rng: np.random.Generator) -> Case:
  ys, xs = np.mgrid[:SIZE, :SIZE]
  discs = [
    ((ys - y) ** 2 + (xs - x) ** 2 < 90**2).astype(np.int32)[None]
    for y, x in rng.uniform(150, 350, (2, 2))
  ]
  one_hot = [torch.tensor(np.stack([1 - disc, disc], axis=1)) for disc in discs]
  compiled = jax.jit(
    lambda p, y: metrics.hausdorff_distance(p, y, 2, percentile=95)
  )
  return Case(
    f"HD95, 1 x {SIZE} x {SIZE}, 2 classes",
    "MONAI compute_hausdorff_distance",
    lambda: jax.block_until_ready(compiled(*discs)),
    lambda: compute_hausdorff_distance(
      *one_hot, include_background=True, percentile=95
    ),
  )


def main() -> None:
  process.configure_and_restart()
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--repeats", type=int, default=3)
  parser.add_argument("--num_images", type=int, default=200)
  args = parser.parse_args()
  warnings.simplefilter("ignore")
  rng = np.random.default_rng(0)
  logits = rng.normal(size=(4, SIZE, SIZE, K)).astype(np.float32)
  # Blocky labels: real ones are.
  labels = rng.integers(0, K, (4, SIZE // 32, SIZE // 32))
  labels = labels.repeat(32, 1).repeat(32, 2).astype(np.uint8)
  labels[:, :8] = 255
  logits += 2 * (labels[..., None] == np.arange(K))
  cases = [
    *loss_cases(logits, labels),
    *mean_iou_cases(logits, labels, args.num_images),
    hausdorff_case(rng),
  ]
  print_table(cases, args.repeats, torch.set_num_threads)


if __name__ == "__main__":
  main()
