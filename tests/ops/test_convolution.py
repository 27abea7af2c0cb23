"""Convolutions of volumes, and convolutions within loops, are those of lax."""

import pathlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import segsiam_jax
from segsiam_jax.ops.convolution import conv_general_dilated, in_loop

DIMENSIONS = {
  2: ("NHWC", "HWIO", "NHWC"),
  3: ("NDHWC", "DHWIO", "NDHWC"),
}
# Window, strides, padding, dilation, groups.
CASES = [
  ((3, 3, 3), (1, 1, 1), "SAME", (1, 1, 1), 1),
  ((3, 3, 3), (2, 2, 2), "SAME", (1, 1, 1), 1),
  ((2, 2, 2), (2, 1, 2), "VALID", (1, 1, 1), 1),
  ((1, 1, 1), (1, 1, 1), "SAME", (1, 1, 1), 1),
  ((1, 3, 2), (1, 1, 1), "SAME", (1, 1, 1), 1),
  ((3, 3, 3), (2, 1, 1), ((2, 1), (0, 3), (1, 1)), (2, 1, 2), 1),
  ((3, 3, 3), (1, 1, 1), "SAME", (1, 1, 1), 2),
  ((3, 3), (1, 1), "SAME", (1, 1), 1),
  ((3, 3), (2, 2), ((1, 1), (1, 1)), (1, 1), 1),
  ((3, 3), (1, 1), ((2, 2), (2, 2)), (2, 2), 1),
  ((1, 1), (2, 2), "VALID", (1, 1), 1),
  ((2, 3), (3, 2), ((0, 1), (4, 0)), (2, 1), 1),
  ((3, 3), (1, 1), "SAME", (1, 1), 4),
]


@pytest.mark.parametrize("looped", [False, True])
@pytest.mark.parametrize("window,strides,padding,dilation,groups", CASES)
def test_outputs_and_gradients(
  rng, window, strides, padding, dilation, groups, looped
):
  rank = len(window)
  inputs = rng.normal(size=(2, *(6, 7, 8)[:rank], 4)).astype(np.float32)
  kernel = rng.normal(size=(*window, 4 // groups, 8)).astype(np.float32)
  options = {
    "dimension_numbers": DIMENSIONS[rank],
    "rhs_dilation": dilation,
    "feature_group_count": groups,
  }

  def results(conv):
    def run(inputs, kernel):
      return conv(inputs, kernel, strides, padding, **options)

    out, back = jax.vjp(run, inputs, kernel)
    return out, back(jnp.cos(out))

  def in_a_loop():
    with in_loop():
      return lax.scan(
        lambda *_: (None, results(conv_general_dilated)), None, (), 1
      )

  if looped:
    ours = jax.tree.map(lambda x: x[0], jax.jit(in_a_loop)()[1])
  else:
    ours = jax.jit(lambda: results(conv_general_dilated))()
  right = jax.jit(lambda: results(lax.conv_general_dilated))()
  for one, other in zip(
    jax.tree.leaves(ours), jax.tree.leaves(right), strict=True
  ):
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


def test_programs_of_other_devices_convolve_volumes():
  volumes = jnp.zeros((1, 4, 8, 8, 2))
  model = nn.Conv(3, (3, 3, 3), conv_general_dilated=conv_general_dilated)
  variables = model.init(jax.random.key(0), volumes)

  def loss(variables):
    return model.apply(variables, volumes).sum()

  traced = jax.jit(jax.grad(loss)).trace(variables)

  def of_volumes(platform):
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    return "0, 1, 2" in text

  assert not of_volumes("cpu")
  assert of_volumes("tpu")
  # Nothing is left to decide when it runs.
  assert "conditional" not in traced.lower().compile().as_text()


def test_models_use_these_convolutions():
  folder = pathlib.Path(segsiam_jax.__file__).parent / "models"
  for file in folder.glob("*.py"):
    assert "nn.Conv(" not in file.read_text(), file.name
