"""Weights by a formula of their name, so that none need to be stored.

The peers' scripts and the tests both fill with it. `RandomState` is NumPy's
frozen generator: its numbers never change.
"""

import math
import zlib

import jax
import jax.numpy as jnp
import numpy as np


def fill(key: str, shape: tuple[int, ...]) -> np.ndarray:
  """The values of one entry of a PyTorch state dict."""
  random = np.random.RandomState(zlib.crc32(key.encode()))
  noise = random.standard_normal(shape).astype(np.float32)
  if key.endswith("running_var"):
    return np.exp(0.2 * noise)
  if key.endswith(("running_mean", "bias", "layer_scale")):
    return 0.1 * noise
  if len(shape) < 2:  # the scale of a norm
    return 0.6 + 0.1 * noise
  return noise * math.sqrt(2.0 / math.prod(shape[1:]))


def image(height: int, width: int, channels: int = 3) -> np.ndarray:
  """A normalised image of smooth waves and noise: (1, H, W, C) float32."""
  ys, xs = np.mgrid[:height, :width].astype(np.float32)
  waves = np.stack(
    [np.sin(0.2 * (k + 1) * xs + 0.1 * ys + k) for k in range(channels)], -1
  )
  noise = np.random.RandomState(0).standard_normal(waves.shape)
  return (waves + 0.3 * noise)[None].astype(np.float32)


SIZE = (65, 97)


def shapes(model, channels=3):
  images = jax.ShapeDtypeStruct((1, *SIZE, channels), jnp.float32)
  return jax.eval_shape(lambda x: model.init(jax.random.key(0), x), images)


def state_dict_of(template, to_state_dict):
  """torchvision's state dict of a model's shape, filled by its names."""
  zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape), template)
  return {
    key: fill(key, value.shape) for key, value in to_state_dict(zeros).items()
  }
