import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segsiam_jax.models.fcn import (
  FCN,
  BilinearUp,
  _crop,
  bilinear_kernel,
)


def test_bilinear_kernels_of_the_authors():
  line = np.array([0.25, 0.75, 0.75, 0.25])
  np.testing.assert_allclose(bilinear_kernel(4), np.outer(line, line))
  odd = np.array([0.5, 1.0, 0.5])
  np.testing.assert_allclose(bilinear_kernel(3), np.outer(odd, odd))


@pytest.mark.parametrize("factor", [2, 8])
def test_learned_upsampling_starts_bilinear(rng, factor):
  x = jnp.asarray(rng.normal(size=(2, 5, 4, 3)), jnp.float32)
  fixed, _ = BilinearUp(factor).init_with_output(jax.random.key(0), x)
  learned, variables = BilinearUp(factor, learned=True).init_with_output(
    jax.random.key(0), x
  )
  assert fixed.shape == (2, 4 * factor + 2 * factor, 5 * factor, 3)
  assert variables["params"]["kernel"].size == (2 * factor) ** 2 * 9
  np.testing.assert_allclose(learned, fixed, atol=1e-5)
  # Inside, a ramp stays a ramp.
  ramp = jnp.broadcast_to(jnp.arange(5.0)[:, None, None], (1, 5, 4, 1))
  up = BilinearUp(factor).apply({}, ramp)[
    0, 2 * factor : -2 * factor, 5 * factor // 2, 0
  ]
  np.testing.assert_allclose(jnp.diff(up), 1 / factor, rtol=1e-4)


@pytest.mark.parametrize("stride", [32, 16, 8])
@pytest.mark.parametrize("size", [(64, 64), (65, 97), (1, 33)])
def test_logits_have_the_image_s_size(stride, size):
  model = FCN(21, stride)
  images = jax.ShapeDtypeStruct((1, *size, 3), jnp.float32)
  logits = jax.eval_shape(
    lambda x: model.init_with_output(jax.random.key(0), x)[0], images
  )
  assert logits.shape == (1, *size, 21)


def test_a_finer_stage_starts_where_the_coarser_one_is():
  """New scores are zero: 16s with 32s' weights is a smooth 32s."""
  model = FCN(3, stride=16, width=8)
  images = jax.ShapeDtypeStruct((1, 40, 40, 3), jnp.float32)
  params = jax.eval_shape(lambda x: model.init(jax.random.key(0), x), images)[
    "params"
  ]
  coarser = jax.eval_shape(
    lambda x: FCN(3, stride=32, width=8).init(jax.random.key(0), x), images
  )["params"]
  assert set(params) - set(coarser) == {"score_pool4"}
  assert jax.tree.map(jnp.shape, coarser) == jax.tree.map(
    jnp.shape, {name: params[name] for name in coarser}
  )


@pytest.mark.parametrize("stride", [32, 16, 8])
def test_same_borders_line_up(stride, rng):
  """Up-sampled scores lie where the pixels that made them do."""
  model = FCN(
    3, stride=stride, borders="same", base_width=2, width=4, norm="group"
  )
  image = jnp.asarray(rng.normal(size=(1, 50, 70, 1)), jnp.float32)
  variables = jax.jit(model.init)(jax.random.key(0), image)
  assert jax.jit(model.apply)(variables, image).shape == (1, 50, 70, 3)
  # A ramp, pooled as the strides pool it, comes back.
  ramp = jnp.arange(64.0)[None, :, None, None] * jnp.ones((1, 1, 64, 1))
  pooled = ramp.reshape(1, 64 // stride, stride, 64 // stride, stride, 1)
  pooled = pooled.mean((2, 4))
  up = BilinearUp(stride).apply({}, pooled)
  up = _crop(up, (64, 64), stride // 2)
  inside = slice(stride, 64 - stride) if stride < 32 else slice(24, 40)
  np.testing.assert_allclose(
    up[0, inside, 32, 0], ramp[0, inside, 32, 0], atol=1e-3
  )
