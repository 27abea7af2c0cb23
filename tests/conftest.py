"""Test settings: four virtual CPU devices and a compilation cache."""

import os
import pathlib
import tempfile

import jax
import numpy as np
import pytest
from absl import flags

jax.config.update("jax_num_cpu_devices", 4)
jax.config.update(
  "jax_compilation_cache_dir",
  os.environ.get(
    "SEGSIAM_TEST_CACHE",
    str(pathlib.Path(tempfile.gettempdir()) / "segsiam_jax_test_cache"),
  ),
)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
# grain workers read absl flags.
flags.FLAGS.mark_as_parsed()


@pytest.fixture
def rng() -> np.random.Generator:
  return np.random.default_rng(0)
