"""Prediction in windows: its memory, and how it differs from a whole image.

  python -m benchmarks.sliding_window

Every line is a process of its own that predicts one RGB image from an
uncompressed TIFF (which is mapped into memory: needs `tifffile`), writes labels
and a picture, and reports the most memory that it ever held, mapped pages
included. The second table compares probabilities of windows with those of the
whole image. The model is a small U-Net without normalisation: its weights are
random, which changes neither memory nor time.
"""

import argparse
import json
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

import grain
import jax
import numpy as np
import tifffile

from segsiam_jax import predict, process
from segsiam_jax.config import default_config
from segsiam_jax.engine import checkpoint, runs
from segsiam_jax.engine.state import create_state, make_optimizer
from segsiam_jax.prediction.probabilities import Probabilities

WINDOW = 256
SIZES = (256, 1024, 2048, 4096, 8192)
LARGEST_WHOLE = 4096
MEGA = 2**20


def make_config():
  config = default_config("semantic", "unet")
  config.data.class_names = ("a", "b", "c")
  config.data.fit = "crop"
  config.model.norm = "none"
  config.model.depth = 1
  config.model.base_width = 4
  return config


def write_run(workdir: pathlib.Path) -> None:
  """A checkpoint of random weights."""
  config = make_config()
  spec = {"image": jax.ShapeDtypeStruct((1, 64, 64, 3), np.uint8)}
  task = runs.make_task(config, spec)
  tx, _ = make_optimizer(config.optimizer, 1)
  position = iter(grain.MapDataset.range(1).to_iter_dataset())
  with checkpoint.Checkpointer(workdir) as saved:
    saved.save(1, create_state(task, tx, 0), position)
    saved.wait()


def write_image(path: pathlib.Path, size: int) -> None:
  """Blurred noise, a band at a time."""
  random = np.random.default_rng(0)
  image = tifffile.memmap(
    path, shape=(size, size, 3), dtype=np.uint8, photometric="rgb"
  )
  for first in range(0, size, 64):
    coarse = random.integers(0, 256, (8, size // 8, 3), np.uint8)
    image[first : first + 64] = coarse.repeat(8, 0).repeat(8, 1)
  image.flush()


def with_windows(config, blend: str = "gaussian", overlap: float = 0.25):
  config.predict.window = (WINDOW, WINDOW)
  config.predict.blend, config.predict.overlap = blend, overlap
  return config


def measure(folder: pathlib.Path, size: int, windows: bool) -> None:
  """Predicts an image and prints peak memory and seconds as JSON."""
  config = make_config()
  if windows:
    config = with_windows(config)
  start = time.perf_counter()
  predict.predict(
    config,
    str(folder / "run"),
    [str(folder / f"{size}.tif")],
    str(folder / "out"),
  )
  seconds = time.perf_counter() - start
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
  print(json.dumps({"peak": peak, "seconds": seconds}))


def compare(folder: pathlib.Path, size: int) -> None:
  """Prints how far windows are from the whole image, by distance to seams."""
  run = checkpoint.find(str(folder / "run"), "latest", "", "max")
  image = tifffile.imread(folder / f"{size}.tif")
  whole = np.concatenate(
    [band for _, band in Probabilities(make_config(), run)(image)]
  )
  print(
    "\n| blend | overlap | largest difference | mean | labels that differ |"
  )
  print("|---|---|---|---|---|")
  for blend, overlap in (
    ("center", 0.25),
    ("gaussian", 0.5),
    ("gaussian", 0.25),
    ("constant", 0.5),
    ("center", 0.0),
  ):
    config = with_windows(make_config(), blend, overlap)
    largest = total = changed = 0.0
    for first, band in Probabilities(config, run)(image):
      same = whole[first : first + len(band)]
      error = np.abs(band - same)
      largest = max(largest, float(error.max()))
      total += float(error.sum(dtype=np.float64))
      changed += np.count_nonzero(band.argmax(-1) != same.argmax(-1))
    print(
      f"| {blend} | {overlap} | {largest:.1e} | {total / whole.size:.1e} | "
      f"{changed / size**2:.1e} |"
    )


def main() -> None:
  process.configure_and_restart()
  parser = argparse.ArgumentParser()
  parser.add_argument("--folder", type=pathlib.Path)
  parser.add_argument("--size", type=int)
  parser.add_argument("--windows", action="store_true")
  parser.add_argument("--largest", type=int, default=max(SIZES))
  arguments = parser.parse_args()
  if arguments.folder:
    measure(arguments.folder, arguments.size, arguments.windows)
    return
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    write_run(folder / "run")
    print(
      "| image | image and labels, MB | windows: peak, MB | peak without image "
      "and labels | seconds | whole image: peak, MB | seconds |\n"
      "|---|---|---|---|---|---|---|"
    )
    sizes = [size for size in SIZES if size <= arguments.largest]
    for size in sizes:
      write_image(folder / f"{size}.tif", size)
      cells = []
      own = size**2 * 4 / MEGA
      for windows in (True, False):
        if not windows and size > LARGEST_WHOLE:
          cells += ["not run", ""]
          continue
        command = [
          *(sys.executable, "-m", "benchmarks.sliding_window"),
          *(f"--folder={folder}", f"--size={size}"),
          *(("--windows",) if windows else ()),
        ]
        done = subprocess.run(
          command, check=True, stdout=subprocess.PIPE, text=True
        )
        result = json.loads(done.stdout)
        peak = result["peak"] / MEGA
        cells.append(f"{peak:.0f}")
        if windows:
          cells.append(f"{peak - own:.0f}")
        cells.append(f"{result['seconds']:.1f}")
      print(f"| {size}x{size} | {own:.0f} | {' | '.join(cells)} |", flush=True)
    compare(folder, min(LARGEST_WHOLE, sizes[-1]))


if __name__ == "__main__":
  main()
