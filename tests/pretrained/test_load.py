"""Files of published weights, found by their keys, in all kinds of models."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segsiam_jax import train
from segsiam_jax.config import default_config
from segsiam_jax.errors import UserError
from segsiam_jax.models.encoders import make_encoder
from segsiam_jax.models.fcn import FCN, FCNResNet
from segsiam_jax.models.towers import EncoderTower
from segsiam_jax.models.unet import UNet
from segsiam_jax.pretrained import load, smp, torchvision
from segsiam_jax.pretrained.state_dict import write_state_dict

TINY_FCN = {"width": 6, "base_width": 2, "borders": "same"}


def template_of(model, channels=3):
  images = jax.ShapeDtypeStruct((1, 32, 32, channels), jnp.float32)
  return jax.eval_shape(lambda x: model.init(jax.random.key(0), x), images)


def zeros_of(model, channels=3):
  """(params, model_state), as a run has them."""
  variables = jax.tree.map(
    lambda leaf: jnp.zeros(leaf.shape), template_of(model, channels)
  )
  return variables.pop("params"), variables


def random_weights(model, to_state_dict):
  rng = np.random.default_rng(0)
  variables = jax.tree.map(
    lambda leaf: rng.normal(size=leaf.shape).astype(np.float32),
    template_of(model),
  )
  return to_state_dict(variables)


@pytest.fixture(scope="module")
def resnet18(tmp_path_factory):
  """(path, state dict) of a whole classifier."""
  weights = random_weights(
    make_encoder("resnet18"), torchvision.resnet_state_dict
  )
  weights |= {
    "fc.weight": np.zeros((1000, 512), np.float32),
    "fc.bias": np.zeros(1000, np.float32),
  }
  path = tmp_path_factory.mktemp("weights") / "resnet18.safetensors"
  write_state_dict(path, weights)
  return path, weights


def is_zero(tree):
  return all(not leaf.any() for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize(
  "model",
  [UNet(2, "resnet18"), FCNResNet(2, "resnet18"), EncoderTower("resnet18")],
  ids=["unet", "fcn_resnet", "tower"],
)
def test_a_classifier_fills_the_encoder_alone(resnet18, model):
  path, weights = resnet18
  params, model_state = load.load_weights(path, *zeros_of(model))
  kernel = params.pop("encoder")["layer4_1"]["conv2"]["kernel"]
  np.testing.assert_array_equal(
    kernel, weights["layer4.1.conv2.weight"].transpose(2, 3, 1, 0)
  )
  mean = model_state["batch_stats"].pop("encoder")["bn1"]["mean"]
  np.testing.assert_array_equal(mean, weights["bn1.running_mean"])
  assert is_zero(params) and is_zero(model_state)


def test_an_encoder_deep_inside_is_found(resnet18):
  path, weights = resnet18
  params, state = zeros_of(make_encoder("resnet18"))
  params = {"tower": {"encoder": params}, "head": {"bias": jnp.zeros(3)}}
  state = {"batch_stats": {"tower": {"encoder": state["batch_stats"]}}}
  params, state = load.load_weights(path, params, state)
  scale = params["tower"]["encoder"]["bn1"]["scale"]
  np.testing.assert_array_equal(scale, weights["bn1.weight"])
  assert is_zero(params["head"])


def test_skipped_arrays_stay(resnet18):
  path, _ = resnet18
  params, state = load.load_weights(
    path,
    *zeros_of(UNet(2, "resnet18")),
    skip="params/encoder/conv1|model_state/.*/bn1/mean",
  )
  encoder = params["encoder"]
  assert is_zero(encoder["conv1"]) and not is_zero(encoder["bn1"])
  stats = state["batch_stats"]["encoder"]["layer1_0"]["bn1"]
  assert is_zero(stats["mean"]) and not is_zero(stats["var"])


def test_the_first_convolution_takes_other_channels(resnet18):
  path, weights = resnet18
  params, _ = load.load_weights(path, *zeros_of(UNet(2, "resnet18"), 1))
  kernel = params["encoder"]["conv1"]["kernel"]
  np.testing.assert_allclose(
    kernel[:, :, 0], weights["conv1.weight"].sum(1).transpose(1, 2, 0), 1e-5
  )


def smp_like(classes):
  return UNet(classes, "resnet18", upsample="nearest", head_kernel=3)


@pytest.mark.parametrize(
  ("file", "model", "to_state_dict", "head"),
  [
    (smp_like(5), smp_like(2), smp.unet_state_dict, "logits"),
    (
      FCNResNet(5, "resnet18"),
      FCNResNet(2, "resnet18"),
      torchvision.fcn_resnet_state_dict,
      "head/score|aux_head/score",
    ),
  ],
  ids=["smp", "fcn_resnet"],
)
def test_another_number_of_classes(file, model, to_state_dict, head, tmp_path):
  path = tmp_path / "whole.safetensors"
  write_state_dict(path, random_weights(file, to_state_dict))
  with pytest.raises(UserError, match="init_skip keeps the initial") as caught:
    load.load_weights(path, *zeros_of(model))
  assert "of the weights do not fit" in str(caught.value)
  assert "\n" not in str(caught.value)
  params, _ = load.load_weights(path, *zeros_of(model), skip=head)
  for path, leaf in jax.tree_util.tree_leaves_with_path(params):
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    fresh = any(name.startswith(part) for part in head.split("|"))
    assert leaf.any() != fresh, name


def vgg16_file(path, norm="none"):
  """A classifier's file, as narrow as TINY_FCN."""
  name = "vgg16" if norm == "none" else "vgg16_bn"
  rng = np.random.default_rng(1)
  weights = random_weights(
    make_encoder(name).clone(base_width=2), torchvision.vgg16_state_dict
  )
  for index, shape in ((0, (6, 7 * 7 * 16)), (3, (6, 6)), (6, (1000, 6))):
    weights |= {
      f"classifier.{index}.weight": rng.normal(size=shape).astype(np.float32),
      f"classifier.{index}.bias": rng.normal(size=shape[:1]).astype(np.float32),
    }
  write_state_dict(path, weights)
  return weights


def test_vgg16_s_classifier_becomes_fcn_s_convolutions(tmp_path, rng):
  path = tmp_path / "vgg16.safetensors"
  weights = vgg16_file(path)
  params, _ = load.load_weights(path, *zeros_of(FCN(2, **TINY_FCN)))
  assert is_zero(params["score_fr"])
  # A linear layer of the flattened map (C, H, W) is a convolution.
  features = rng.normal(size=(16, 7, 7)).astype(np.float32)
  expected = weights["classifier.0.weight"] @ features.ravel()
  kernel = np.asarray(params["fc6"]["kernel"])
  actual = np.einsum("chw,hwco->o", features, kernel)
  np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)
  np.testing.assert_array_equal(
    params["fc7"]["kernel"][0, 0], weights["classifier.3.weight"].T
  )
  np.testing.assert_array_equal(
    params["encoder"]["conv5_3"]["bias"], weights["features.28.bias"]
  )
  with pytest.raises(UserError, match="do not fit.*fits.*width = 4096"):
    load.load_weights(
      path, *zeros_of(FCN(2, width=8, base_width=2, borders="same"))
    )


def test_vgg16_with_batch_norm(tmp_path):
  path = tmp_path / "vgg16_bn.safetensors"
  weights = vgg16_file(path, norm="batch")
  model = make_encoder("vgg16_bn").clone(base_width=2)
  params, state = zeros_of(model)
  params, state = load.load_weights(
    path,
    {"encoder": params},
    {"batch_stats": {"encoder": state["batch_stats"]}},
  )
  np.testing.assert_array_equal(
    params["encoder"]["conv5_3"]["bias"], weights["features.40.bias"]
  )
  np.testing.assert_array_equal(
    state["batch_stats"]["encoder"]["bn5_3"]["var"],
    weights["features.41.running_var"],
  )


@pytest.mark.parametrize(
  ("model", "message"),
  [
    (UNet(2, depth=1, base_width=2), "ResNet, which does not fit this"),
    (UNet(2, "resnet34"), "layer1.2.bn1.running_mean is missing"),
    (UNet(2, "resnet18", norm="group"), "of the weights do not fit"),
  ],
)
def test_a_file_of_another_model_is_one_clear_line(resnet18, model, message):
  path, _ = resnet18
  with pytest.raises(UserError, match=message) as caught:
    load.load_weights(path, *zeros_of(model))
  assert str(caught.value).startswith(str(path))
  assert "\n" not in str(caught.value)


def test_a_decoder_of_another_kind_is_told(tmp_path):
  path = tmp_path / "smp.safetensors"
  write_state_dict(path, random_weights(smp_like(2), smp.unet_state_dict))
  with pytest.raises(UserError, match="blocks.0.upconv.conv.weight is miss"):
    load.load_weights(path, *zeros_of(UNet(2, "resnet18", head_kernel=3)))
  with pytest.raises(
    UserError, match="does not fit this model; it fits model."
  ):
    load.load_weights(path, *zeros_of(FCN(2, **TINY_FCN)))


def test_an_unknown_format_is_told(tmp_path):
  path = tmp_path / "other.safetensors"
  write_state_dict(path, {"stem.weight": np.zeros(3, np.float32)})
  with pytest.raises(UserError, match="keys .stem.weight, ....*no known form"):
    load.load_weights(path, {}, {})


@pytest.fixture
def fcn_config(tiny_config):
  """An FCN that no step changes."""
  config = default_config("semantic", "fcn")
  for section in ("data", "augment", "loss", "train", "optimizer"):
    config[section] = tiny_config[section]
  config.model.update(TINY_FCN)
  config.optimizer.learning_rate = 0.0
  config.train.num_steps = config.train.log_every = 1
  return config


@pytest.mark.slow
def test_a_run_starts_from_a_file(fcn_config, tmp_path):
  path = tmp_path / "vgg16.safetensors"
  weights = vgg16_file(path)
  fcn_config.init_from = str(path)
  fcn_config.train.ema_decay = 0.5
  state = train.train_and_evaluate(fcn_config, str(tmp_path / "run"))
  for params in (state.params, state.ema_params):
    np.testing.assert_array_equal(
      params["encoder"]["conv1_1"]["bias"], weights["features.0.bias"]
    )
  fcn_config.init_from = str(tmp_path / "none.pth")
  with pytest.raises(UserError, match="none.pth: no such file"):
    train.train_and_evaluate(fcn_config, str(tmp_path / "other"))


@pytest.mark.slow
def test_fcn_in_the_paper_s_stages(fcn_config, tmp_path):
  """32s -> 16s -> 8s: only the new score layers are fresh."""
  before = None
  for stride, new in ((32, None), (16, "score_pool4"), (8, "score_pool3")):
    config = fcn_config.copy_and_resolve_references()
    config.model.stride = stride
    config.seed = stride
    if new:
      config.init_from = str(tmp_path / str(2 * stride))
      config.init_skip = new
    workdir = str(tmp_path / str(stride))
    params = dict(train.train_and_evaluate(config, workdir).params)
    fresh = {name: params.pop(name) for name in (new,) if name}
    assert is_zero(fresh)
    if before is not None:
      jax.tree.map(np.testing.assert_array_equal, params, before)
    before = params | fresh
