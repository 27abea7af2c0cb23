import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segsiam_jax.models.unet import UNet


def count(variables):
  return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


def shapes(model, size, channels):
  images = jax.ShapeDtypeStruct((2, *size, channels), jnp.float32)
  return jax.eval_shape(
    lambda x: model.init_with_output(jax.random.key(0), x), images
  )


def test_parameter_count_of_the_paper_s_widths():
  # 31,031,685 for 3 input channels and 5 classes with biases and without norm:
  # 3x3 convolutions 64..1024, 2x2 up-convolutions, 1x1 logits.
  _, variables = shapes(UNet(2, norm="none"), (64, 64), 1)
  widths = (64, 128, 256, 512, 1024)
  expected, previous = 0, 1
  for width in widths:
    expected += (9 * previous + 1) * width + (9 * width + 1) * width
    previous = width
  for width in reversed(widths[:-1]):
    expected += (4 * 2 * width + 1) * width
    expected += (9 * 2 * width + 1) * width + (9 * width + 1) * width
  expected += (64 + 1) * 2
  assert count(variables) == expected == 31_030_658


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (5, 64), (1, 1)])
@pytest.mark.parametrize("channels", [1, 3, 7])
def test_any_size_and_channel_count(size, channels):
  logits, _ = shapes(UNet(4, depth=3, base_width=4), size, channels)
  assert logits.shape == (2, *size, 4)
  assert logits.dtype == jnp.float32


@pytest.mark.parametrize("upsample", ["transpose", "resize"])
@pytest.mark.parametrize("norm", ["batch", "group", "none"])
def test_bfloat16_compute_keeps_float32_parameters(norm, upsample):
  model = UNet(
    3, depth=2, base_width=4, norm=norm, upsample=upsample, dtype=jnp.bfloat16
  )
  logits, variables = shapes(model, (16, 16), 3)
  assert logits.dtype == jnp.float32
  assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {
    jnp.dtype(jnp.float32)
  }


def test_padding_does_not_change_what_is_far_from_it(rng):
  model = UNet(2, depth=2, base_width=4, norm="none")
  x = jnp.asarray(rng.normal(size=(1, 64, 64, 3)), jnp.float32)
  variables = jax.jit(model.init)(jax.random.key(0), x)
  apply = jax.jit(model.apply)
  whole, cropped = apply(variables, x), apply(variables, x[:, :61, :62])
  assert cropped.shape == (1, 61, 62, 2)
  np.testing.assert_allclose(
    whole[:, :32, :32], cropped[:, :32, :32], atol=1e-5
  )


def test_unknown_options_are_named():
  with pytest.raises(ValueError, match="upsample 'x' is not one of"):
    shapes(UNet(2, depth=1, upsample="x"), (8, 8), 1)
  with pytest.raises(ValueError, match="norm 'x' is not one of"):
    shapes(UNet(2, depth=1, norm="x"), (8, 8), 1)
