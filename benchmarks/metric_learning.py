"""Metric-learning losses and metrics side by side with other libraries.

    python -m benchmarks.metric_learning

Prints a Markdown table of medians. Ours and theirs run in turns in one
process, on the same values, compiled or not as their users would run them. It
needs torch 2.13.0 (CPU), pytorch-metric-learning 2.9.0 with faiss-cpu,
torchmetrics 1.9.0, scikit-learn and optax.
"""

import argparse
import warnings
from collections.abc import Callable, Iterator

import jax
import numpy as np
import optax
import torch
from pytorch_metric_learning import distances, miners, reducers
from pytorch_metric_learning import losses as torch_losses
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
from sklearn.metrics import roc_auc_score
from torchmetrics.functional.classification import binary_auroc

from benchmarks.side_by_side import Case, print_table
from segsiam_jax import losses, metrics, process

D = 128
PML = "pytorch-metric-learning"


def unit_rows(rng: np.random.Generator, rows: int) -> np.ndarray:
  x = rng.normal(size=(rows, D)).astype(np.float32)
  return x / np.linalg.norm(x, axis=1, keepdims=True)


def gradient(function: Callable, *arrays: np.ndarray) -> Callable[[], object]:
  """Forward and backward of our scalar loss, compiled."""
  compiled = jax.jit(jax.value_and_grad(function))
  on_device = jax.device_put(arrays)
  return lambda: jax.block_until_ready(compiled(*on_device))


def torch_gradient(
  loss: Callable, x: np.ndarray, labels: np.ndarray
) -> Callable[[], object]:
  """Forward and backward of a scalar torch loss."""
  tensor, targets = torch.tensor(x).requires_grad_(), torch.tensor(labels)

  def run() -> None:
    tensor.grad = None
    loss(tensor, targets).backward()

  return run


def triplet_cases(rng: np.random.Generator) -> Iterator[Case]:
  # Embeddings are of unit norm already.
  euclidean = distances.LpDistance(normalize_embeddings=False)
  each_size = [
    ("hard", 1024, miners.BatchHardMiner(distance=euclidean)),
    (
      "semi_hard",
      256,
      miners.TripletMarginMiner(
        0.2, type_of_triplets="semihard", distance=euclidean
      ),
    ),
    ("all", 256, None),
  ]
  for mining, size, miner in each_size:
    x, labels = unit_rows(rng, size), np.arange(size) // 4
    triplet = torch_losses.TripletMarginLoss(
      0.2, distance=euclidean, reducer=reducers.MeanReducer()
    )

    def theirs(x, y, triplet=triplet, miner=miner):
      return triplet(x, y, miner(x, y) if miner else None)

    yield Case(
      f"batch_triplet_loss, {mining}, forward and backward, {size} x {D}",
      f"{PML} {type(miner).__name__ if miner else 'all triplets'}",
      gradient(
        lambda x, y, mining=mining: losses.batch_triplet_loss(
          x, y, mining=mining
        ).mean(),
        x,
        labels,
      ),
      torch_gradient(theirs, x, labels),
    )


def softmax_cases(rng: np.random.Generator) -> Iterator[Case]:
  size = 1024
  x, labels = unit_rows(rng, size), np.arange(size) // 4
  shape = f"forward and backward, {size} x {D}"
  compiled = jax.jit(jax.value_and_grad(optax.losses.ntxent))
  arrays = jax.device_put((x, labels))
  yield Case(
    f"nt_xent_loss, {shape}",
    "optax.losses.ntxent",
    gradient(
      lambda x, y: losses.nt_xent_loss(x, y, temperature=0.07).mean(), x, labels
    ),
    lambda: jax.block_until_ready(compiled(*arrays)),
  )
  yield Case(
    f"supervised_contrastive_loss, {shape}",
    f"{PML} SupConLoss",
    gradient(
      lambda x, y: losses.supervised_contrastive_loss(x, y).mean(), x, labels
    ),
    torch_gradient(torch_losses.SupConLoss(), x, labels),
  )
  miner, loss = (
    miners.MultiSimilarityMiner(),
    torch_losses.MultiSimilarityLoss(),
  )
  yield Case(
    f"multi_similarity_loss with its mining, {shape}",
    f"{PML} MultiSimilarityMiner and -Loss",
    gradient(lambda x, y: losses.multi_similarity_loss(x, y).mean(), x, labels),
    torch_gradient(lambda x, y: loss(x, y, miner(x, y)), x, labels),
  )


def arcface_case(rng: np.random.Generator) -> Case:
  size, classes = 256, 10_000
  x, proxies = unit_rows(rng, size), unit_rows(rng, classes)
  labels = rng.integers(0, classes, size)
  loss = torch_losses.ArcFaceLoss(classes, D)
  loss.W = torch.nn.Parameter(torch.tensor(proxies.T))

  def theirs(x, y):
    loss.W.grad = None
    return loss(x, y)

  return Case(
    f"arcface_loss, forward and backward, {size} x {D}, {classes} classes",
    f"{PML} ArcFaceLoss",
    gradient(
      lambda v, y: losses.arcface_loss(*v, y).mean(), (x, proxies), labels
    ),
    torch_gradient(theirs, x, labels),
  )


def retrieval_case(rng: np.random.Generator, size: int) -> Case:
  labels = np.arange(size) % (size // 20)
  x = (unit_rows(rng, size) + unit_rows(rng, size // 20)[labels]) / 2
  calculator = AccuracyCalculator(
    include=("precision_at_1", "r_precision", "mean_average_precision_at_r"),
    k="max_bin_count",
    device=torch.device("cpu"),
  )
  return Case(
    f"P@1, R-precision and MAP@R, {size} x {D}, 20 per class",
    f"{PML} AccuracyCalculator (faiss)",
    lambda: metrics.retrieval_metrics(
      metrics.rank_gallery(x, labels, metric="sq_euclidean")
    ),
    lambda: calculator.get_accuracy(x, labels),
  )


def roc_cases(rng: np.random.Generator, size: int) -> Iterator[Case]:
  same = rng.integers(0, 2, size)
  scores = rng.uniform(size=size).astype(np.float32) + 0.3 * same
  scores = scores.astype(np.float32) / 2
  yield Case(
    f"roc_auc, {size} pairs",
    "sklearn roc_auc_score",
    lambda: metrics.roc_auc(scores, same),
    lambda: roc_auc_score(same, scores),
  )
  tensors = torch.tensor(scores), torch.tensor(same)
  yield Case(
    f"roc_auc, {size} pairs",
    "torchmetrics binary_auroc",
    lambda: metrics.roc_auc(scores, same),
    lambda: binary_auroc(*tensors),
  )


def main() -> None:
  process.configure_and_restart()
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--repeats", type=int, default=7)
  parser.add_argument("--gallery", type=int, default=10_000)
  parser.add_argument("--pairs", type=int, default=1_000_000)
  args = parser.parse_args()
  warnings.simplefilter("ignore")
  rng = np.random.default_rng(0)

  def cases() -> Iterator[Case]:
    yield from triplet_cases(rng)
    yield from softmax_cases(rng)
    yield arcface_case(rng)
    yield retrieval_case(rng, args.gallery)
    yield from roc_cases(rng, args.pairs)

  print_table(cases(), args.repeats, torch.set_num_threads)


if __name__ == "__main__":
  main()
