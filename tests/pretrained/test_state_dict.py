import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segsiam_jax.errors import UserError
from segsiam_jax.models.resnet import ResNet
from segsiam_jax.pretrained import state_dict as sd
from segsiam_jax.pretrained import torchvision


@pytest.fixture(scope="module")
def template():
  images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
  model = ResNet(18)
  return jax.eval_shape(lambda x: model.init(jax.random.key(0), x), images)


@pytest.fixture
def weights(template):
  """A state dict of random weights, as torchvision saves it."""
  rng = np.random.default_rng(0)
  values = jax.tree.map(
    lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), template
  )
  return torchvision.resnet_state_dict(values) | {
    "fc.weight": np.zeros((1000, 512), np.float32),
    "fc.bias": np.zeros(1000, np.float32),
    "bn1.num_batches_tracked": np.zeros((), np.int64),
  }


def test_layout_is_pytorch_s(weights):
  assert weights["conv1.weight"].shape == (64, 3, 7, 7)
  assert weights["layer2.0.downsample.0.weight"].shape == (128, 64, 1, 1)
  assert weights["layer2.0.downsample.1.running_var"].shape == (128,)


def test_there_and_back(weights, template, tmp_path):
  path = tmp_path / "resnet18.safetensors"
  sd.write_state_dict(path, weights)
  variables = torchvision.resnet(sd.read_state_dict(path), template)
  again = torchvision.resnet_state_dict(variables)
  assert set(again) == {
    key for key in weights if not key.startswith("fc.") and "num_" not in key
  }
  for key, value in again.items():
    np.testing.assert_array_equal(value, weights[key])


def test_every_misfit_is_listed(weights, template):
  del weights["layer1.0.conv1.weight"]
  weights["bn1.bias"] = np.zeros(3)
  weights["extra.weight"] = np.zeros(3)
  with pytest.raises(UserError) as caught:
    torchvision.resnet(weights, template)
  message = str(caught.value)
  assert message.startswith("3 of the weights do not fit")
  assert "layer1.0.conv1.weight is missing" in message
  assert "bn1.bias gives (3,), the model has (64,)" in message
  assert "extra.weight is unknown" in message


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_first_convolution_adapts(weights, channels):
  images = jax.ShapeDtypeStruct((1, 32, 32, channels), jnp.float32)
  model = ResNet(18)
  template = jax.eval_shape(lambda x: model.init(jax.random.key(0), x), images)
  variables = torchvision.resnet(weights, template)
  kernel = variables["params"]["conv1"]["kernel"]
  assert kernel.shape == (7, 7, channels, 64)
  rgb = weights["conv1.weight"].transpose(2, 3, 1, 0)
  if channels == 1:
    np.testing.assert_allclose(kernel[:, :, 0], rgb.sum(2), rtol=1e-5)
  else:
    np.testing.assert_allclose(
      kernel[:, :, -1], rgb[:, :, (channels - 1) % 3] * 3 / channels, rtol=1e-5
    )


def test_unreadable_files_are_named(tmp_path):
  with pytest.raises(UserError, match="no such file"):
    sd.read_state_dict(tmp_path / "a.safetensors")
  (tmp_path / "b.safetensors").write_bytes(b"nonsense")
  with pytest.raises(UserError, match="not a readable state dict"):
    sd.read_state_dict(tmp_path / "b.safetensors")
