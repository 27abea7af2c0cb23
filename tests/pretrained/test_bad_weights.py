"""Files of weights that are none, or not of this model: one line, no code."""

import contextlib
import pathlib
import pickle
import zipfile

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from segsiam_jax.errors import UserError
from segsiam_jax.models.encoders import make_encoder
from segsiam_jax.pretrained import load, torch_files, torchvision
from segsiam_jax.pretrained import torchvision_detection as detection
from segsiam_jax.pretrained.state_dict import read_state_dict, write_state_dict
from tests import bad_inputs
from tests.pretrained.detectors import template_of


def refused(path, words):
  with pytest.raises(UserError, match=words) as error:
    read_state_dict(path)
  line = str(error.value)
  assert path.name in line and "\n" not in line and "\x1b" not in line


@pytest.fixture(scope="module")
def encoder():
  """(params, model_state) of a small encoder, and its state dict."""
  model = make_encoder("resnet10").clone(base_width=2)
  variables = jax.eval_shape(
    lambda: model.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
  )
  variables = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), variables)
  rng = np.random.default_rng(0)
  drawn = jax.tree.map(
    lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), variables
  )
  params = {"encoder": variables["params"]}
  state = {"batch_stats": {"encoder": variables["batch_stats"]}}
  return params, state, torchvision.resnet_state_dict(drawn)


@pytest.mark.parametrize("prefix", ["module.", "model.", "module._orig_mod."])
def test_names_in_front_of_all_keys(encoder, tmp_path, prefix):
  params, state, weights = encoder
  expected = {prefix + key: value for key, value in weights.items()}
  write_state_dict(tmp_path / "a.safetensors", expected)
  params, _ = load.load_weights(tmp_path / "a.safetensors", params, state)
  kernel = params["encoder"]["conv1"]["kernel"]
  np.testing.assert_array_equal(
    kernel, weights["conv1.weight"].transpose(2, 3, 1, 0)
  )


@pytest.mark.parametrize(
  "dtype", [np.float16, np.float64, np.int32, ml_dtypes.bfloat16]
)
def test_other_numbers_are_read(encoder, tmp_path, dtype):
  params, state, weights = encoder
  key = "layer1.0.conv1.weight"
  write_state_dict(
    tmp_path / "a.safetensors", weights | {key: weights[key].astype(dtype)}
  )
  params, _ = load.load_weights(tmp_path / "a.safetensors", params, state)
  kernel = params["encoder"]["layer1_0"]["conv1"]["kernel"]
  np.testing.assert_allclose(
    kernel, weights[key].astype(dtype).transpose(2, 3, 1, 0), 1e-6
  )


def test_complex_numbers_are_not_cut(encoder, tmp_path):
  path = tmp_path / "a.safetensors"
  write_state_dict(path, {"conv1.weight": np.ones((2, 2), np.complex64)})
  refused(path, "'conv1.weight' is complex")


def shapes(weights):
  """Each array with an axis less, one more, one longer and none."""
  for key, array in weights.items():
    for other in (
      array[0],
      array[None],
      np.concatenate([array, array[:1]]),
      array[:0],
      array.reshape(()) if array.size == 1 else np.float32(1),
    ):
      yield weights | {key: np.asarray(other, np.float32)}


def test_arrays_of_any_other_shape(encoder, tmp_path, monkeypatch):
  params, state, weights = encoder
  for spoiled in shapes(weights):
    monkeypatch.setattr(load, "read_state_dict", lambda path, s=spoiled: s)
    with pytest.raises(UserError, match="a.pth: torchvision's ResNet; 1 of"):
      load.load_weights("a.pth", params, state)


def test_a_detector_s_arrays_of_any_other_shape():
  template = template_of()
  weights = detection.rcnn_state_dict(
    jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), template)
  )
  last = dict(list(weights.items())[-60:])
  for spoiled in shapes(last):
    with pytest.raises(UserError, match="1 of the weights"):
      detection.rcnn(weights | spoiled, template)


def test_what_is_no_file_of_weights(tmp_path):
  (tmp_path / "empty.safetensors").write_bytes(b"")
  refused(tmp_path / "empty.safetensors", "not a readable state dict")
  write_state_dict(tmp_path / "none.safetensors", {})
  refused(tmp_path / "none.safetensors", "holds no weights")
  refused(tmp_path / "missing.pth", "no such file")
  (tmp_path / "folder.pth").mkdir()
  refused(tmp_path / "folder.pth", "not a regular file")
  with pytest.raises(UserError, match="download it"):
    read_state_dict("https://host/resnet34.pth")


def _train(init_from, tmp_path, capsys):
  config = bad_inputs.config_of("semantic", tmp_path / "data")
  config.init_from = init_from
  return bad_inputs.training_is_refused(config, tmp_path / "run", capsys)


@pytest.mark.parametrize(
  ("init_from", "words"),
  [
    ("resnet34", "names of architectures"),
    ("imagenet", "names of architectures"),
    ("no/such/workdir", "no such workdir"),
    ("resnet34.pth", "no such file"),
    ("https://host/resnet34.safetensors", "download it"),
    ("data/test/images/0.png", "not a file of weights"),
    ("data", "no checkpoints here"),
    ("mine.safetensors", "match no known format"),
    ("other.safetensors", "does not fit this model"),
  ],
)
def test_a_run_is_told_what_to_give(
  encoder, tmp_path, monkeypatch, capsys, init_from, words
):
  bad_inputs.make_semantic(tmp_path / "data")
  mine = {"a.b": np.ones(3, np.float32), "c": np.ones(3, np.float32)}
  write_state_dict(tmp_path / "mine.safetensors", mine)
  write_state_dict(tmp_path / "other.safetensors", encoder[2])
  monkeypatch.chdir(tmp_path)
  assert words in _train(init_from, tmp_path, capsys)


def with_flipped_bytes(content, count, within, size):
  """Copies of which some of the first bytes are others."""
  rng = np.random.default_rng(0)
  for _ in range(count):
    spoiled = bytearray(content)
    for at in rng.integers(within, size=size):
      spoiled[at] = rng.integers(256)
    yield spoiled


def test_damaged_safetensors(tmp_path):
  path = tmp_path / "a.safetensors"
  write_state_dict(path, {"w": np.ones(100, np.float32)})
  content = path.read_bytes()
  for cut in range(0, len(content), 37):
    path.write_bytes(content[:cut])
    refused(path, "not a readable state dict")
  for spoiled in with_flipped_bytes(content, 300, within=80, size=3):
    path.write_bytes(spoiled)
    with contextlib.suppress(UserError):
      read_state_dict(path)


class Malicious:
  def __init__(self, path):
    self.path = path

  def __reduce__(self):
    return pathlib.Path.touch, (self.path,)


def test_a_pickle_is_not_run(tmp_path):
  """Neither with torch nor without it, whatever is around the pickle."""
  content = pickle.dumps(Malicious(tmp_path / "touched"))
  (tmp_path / "plain.pth").write_bytes(content)
  with zipfile.ZipFile(tmp_path / "zip.pth", "w") as archive:
    archive.writestr("zip/data.pkl", content)
    archive.writestr("zip/version", "3\n")
    archive.writestr("zip/byteorder", "little")
  (tmp_path / "plain.safetensors").write_bytes(content)
  for path in tmp_path.glob("*.*"):
    refused(path, "torch|not a readable state dict|is not run")
  assert not (tmp_path / "touched").exists()


def _torch_forms(torch):
  """Name -> (what is saved, words of the refusal, or None if it is read)."""
  good = torch.arange(6.0).reshape(2, 3)
  meta = torch.empty(2, 3, device="meta")
  quantised = torch.quantize_per_tensor(good, 0.1, 0, torch.qint8)
  layer = torch.nn.Linear(3, 2)
  layer.weight.data, layer.bias = good, None
  script = torch.jit.script(layer)
  save = "torch.save.model.state_dict"
  return {
    "plain": ({"w": good}, None),
    "parameter": ({"w": torch.nn.Parameter(good)}, None),
    "requires_grad": ({"w": good.clone().requires_grad_()}, None),
    "bfloat16": ({"w": good.bfloat16()}, None),
    "half": ({"w": good.half()}, None),
    "double": ({"w": good.double()}, None),
    "integers": ({"w": good.long()}, None),
    "float8": ({"w": good.to(torch.float8_e4m3fn)}, None),
    "a view": ({"w": good.t().contiguous().t()}, None),
    "state_dict()": (layer.state_dict(), None),
    "beside an optimizer": (
      {"state_dict": {"w": good}, "optimizer": {}, "epoch": 3},
      None,
    ),
    "of model": ({"model": {"state_dict": {"w": good}}}, None),
    "model_state_dict": ({"model_state_dict": {"w": good}, "loss": 1.0}, None),
    "complex": ({"w": good + 0j}, "complex"),
    "sparse": ({"w": good.to_sparse()}, "to_dense"),
    "sparse rows": ({"w": good.to_sparse_csr()}, "to_dense"),
    "meta": ({"w": meta}, "'meta' and has no values"),
    "quantised": ({"w": quantised}, "quantised"),
    "integer keys": ({0: good}, f"the key 0.*{save}"),
    "keys as tuples": ({("a", 1): good}, f"the key .*{save}"),
    "a number": ({"w": good, "epoch": 3}, f"'epoch' is a int.*{save}"),
    "NumPy": ({"w": good.numpy()}, save),
    "a list": ([good], f"holds a list.*{save}"),
    "a tensor": (good, f"holds a Tensor.*{save}"),
    "nothing": (None, f"holds a NoneType.*{save}"),
    "empty": ({}, "holds no weights"),
    "a model": (layer, f"Linear, which is code.*{save}"),
    "a model in a dict": ({"model": layer}, f"is not run.*{save}"),
    "a script": (script, f"TorchScript.*{save}"),
  }


@pytest.mark.filterwarnings("ignore")
def test_forms_of_pytorch(tmp_path):
  torch = pytest.importorskip("torch", reason="only torch writes its files")
  for form, (saved, words) in _torch_forms(torch).items():
    path = tmp_path / f"{form.replace(' ', '_')}.pth"
    if isinstance(saved, torch.jit.ScriptModule):
      torch.jit.save(saved, path)
    else:
      torch.save(saved, path)
    if words:
      refused(path, words)
      continue
    read = read_state_dict(path)
    (array,) = read.values()
    assert array.dtype == np.float32, form
    np.testing.assert_array_equal(array, np.arange(6.0).reshape(2, 3))


def test_damaged_files_of_pytorch(tmp_path):
  torch = pytest.importorskip("torch", reason="only torch writes its files")
  path = tmp_path / "a.pth"
  for options in ({}, {"_use_new_zipfile_serialization": False}):
    torch.save({"w": torch.ones(100)}, path, **options)
    content = path.read_bytes()
    for cut in range(0, len(content), 37):
      path.write_bytes(content[:cut])
      refused(path, "not a readable state dict|is not run")
    for spoiled in with_flipped_bytes(content, 100, len(content), size=5):
      path.write_bytes(spoiled)
      with contextlib.suppress(UserError):
        read_state_dict(path)


def test_every_suffix_of_weights(tmp_path, monkeypatch):
  for suffix in (*load.SUFFIXES, ".PTH", ".pth.tar"):
    assert load.is_weights_file(f"a{suffix}")
  (tmp_path / "run.pt").mkdir()
  assert not load.is_weights_file(tmp_path / "run.pt")
  assert not load.is_weights_file("run")
  assert set(torch_files.SUFFIXES) < set(load.SUFFIXES)
