"""What feeds a train step against what the step consumes, and torch's loader.

    python -m benchmarks.input_pipeline

Writes a folder of JPEG photographs with PNG masks, reads it as a run would
(decoded, resized, batched; augmentation is part of the step), and times a U-Net
on ResNet-34 that learns from it. The peer is torch's DataLoader with Pillow and
torchvision's resize, at its best number of workers. Prints a Markdown table in
images a second.
"""

import argparse
import importlib.util
import pathlib
import tempfile
import time
from collections.abc import Callable, Iterator

import jax
import numpy as np
from PIL import Image

from segsiam_jax import inputs, process
from segsiam_jax.config import default_config
from segsiam_jax.engine import meshes, runs, steps
from segsiam_jax.engine.state import create_state, make_optimizer


def write_images(folder: pathlib.Path, count: int, side: int) -> None:
  """Smooth pictures, which compress about as well as photographs do."""
  rng = np.random.default_rng(0)
  for split in ("train", "test"):
    for name in ("images", "masks"):
      (folder / split / name).mkdir(parents=True)
    for index in range(count if split == "train" else 1):
      small = rng.integers(0, 256, (side // 16, side // 16, 3), np.uint8)
      picture = Image.fromarray(small).resize((side, side), Image.BICUBIC)
      grain = rng.normal(0, 6, (side, side, 3))
      picture = np.clip(np.asarray(picture) + grain, 0, 255).astype(np.uint8)
      Image.fromarray(picture).save(
        folder / split / "images" / f"{index}.jpg", quality=90
      )
      mask = (picture[..., 0] > 128).astype(np.uint8)
      Image.fromarray(mask).save(folder / split / "masks" / f"{index}.png")


def make_config(folder: pathlib.Path, size: int, batch: int):
  config = default_config("semantic", "unet")
  config.data.name = "folder"
  config.data.dir = str(folder)
  config.data.class_names = ("background", "object")
  config.data.image_size = (size, size)
  config.data.fit = "resize"
  config.model.encoder = "resnet34"
  config.augment.flip_left_right = True
  config.train.batch_size = batch
  return config


def rate(
  next_batch: Callable[[], object], images: int, seconds: float
) -> float:
  """Images a second, after two batches that are not counted."""
  next_batch()
  next_batch()
  start, batches = time.perf_counter(), 0
  while (taken := time.perf_counter() - start) < seconds:
    next_batch()
    batches += 1
  return batches * images / taken


def step_of(config, spec) -> Callable[[dict[str, np.ndarray]], object]:
  """Trains on one batch, again and again."""
  mesh = meshes.make_mesh()
  task = runs.make_task(config, spec)
  tx, _ = make_optimizer(config.optimizer, config.train.num_steps)
  step = steps.make_train_step(task, tx, mesh=mesh)
  state = [create_state(task, tx, 0, sharding=meshes.replicated(mesh))]

  def train(batch):
    state[0], metrics = step(state[0], meshes.to_global(batch, mesh, "jit"))
    return jax.block_until_ready(metrics)

  return train


def peer_rates(
  folder: pathlib.Path, size: int, batch: int, seconds: float
) -> Iterator[float]:
  """Of torch's loader, without workers and with one for each core."""
  import torch
  from torchvision.transforms import functional

  files = sorted((folder / "train" / "images").iterdir())

  class Files(torch.utils.data.Dataset):
    def __len__(self):
      return 2**30

    def __getitem__(self, index):
      file = files[index % len(files)]
      mask = file.parents[1] / "masks" / f"{file.stem}.png"
      image = Image.open(file).convert("RGB").resize((size, size))
      nearest = Image.open(mask).resize((size, size), Image.NEAREST)
      return functional.pil_to_tensor(image), functional.pil_to_tensor(nearest)

  for workers in (0, 2):
    loader = iter(
      torch.utils.data.DataLoader(
        Files(), batch_size=batch, num_workers=workers
      )
    )
    yield rate(lambda loader=loader: next(loader), batch, seconds)


def main() -> None:
  process.configure_and_restart()
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--images", type=int, default=64)
  parser.add_argument("--side", type=int, default=512, help="of the files")
  parser.add_argument("--size", type=int, default=256, help="of a step")
  parser.add_argument("--batch", type=int, default=8)
  parser.add_argument("--seconds", type=float, default=10.0)
  args = parser.parse_args()
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    write_images(folder, args.images, args.side)
    config = make_config(folder, args.size, args.batch)
    data = inputs.open_inputs(config, train=True)
    batches = iter(data.batches)
    batch = {key: np.copy(rows) for key, rows in next(batches).items()}
    fed = rate(lambda: next(batches), args.batch, args.seconds)
    batches.close()
    train = step_of(config, data.element_spec)
    used = rate(lambda: train(batch), args.batch, args.seconds)
    title = f"{args.side} x {args.side} JPEG to {args.size} x {args.size}"
    print("| what | pipeline | step | pipeline / step | torch's loader |")
    print("|---|---|---|---|---|")
    peer = ""
    if importlib.util.find_spec("torchvision"):
      best = max(peer_rates(folder, args.size, args.batch, args.seconds))
      peer = f"{best:.0f}"
    print(f"| {title} | {fed:.0f} | {used:.0f} | {fed / used:.1f} | {peer} |")


if __name__ == "__main__":
  main()
