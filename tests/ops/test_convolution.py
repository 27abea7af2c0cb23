"""The convolution with fast gradients is lax's, whatever is asked of it."""

import logging

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from segsiam_jax.ops import convolution

NUMBERS = {
  3: ("NWC", "WIO", "NWC"),
  4: ("NHWC", "HWIO", "NHWC"),
  5: ("NDHWC", "DHWIO", "NDHWC"),
}
# Shape of the inputs, shape of the kernel, further arguments.
CASES = {
  "3x3": ((2, 5, 6, 64), (3, 3, 64, 72), {}),
  "1x1": ((2, 4, 3, 64), (1, 1, 64, 64), {"padding": "VALID"}),
  "same": ((1, 6, 7, 64), (3, 2, 64, 64), {"padding": "SAME"}),
  "same, stride 2": (
    (2, 7, 8, 64),
    (3, 3, 64, 64),
    {"padding": "SAME", "window_strides": (2, 2)},
  ),
  "stride and dilation": (
    (1, 9, 11, 64),
    (3, 3, 64, 64),
    {
      "padding": ((2, 3), (1, 2)),
      "window_strides": (2, 3),
      "rhs_dilation": (2, 1),
    },
  ),
  "1-D": ((2, 9, 64), (5, 64, 64), {"padding": ((0, 4),)}),
  "3-D": ((1, 3, 4, 3, 64), (3, 3, 3, 64, 64), {"padding": ((1, 1),) * 3}),
  "cut": ((1, 6, 6, 64), (3, 3, 64, 64), {"padding": ((-1, 1), (0, -2))}),
  # Left to lax.
  "nothing": ((2, 1, 4, 64), (3, 3, 64, 64), {"padding": "VALID"}),
  "narrow": ((1, 5, 5, 3), (3, 3, 3, 64), {}),
  "grouped": ((1, 5, 5, 128), (3, 3, 64, 128), {"feature_group_count": 2}),
  "up": (
    (1, 4, 4, 64),
    (3, 3, 64, 64),
    {"lhs_dilation": (2, 2), "padding": ((1, 0), (2, 1))},
  ),
}


def values(*shapes):
  rng = np.random.default_rng(0)
  return [rng.normal(size=shape).astype(np.float32) for shape in shapes]


def both(options, rank):
  """Our convolution and lax's, of inputs and kernel."""
  options = {
    "window_strides": (1,) * (rank - 2),
    "padding": ((1, 1),) * (rank - 2),
    "dimension_numbers": NUMBERS[rank],
    **options,
  }
  return [
    lambda x, k, conv=conv: conv(x, k, **options)
    for conv in (
      convolution.conv_general_dilated,
      lax.conv_general_dilated,
    )
  ]


def assert_equal(ours, theirs):
  for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
    largest = np.abs(b).max(initial=0.0)
    np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4 * largest)


@pytest.fixture(params=[0, 2**26], ids=["one by one", "at once"])
def at_once(request, monkeypatch):
  monkeypatch.setattr(convolution, "_MOST_AT_ONCE", request.param)
  convolution._with_fast_gradient.cache_clear()
  yield
  convolution._with_fast_gradient.cache_clear()


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("name", CASES)
def test_value_and_gradients_are_those_of_lax(name):
  shape, kernel_shape, options = CASES[name]
  x, kernel = values(shape, kernel_shape)
  results = []
  for conv in both(options, len(shape)):
    out, back = jax.vjp(jax.jit(conv), x, kernel)
    results.append((out, back(jnp.cos(out))))
  assert_equal(*results)


def test_the_kernel_gradient_of_one_cell_by_hand():
  x, kernel, weights = values((2, 4, 5, 64), (3, 3, 64, 64), (2, 4, 5, 64))
  conv = both({}, 4)[0]
  gradient = jax.grad(lambda k: (conv(x, k) * weights).sum())(kernel)
  # Cell (0, 2) sees the pixel above and to the right.
  expected = np.zeros((64, 64))
  for row, y, column in np.ndindex(2, 4, 5):
    if y >= 1 and column + 1 < 5:
      expected += np.outer(x[row, y - 1, column + 1], weights[row, y, column])
  np.testing.assert_allclose(gradient[0, 2], expected, rtol=1e-4, atol=1e-4)


def loss(conv):
  return lambda x, kernel: jnp.sin(conv(x, kernel)).sum()


TRANSFORMED = {
  "tangent": lambda f, x, k: jax.jvp(f, (x, k), (k.sum() * x, k)),
  "Hessian times a vector": lambda f, x, k: jax.jvp(
    jax.grad(f, (0, 1)), (x, k), (x, k)
  )[1],
  "gradient of a gradient": lambda f, x, k: jax.grad(
    lambda k: jnp.square(jax.grad(f, 1)(x, k)).sum()
  )(k),
  "vmap over inputs": lambda f, x, k: jax.vmap(jax.grad(f, 1), (0, None))(
    x[:, None], k
  ),
  "vmap over kernels": lambda f, x, k: jax.vmap(jax.grad(f, 1), (None, 0))(
    x, jnp.stack([k, -k])
  ),
  "remat": lambda f, x, k: jax.grad(jax.checkpoint(f), (0, 1))(x, k),
  "inputs alone": lambda f, x, k: jax.grad(f)(x, k),
}


@pytest.mark.parametrize("name", TRANSFORMED)
def test_transformations(name):
  x, kernel = values((2, 4, 4, 64), (3, 3, 64, 64))
  kernel *= 0.01
  ours, theirs = (
    TRANSFORMED[name](loss(conv), x, kernel) for conv in both({}, 4)
  )
  assert_equal(ours, theirs)


@pytest.mark.usefixtures("at_once")
def test_under_shard_map():
  """Each device differentiates what it sees; types say what is spread."""
  mesh = jax.make_mesh(
    (2,), ("data",), devices=jax.devices()[:2], axis_types=(AxisType.Auto,)
  )
  x, kernel = values((4, 4, 4, 64), (3, 3, 64, 64))
  results = []
  for conv in both({}, 4):

    def of_rows(x, kernel, conv=conv):
      value, gradient = jax.value_and_grad(loss(conv), 1)(
        x, jax.lax.pcast(kernel, "data", to="varying")
      )
      return jax.lax.psum((value, gradient), "data")

    mapped = jax.shard_map(
      of_rows, mesh=mesh, in_specs=(P("data"), P()), out_specs=P()
    )
    results.append(jax.jit(mapped)(x, kernel))
  assert_equal(*results)


def test_a_batch_of_any_size_is_exported():
  x, kernel = values((3, 4, 4, 64), (3, 3, 64, 64))
  gradient = jax.jit(jax.grad(loss(both({}, 4)[0]), 1))
  [batch] = jax.export.symbolic_shape("b")
  exported = jax.export.export(gradient)(
    jax.ShapeDtypeStruct((batch, *x.shape[1:]), x.dtype), kernel
  )
  assert_equal(exported.call(x, kernel), gradient(x, kernel))


def test_compiled_once_outside_of_jit(caplog):
  x, kernel = values((2, 5, 4, 64), (3, 3, 64, 64))
  gradient = jax.grad(loss(both({}, 4)[0]), 1)
  gradient(x, kernel)
  with jax.log_compiles(), caplog.at_level(logging.WARNING):
    gradient(x, kernel)
  assert not [text for text in caplog.messages if "XLA compilation" in text]


def test_bfloat16_is_left_to_lax():
  x, kernel = (
    v.astype(jnp.bfloat16) for v in values((1, 3, 3, 64), (3, 3, 64, 64))
  )
  ours, theirs = (jax.grad(loss(conv), 1)(x, kernel) for conv in both({}, 4))
  np.testing.assert_array_equal(np.float32(ours), np.float32(theirs))


def test_other_platforms_than_the_cpu_get_a_convolution():
  x, kernel = values((1, 4, 4, 64), (3, 3, 64, 64))
  traced = jax.jit(jax.grad(loss(both({}, 4)[0]), 1)).trace(x, kernel)
  text = traced.lower(lowering_platforms=("tpu",)).as_text()
  # The value and the gradient.
  assert text.count("stablehlo.convolution") == 2
  assert "stablehlo.dot_general" not in text
  assert "stablehlo.dot_general" in traced.lower().as_text()
