import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segsiam_jax.fields.encoders import ENCODERS
from segsiam_jax.models.encoders import make_encoder
from segsiam_jax.models.fcn import FCNResNet
from segsiam_jax.models.plain import PlainEncoder
from segsiam_jax.models.towers import EncoderTower
from segsiam_jax.models.unet import UNet, UNetPlusPlus

# Other sizes of ConvNeXt are more of the same.
NAMES = sorted({*ENCODERS} - {"convnext_small", "convnext_large"})


def shapes(model, size, train=False):
  images = jax.ShapeDtypeStruct((2, *size), jnp.float32)
  return jax.eval_shape(
    lambda x: model.init_with_output(jax.random.key(0), x, train), images
  )


@pytest.mark.parametrize("name", NAMES)
def test_channels_and_strides_are_those_of_the_maps(name):
  model = make_encoder(name, dtype=jnp.bfloat16)
  features, variables = shapes(model, (64, 96, 5))
  assert len(features) == len(model.channels) == len(model.strides)
  assert list(model.strides) == sorted(model.strides)
  for feature, width, stride in zip(
    features, model.channels, model.strides, strict=True
  ):
    assert feature.shape == (2, 64 // stride, 96 // stride, width)
    assert feature.dtype == jnp.bfloat16
  assert ENCODERS[name].strides in ((), model.strides)
  for leaf in jax.tree.leaves(variables):
    assert leaf.dtype == jnp.float32


@pytest.mark.parametrize("name", NAMES)
def test_norm_and_remat_leave_the_parameters_names(name):
  _, usual = shapes(make_encoder(name), (32, 32, 3))
  _, saving = shapes(make_encoder(name, remat=True), (32, 32, 3), train=True)
  assert jax.tree.map(jnp.shape, usual) == jax.tree.map(jnp.shape, saving)
  _, grouped = shapes(make_encoder(name, norm="group"), (32, 32, 3))
  assert "batch_stats" not in grouped
  assert ("batch_stats" in usual) == ("norm" in ENCODERS[name].takes)


def test_unknown_names_and_options():
  with pytest.raises(ValueError, match="'resnet19' is not one of plain"):
    make_encoder("resnet19")
  with pytest.raises(ValueError, match="'vgg16' does not take depth"):
    make_encoder("vgg16", depth=3)


def test_parameter_count_of_vgg16_bn():
  # torchvision's vgg16_bn less its classifier.
  _, variables = shapes(make_encoder("vgg16_bn"), (32, 32, 3))
  count = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
  assert count == 138_365_992 - 123_642_856


@pytest.mark.parametrize("residual", [False, True])
def test_a_plain_pyramid_of_a_volume(residual):
  model = PlainEncoder(3, 4, residual, norm="group", pool_depth=1)
  features, variables = shapes(model, (4, 16, 24, 2))
  assert [feature.shape[1:4] for feature in features] == [
    (4, 16, 24),
    (4, 8, 12),
    (2, 4, 6),
    (1, 2, 3),
  ]
  assert variables["params"]["level0"]["conv1"]["kernel"].shape == (
    *(3, 3, 3),
    *(2, 4),
  )


def test_remat_changes_nothing_but_memory(rng):
  x = jnp.asarray(rng.normal(size=(2, 8, 8, 3)), jnp.float32)
  models = [
    make_encoder("plain", remat=flag, depth=1, base_width=2)
    for flag in (False, True)
  ]
  variables = jax.tree.map(
    lambda leaf: rng.normal(size=leaf.shape).astype(np.float32),
    shapes(models[0], x.shape[1:])[1],
  )

  def loss(params, model):
    features, _ = model.apply(
      {**variables, "params": params}, x, train=True, mutable=["batch_stats"]
    )
    return sum(jnp.square(feature).mean() for feature in features)

  @jax.jit
  def gradients(params):
    return [jax.grad(loss)(params, model) for model in models]

  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5),
    *gradients(variables["params"]),
  )


# One of each kind of block: to trace deeper ones takes seconds.
@pytest.mark.parametrize("name", ["plain", "resnet18", "resnet50", "vgg16_bn"])
def test_every_kind_of_encoder_recomputes_when_told(name):
  images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)

  def programme(remat):
    model = make_encoder(name, remat=remat)
    return str(
      jax.make_jaxpr(lambda x: model.init(jax.random.key(0), x, True))(images)
    )

  assert "remat" in programme(True) and "remat" not in programme(False)


@pytest.mark.slow
@pytest.mark.parametrize(
  "model",
  [
    UNet(2, "convnext_tiny"),
    UNetPlusPlus(2, "convnext_tiny"),
    FCNResNet(2, "convnext_tiny"),
    EncoderTower("convnext_tiny"),
  ],
  ids=lambda model: type(model).__name__,
)
def test_convnext_trains_in_every_model(model, rng):
  images = jnp.asarray(rng.normal(size=(2, 64, 64, 3)), jnp.float32)
  variables = jax.jit(model.init)(jax.random.key(0), images)

  def loss(params):
    outputs, _ = model.apply(
      {**variables, "params": params},
      images,
      train=True,
      mutable=["batch_stats"],
      rngs={"dropout": jax.random.key(1)},
    )
    return sum(jnp.square(leaf).mean() for leaf in jax.tree.leaves(outputs))

  gradients = jax.jit(jax.grad(loss))(variables["params"])
  for leaf in jax.tree.leaves(gradients["encoder"]):
    assert np.isfinite(leaf).all()
  assert np.any(gradients["encoder"]["stem"]["kernel"])
