"""Attention gates, nested and missing skips, deep supervision, volumes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segsiam_jax.fields.encoders import ENCODERS
from segsiam_jax.models.blocks import AttentionGate, ConvBlock, DecoderBlock
from segsiam_jax.models.unet import UNet, UNetPlusPlus


def shapes(model, size):
  images = jax.ShapeDtypeStruct(size, jnp.float32)
  return jax.eval_shape(
    lambda x: model.init_with_output(jax.random.key(0), x), images
  )


def random_variables(model, size, rng):
  """Faster than to compile `init`."""
  return jax.tree.map(
    lambda leaf: rng.normal(0, 0.3, leaf.shape).astype(np.float32),
    shapes(model, size)[1],
  )


def count(params):
  return sum(leaf.size for leaf in jax.tree.leaves(params))


@pytest.mark.parametrize(
  ("model", "expected"),
  [
    # The U-Net++ paper has 7.76 M and 9.04 M.
    (UNet(1, base_width=32, norm="none"), 7_760_097),
    (UNetPlusPlus(1, base_width=32, norm="none"), 9_042_177),
    # segmentation-models-pytorch's Unet("resnet34", classes=3)
    (UNet(3, "resnet34", upsample="nearest", head_kernel=3), 24_436_659),
  ],
)
def test_published_parameter_counts(model, expected):
  _, variables = shapes(model, (1, 32, 32, 3))
  assert count(variables["params"]) == expected


@pytest.mark.parametrize("model", [UNet, UNetPlusPlus])
@pytest.mark.parametrize(
  "encoder", sorted({*ENCODERS} - {"convnext_small", "convnext_large"})
)
def test_every_encoder_gives_logits_of_the_image_s_size(model, encoder):
  logits, variables = shapes(
    model(2, encoder, deep_supervision=True), (2, 33, 65, 1)
  )
  # All levels but the image's own make logits.
  levels = 3 if encoder == "plain" else 4
  if model is UNetPlusPlus:
    # Of a plain encoder of depth 4: 1, 2, 4, 8, 16.
    levels = len(ENCODERS[encoder].strides or range(5)) - 2
  assert len(logits.auxiliary) == levels
  for each in logits:
    for leaf in jax.tree.leaves(each):
      assert leaf.shape == (2, 33, 65, 2) and leaf.dtype == jnp.float32
  assert "encoder" in variables["params"]


@pytest.mark.parametrize("model", [UNet, UNetPlusPlus])
@pytest.mark.parametrize("upsample", ["transpose", "resize", "nearest"])
def test_volumes(model, upsample):
  options = {"depth": 2, "base_width": 2, "norm": "group"}
  net = model(
    3, pool_depth=1, upsample=upsample, deep_supervision=True, **options
  )
  logits, variables = shapes(net, (1, 3, 17, 10, 1))
  assert logits.main.shape == (1, 3, 17, 10, 3)
  assert all(each.shape == (1, 3, 17, 10, 3) for each in logits.auxiliary)
  assert {
    leaf.shape[:3]
    for leaf in jax.tree.leaves(variables["params"]["encoder"])
    if leaf.ndim > 1
  } == {(3, 3, 3)}
  with pytest.raises(ValueError, match="'resnet18' does not support volumes"):
    shapes(model(2, "resnet18"), (1, 32, 32, 32, 1))


def test_a_volume_of_equal_slices_without_depth_pooling(rng):
  """Kernels that see the middle slice alone make a 2-D U-Net of each slice."""
  options = {"depth": 2, "base_width": 4, "norm": "none"}
  flat, solid = UNet(2, **options), UNet(2, pool_depth=2, **options)
  volume = jnp.asarray(rng.normal(size=(1, 3, 8, 8, 2)), jnp.float32)
  variables = random_variables(flat, volume[:, 0].shape, rng)
  _, template = shapes(solid, volume.shape)

  def inflate(small, large):
    if large.ndim < 5:
      return small
    padded = jnp.zeros(large.shape).at[large.shape[0] // 2].set(small)
    return padded

  inflated = jax.tree.map(inflate, variables, template)
  expected, actual = jax.jit(
    lambda small, large: (
      flat.apply(small, volume[0]),
      solid.apply(large, volume),
    )
  )(variables, inflated)
  np.testing.assert_allclose(actual[0], expected, atol=1e-5)


def test_attention_gate_is_the_paper_s_formula(rng):
  skip = rng.normal(size=(2, 4, 6, 3)).astype(np.float32)
  gating = rng.normal(size=(2, 2, 3, 5)).astype(np.float32)
  gated, variables = AttentionGate().init_with_output(
    jax.random.key(0), skip, gating
  )
  params = jax.tree.map(np.asarray, variables["params"])
  assert params["skip"]["kernel"].shape == (2, 2, 3, 1)
  blocks = skip.reshape(2, 2, 2, 3, 2, 3)
  compared = np.einsum("biyjxc,yxcf->bijf", blocks, params["skip"]["kernel"])
  compared += gating @ params["gating"]["kernel"][0, 0]
  compared = np.maximum(compared + params["gating"]["bias"], 0)
  scores = compared @ params["psi"]["kernel"][0, 0] + params["psi"]["bias"]
  scale = 1 / (1 + np.exp(-scores))
  # Half-pixel centers: an output pixel lies a quarter off an input pixel.
  for axis in (1, 2):
    size = scale.shape[axis]
    at = np.clip((np.arange(2 * size) + 0.5) / 2 - 0.5, 0, size - 1)
    low = np.floor(at).astype(int)
    high = np.minimum(low + 1, size - 1)
    weight = (at - low).reshape([-1 if a == axis else 1 for a in range(4)])
    scale = (1 - weight) * scale.take(low, axis) + weight * scale.take(
      high, axis
    )
  np.testing.assert_allclose(gated, skip * scale, atol=1e-5)


def test_attention_gates_take_volumes(rng):
  skip = rng.normal(size=(1, 2, 4, 4, 2)).astype(np.float32)
  gating = rng.normal(size=(1, 2, 2, 2, 3)).astype(np.float32)
  gated, _ = AttentionGate().init_with_output(jax.random.key(0), skip, gating)
  ratio = np.asarray(gated / skip)
  assert gated.shape == skip.shape
  assert (ratio > 0).all() and (ratio < 1).all()


def test_without_skips_all_else_is_equal():
  options = {"depth": 2, "base_width": 4, "norm": "none"}
  _, whole = shapes(UNet(2, **options), (1, 16, 16, 3))
  _, less = shapes(UNet(2, skips=False, **options), (1, 16, 16, 3))
  # A block's first convolution sees the up-sampled features alone.
  for index, width in enumerate((8, 4)):
    convs = [
      each["params"][f"decoder{index}"]["convs"]["conv1"]["kernel"]
      for each in (whole, less)
    ]
    assert [conv.shape[2] for conv in convs] == [2 * width, width]
  missing = 9 * 8 * 8 + 9 * 4 * 4
  assert count(whole["params"]) - count(less["params"]) == missing


def test_nodes_of_unet_plus_plus_see_all_nodes_before_them():
  model = UNetPlusPlus(2, depth=3, base_width=4, norm="none")
  params = shapes(model, (1, 16, 16, 3))[1]["params"]
  nodes = {name for name in params if name.startswith("node")}
  assert nodes == {
    *("node0_1", "node1_1", "node2_1"),
    *("node0_2", "node1_2", "node0_3"),
  }
  for name in nodes:
    level, j = map(int, name.removeprefix("node").split("_"))
    kernel = params[name]["convs"]["conv1"]["kernel"]
    assert kernel.shape[2:] == ((j + 1) * 4 * 2**level, 4 * 2**level)


def test_residual_blocks_add_their_input(rng):
  x = jnp.asarray(rng.normal(size=(2, 5, 6, 4)), jnp.float32)
  plain, residual = ConvBlock(4, norm="none"), ConvBlock(4, True, norm="none")
  variables = plain.init(jax.random.key(0), x, True)
  zero = jax.tree.map(jnp.zeros_like, variables)
  np.testing.assert_array_equal(residual.apply(zero, x, True), jax.nn.relu(x))
  np.testing.assert_array_equal(plain.apply(zero, x, True), 0)
  wider = ConvBlock(6, True, norm="none").init(jax.random.key(0), x, True)
  assert wider["params"]["shortcut"]["kernel"].shape == (1, 1, 4, 6)


def test_nearest_upsampling_repeats_pixels(rng):
  x = jnp.asarray(rng.normal(size=(1, 2, 3, 2)), jnp.float32)
  block = DecoderBlock(2, upsample="nearest", norm="none")
  variables = block.init(jax.random.key(0), x, (), (4, 6), True)
  # Convolutions that pass positive features on.
  identity = jnp.zeros((3, 3, 2, 2)).at[1, 1].set(jnp.eye(2))
  params = {
    "convs": {
      name: {"kernel": identity, "bias": jnp.zeros(2)}
      for name in ("conv1", "conv2")
    }
  }
  assert jax.tree.map(jnp.shape, variables["params"]) == jax.tree.map(
    jnp.shape, params
  )
  up = block.apply({"params": params}, x, (), (4, 6), True)
  expected = np.repeat(np.repeat(jax.nn.relu(x), 2, 1), 2, 2)
  np.testing.assert_allclose(up, expected, atol=1e-6)


def test_remat_changes_nothing_but_memory(rng):
  model = UNet(2, depth=1, base_width=2, attention=True, deep_supervision=True)
  x = jnp.asarray(rng.normal(size=(1, 9, 8, 1)), jnp.float32)
  variables = random_variables(model, x.shape, rng)

  def loss(params, model):
    logits, _ = model.apply(
      {**variables, "params": params}, x, train=True, mutable=["batch_stats"]
    )
    return sum(jnp.square(each).mean() for each in jax.tree.leaves(logits))

  @jax.jit
  def gradients(params):
    return [
      jax.grad(loss)(params, model.clone(remat=remat))
      for remat in (False, True)
    ]

  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5),
    *gradients(variables["params"]),
  )


def test_unknown_options_are_named():
  with pytest.raises(ValueError, match="block 'x' is not one of"):
    shapes(UNet(2, depth=1, block="x"), (1, 8, 8, 1))
  with pytest.raises(ValueError, match="encoder 'plain' needs 2"):
    shapes(UNet(2, depth=2, decoder_channels=(1,)), (1, 8, 8, 1))
