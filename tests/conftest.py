"""Test settings and shared data: four virtual CPU devices, a compile cache."""

import os
import pathlib
import tempfile

# Programs are tiny here and many: compiling them takes most of the time.
os.environ["XLA_FLAGS"] = (
  "--xla_backend_optimization_level=0 " + os.environ.get("XLA_FLAGS", "")
)

import hypothesis
import jax
import numpy as np
import pytest
from absl import flags
from PIL import Image

from segsiam_jax import process
from segsiam_jax.config import default_config

# As the commands run; the processes that xdist starts get huge pages, too.
process.configure()
jax.config.update("jax_num_cpu_devices", 4)
jax.config.update(
  "jax_compilation_cache_dir",
  os.environ.get(
    "SEGSIAM_JAX_TEST_CACHE",
    str(pathlib.Path(tempfile.gettempdir()) / "segsiam_jax_test_cache"),
  ),
)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
# The same examples each time; `tests/fuzz.py` draws others.
hypothesis.settings.register_profile(
  "repeatable", derandomize=True, deadline=None, database=None
)
hypothesis.settings.load_profile("repeatable")
# Bytes of memory that a test process may take from one module to the next.
_LARGEST = 2 << 30
# grain workers read absl flags.
flags.FLAGS.mark_as_parsed()


@pytest.fixture(scope="module", autouse=True)
def forget_programs():
  """Thousands of small programs would take gigabytes until the end."""
  yield
  statm = pathlib.Path("/proc/self/statm")
  if not statm.exists():
    return
  pages = int(statm.read_text().split()[1])
  if pages * os.sysconf("SC_PAGE_SIZE") > _LARGEST:
    jax.clear_caches()


@pytest.fixture
def rng() -> np.random.Generator:
  return np.random.default_rng(0)


def write_blobs(folder: pathlib.Path, count: int, seed: int = 0) -> None:
  """Pictures of bright discs with their masks: 0 background, 1 disc."""
  random = np.random.default_rng(seed)
  for name in ("images", "masks"):
    (folder / name).mkdir(parents=True)
  ys, xs = np.mgrid[:32, :32]
  for index in range(count):
    y, x = random.uniform(8, 24, size=2)
    disc = (ys - y) ** 2 + (xs - x) ** 2 < random.uniform(5, 9) ** 2
    image = random.normal(80, 10, (32, 32, 3)) + disc[..., None] * 90
    for kind, array in (
      ("images", np.clip(image, 0, 255).astype(np.uint8)),
      ("masks", disc.astype(np.uint8)),
    ):
      Image.fromarray(array).save(folder / kind / f"{index:03d}.png")


@pytest.fixture(scope="session")
def blobs(tmp_path_factory) -> pathlib.Path:
  """A folder data set: train (12 images) and test (5), 32x32, two classes."""
  root = tmp_path_factory.mktemp("blobs")
  write_blobs(root / "train", 12)
  write_blobs(root / "test", 5, seed=1)
  return root


def make_tiny_config(blobs: pathlib.Path):
  """A U-Net that trains in seconds on `blobs`; BatchNorm, augmentation on."""
  config = default_config("semantic", "unet")
  config.data.name = "folder"
  config.data.dir = str(blobs)
  config.data.class_names = ("background", "disc")
  config.data.image_size = (32, 32)
  config.data.fit = "crop"
  config.data.threads = 1
  config.model.depth = 1
  config.model.base_width = 4
  config.loss.dice = 1.0
  config.augment.flip_left_right = True
  config.augment.rotate = 10.0
  config.augment.noise = 0.02
  config.optimizer.learning_rate = 1e-2
  config.train.batch_size = 8
  config.train.eval_batch_size = 4
  config.train.num_steps = 10
  config.train.log_every = 5
  config.train.eval_every = 5
  config.train.checkpoint_every = 5
  config.train.best_metric = "mean_iou"
  config.train.num_pictures = 2
  return config


@pytest.fixture
def tiny_config(blobs):
  return make_tiny_config(blobs)
