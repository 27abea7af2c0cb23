"""`--mode=export`: the same numbers elsewhere."""

import builtins
import json
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest

import segsiam_jax
from segsiam_jax import exporting, parts, predict, train
from segsiam_jax.config import default_config, of_workdir, validate
from segsiam_jax.engine import runs
from segsiam_jax.engine.state import TrainState
from segsiam_jax.errors import UserError
from segsiam_jax.export import stablehlo
from segsiam_jax.fields import semantic_models
from segsiam_jax.inputs import shapes
from segsiam_jax.pretrained import packaged
from tests import cells
from tests.siamese_data import make_siamese_config as make_siamese
from tests.siamese_data import write_splits

# Another JAX program: it knows no more than JAX and NumPy.
PROGRAM = """
import json, sys
import jax, numpy as np
folder = sys.argv[1]
about = json.load(open(folder + "/model.json"))
with open(folder + "/model.stablehlo", "rb") as file:
  exported = jax.export.deserialize(bytearray(file.read()))
arrays = np.load(folder + "/inputs.npz")
out = exported.call(*(arrays[name] for name in about["arguments"]))
assert not any(name.startswith("segsiam") for name in sys.modules)
np.savez(folder + "/outputs.npz", **out)
"""


@pytest.fixture(scope="module")
def run(blobs, tmp_path_factory):
  """A workdir of a tiny U-Net."""
  from tests.conftest import make_tiny_config

  config = make_tiny_config(blobs)
  config.train.num_steps = 5
  workdir = tmp_path_factory.mktemp("export") / "run"
  train.train_and_evaluate(config, str(workdir))
  return str(workdir)


def export(run, file_format, output=""):
  config = of_workdir.get_config(run)
  exporting.export(config, run, file_format, str(output))


def elsewhere(folder, **arrays):
  """What the exported function gives in a process without this library."""
  np.savez(folder / "inputs.npz", **arrays)
  subprocess.run([sys.executable, "-c", PROGRAM, str(folder)], check=True)
  with np.load(folder / "outputs.npz") as found:
    return dict(found)


def test_a_package_takes_the_place_of_a_workdir(run, blobs, tmp_path):
  package = tmp_path / "package"
  export(run, "safetensors", package)
  assert sorted(path.name for path in package.glob("[!.]*")) == [
    "config.json",
    "model.safetensors",
  ]
  assert str(blobs) not in (package / "config.json").read_text()
  about = packaged.describe(str(package / packaged.FILE))
  assert about["classes"] == ["background", "disc"] and about["step"] == 5
  assert about["metrics"]["mean_iou"] > 0
  images = sorted((blobs / "test/images").iterdir())
  one, other = (
    segsiam_jax.load(folder).predict(images, probabilities=True)
    for folder in (run, package)
  )
  for a, b in zip(one, other, strict=True):
    np.testing.assert_array_equal(a.probabilities, b.probabilities)
  config = of_workdir.get_config(str(package))
  assert predict.predict(config, str(package), [str(images[0])]) == 1
  # And the place of a run that another begins from.
  config = of_workdir.get_config(run)
  config.init_from, config.train.num_steps = str(package), 6
  state = train.train_and_evaluate(config, str(tmp_path / "next"))
  assert int(state.step) == 6


def test_a_function_for_other_programs(run, tmp_path):
  export(run, "stablehlo", tmp_path)
  about = json.loads((tmp_path / "model.json").read_text())
  assert about["image"] == "(b, 32*h, 32*w, 3)"
  assert about["input"]["normalisation"] == "inside"
  model = segsiam_jax.load(run)
  for shape in ((2, 32, 32, 3), (1, 64, 128, 3)):
    images = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    found = elsewhere(tmp_path, image=images)
    for image, ours in zip(images, found["probabilities"], strict=True):
      theirs = model.predict(image, probabilities=True)
      np.testing.assert_allclose(ours, theirs.probabilities, atol=1e-4)
      assert (ours.argmax(-1) == theirs.labels).mean() > 0.999


def test_a_siamese_network_and_its_threshold(tmp_path):
  config = make_siamese(write_splits(tmp_path / "data"))
  run = str(tmp_path / "run")
  train.train_and_evaluate(config, run)
  for file_format in exporting.FORMATS:
    export(run, file_format, tmp_path / "out")
  model, package = (segsiam_jax.load(each) for each in (run, tmp_path / "out"))
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (3, 16, 16, 1)).astype(np.uint8)
  expected = model.predict(list(images))
  np.testing.assert_array_equal(package.predict(list(images)), expected)
  match = package.same(*images[:2])
  assert match == model.same(*images[:2]) and match.threshold is not None
  found = elsewhere(tmp_path / "out", image=images)
  np.testing.assert_allclose(found["embeddings"], expected, atol=1e-4)
  about = json.loads((tmp_path / "out/model.json").read_text())
  assert about["metrics"]["threshold"] == pytest.approx(match.threshold)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["mask_rcnn", "faster_rcnn"])
def test_detectors(tmp_path, model):
  cells.write_cells(tmp_path / "data/train", 8, 0)
  cells.write_cells(tmp_path / "data/test", 5, 1)
  config = cells.make_config(tmp_path / "data", model)
  run = str(tmp_path / "run")
  train.train_and_evaluate(config, run)
  export(run, "stablehlo", tmp_path / "out")
  config, _, spec = shapes.of_config(of_workdir.get_config(run))
  shape = spec["image"].shape[1:]
  images = np.random.default_rng(0).integers(0, 256, (2, *shape))
  arrays = {
    "image": images.astype(np.uint8),
    "size": np.array([shape[:2], (40, 50)], spec["size"].dtype),
  }
  found = elsewhere(tmp_path / "out", **arrays)
  task = runs.make_task(config, spec)
  state = runs.weights_only(
    task, f"{run}/checkpoints/4", exporting.meshes.make_mesh(jax.devices()[:1])
  )
  expected = jax.jit(task.predict)(state.params, state.model_state, arrays)
  assert set(found) == set(expected)
  for name, array in expected.items():
    np.testing.assert_allclose(found[name], array, atol=1e-3, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("name", semantic_models.MODELS)
def test_every_model_of_semantic_segmentation(name):
  config = default_config("semantic", name)
  config.data.update(class_names=("a", "b"), image_size=(64, 64), fit="crop")
  if name == "unet_paper":
    config.model.base_width = 4
  if name == "fcn":
    config.model.width = 16
  validate(config)
  config, _, spec = shapes.of_config(config)
  task = runs.make_task(config, spec)
  params, model_state = jax.jit(task.init)(jax.random.key(0))
  state = TrainState(0, params, model_state, (), jax.random.key(0))
  files = stablehlo.make(config, task, state, {})
  assert "b, " in json.loads(files["model.json"])["image"]


def test_what_cannot_be_exported(run, tmp_path, monkeypatch):
  with pytest.raises(UserError, match="did you mean 'stablehlo'"):
    export(run, "stablehlow")
  (tmp_path / "model.safetensors").write_text("mine")
  with pytest.raises(UserError, match=r"model\.safetensors"):
    export(run, "safetensors", tmp_path)
  assert (tmp_path / "model.safetensors").read_text() == "mine"
  with pytest.raises(UserError, match="not a network that --mode=export"):
    segsiam_jax.load(_with_config(run, tmp_path))
  real = builtins.__import__

  def without(name, *rest):
    if name in ("flatbuffers", "safetensors.numpy"):
      raise ImportError(name)
    return real(name, *rest)

  monkeypatch.setattr(builtins, "__import__", without)
  for file_format in exporting.FORMATS:
    with pytest.raises(UserError, match=r"pip install 'segsiam_jax\["):
      export(run, file_format, tmp_path / "new")
    assert not list((tmp_path / "new").glob("model*"))


def _with_config(run, folder):
  text = (pathlib.Path(run) / "config.json").read_text()
  (folder / "config.json").write_text(text)
  return folder


def test_every_format_names_its_files():
  for reference in exporting.FORMATS.values():
    assert parts.load(reference).FILES
