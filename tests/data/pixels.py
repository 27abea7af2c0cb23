"""Random pixels of 8 and 16 bits."""

import numpy as np

BYTES, WORDS = np.uint8, np.uint16


def pixels(*shape, dtype=BYTES, seed=0):
  random = np.random.default_rng(seed)
  return random.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)
