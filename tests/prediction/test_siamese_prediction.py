"""Files compared, enrolled and looked for."""

import json
import pathlib
import shutil

import numpy as np
import pytest
from PIL import Image

from segsiam_jax import evaluate, predict, train
from segsiam_jax.config import validate
from segsiam_jax.engine import checkpoint
from segsiam_jax.errors import UserError
from tests import bad_inputs
from tests.siamese_data import make_siamese_config, write_splits


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """(config, workdir, data folder) of a tiny network that tells patterns."""
  root = write_splits(tmp_path_factory.mktemp("identities"))
  config = make_siamese_config(root)
  config.predict.batch_size = 4
  config.train.num_pictures = 1
  workdir = tmp_path_factory.mktemp("siamese") / "run"
  train.train_and_evaluate(config, str(workdir))
  return config, workdir, root


@pytest.fixture
def predict_on(run, tmp_path):
  """Predicts on files of the data folder: lines of predictions.jsonl."""
  config, workdir, root = run

  def predict_on(*names, **settings):
    changed = config.copy_and_resolve_references()
    changed.predict.update(settings)
    predict.predict(
      changed,
      str(workdir),
      [str(root / name if isinstance(name, str) else name) for name in names],
      str(tmp_path / "out"),
    )
    lines = (tmp_path / "out/predictions.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]

  predict_on.out, predict_on.root = tmp_path / "out", root
  return predict_on


@pytest.mark.slow
def test_maps_are_compared_like_vectors(tmp_path):
  root = write_splits(tmp_path / "data")
  config = make_siamese_config(root, "strokes")
  config.model.update(width=4, depth=1, head="deformable")
  config.data.mean, config.data.std = (0.0,), (255.0,)
  config.loss.update(triplet=0.0, prototypical=1.0)
  config.batch.update(kind="episodes", ways=4, shots=1, queries=1)
  config.eval.views, config.predict.batch_size = 2, 4
  workdir, gallery = str(tmp_path / "run"), str(tmp_path / "known.npz")
  train.train_and_evaluate(config, workdir)

  def lines(*inputs, **settings):
    changed = config.copy_and_resolve_references()
    changed.predict.update(settings)
    out = tmp_path / "out"
    predict.predict(
      changed, workdir, [str(root / name) for name in inputs], str(out)
    )
    text = (out / "predictions.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]

  (pair,) = lines("test/b0/0.png", "test/b1/0.png")
  assert pair["distance"] == -pair["score"] > 0
  assert pair["same"] == (pair["score"] >= pair["threshold"])
  assert len(lines("test", gallery=gallery, enroll=True)) > 2
  (found,) = lines("test/b1/0.png", gallery=gallery)
  assert found["matches"][0]["identity"] == "b1"
  assert found["distance"] == pytest.approx(0, abs=1e-4)


@pytest.mark.slow
def test_evaluations_leave_plots(run):
  config, workdir, _ = run
  images = {path.name: path for path in (workdir / "images").iterdir()}
  last = [
    images[f"eval_{plot}_0000006.png"]
    for plot in ("roc", "distances", "hardest_pairs", "embeddings")
  ]
  before = [path.read_bytes() for path in last]
  evaluate.evaluate(config, str(workdir), "latest")
  after = [path.read_bytes() for path in last]
  # The same but for the plane, which takes its time now.
  assert before[:3] == after[:3] and before[3] != after[3]


def test_two_files_are_compared(run, predict_on):
  config, workdir, _ = run
  (line,) = predict_on("test/b0/0.png", "test/b0/1.png")
  assert line["first"].endswith("b0/0.png")
  assert line["second"].endswith("b0/1.png")
  saved = np.load(predict_on.out / "embeddings.npz")
  first, second = saved["embeddings"]
  apart = np.linalg.norm(first - second)
  assert line["distance"] == pytest.approx(apart, abs=1e-5)
  assert line["score"] == pytest.approx(-apart, abs=1e-5)
  folder = checkpoint.find(
    str(workdir), "best", config.train.best_metric, config.train.best_mode
  )
  threshold = checkpoint.metrics_of(folder)["threshold"]
  assert line["threshold"] == pytest.approx(threshold, abs=1e-6)
  assert line["same"] == (line["score"] >= threshold)
  assert not (predict_on.out / "projection.png").exists()


def test_a_copy_is_the_same(run, predict_on):
  root = run[2]
  shutil.copy(root / "test/b0/0.png", root / "test/copy.png")
  (line,) = predict_on("test/b0/0.png", "test/copy.png")
  (root / "test/copy.png").unlink()
  assert line["distance"] == pytest.approx(0, abs=1e-4) and line["same"]


def test_more_files_have_their_nearest(predict_on):
  lines = predict_on("test")
  assert len(lines) == 20
  saved = np.load(predict_on.out / "embeddings.npz")
  embeddings = saved["embeddings"].astype(np.float64)
  distances = np.linalg.norm(embeddings[:, None] - embeddings, axis=-1)
  np.fill_diagonal(distances, np.inf)
  for index, line in enumerate(lines):
    assert line["file"] == saved["files"][index]
    assert line["distance"] == pytest.approx(distances[index].min(), abs=1e-3)
  with Image.open(predict_on.out / "projection.png") as picture:
    assert picture.size == (560, 560)


def test_a_gallery_grows_without_training(predict_on, tmp_path):
  gallery = str(tmp_path / "known.npz")
  lines = predict_on("test/b0", "test/b1", gallery=gallery, enroll=True)
  assert {line["enrolled"] for line in lines} == {"b0", "b1"}
  (line,) = predict_on("test/b0/3.png", gallery=gallery, matches=2)
  assert [match["identity"] for match in line["matches"]] == ["b0", "b1"]
  # It is in the gallery itself.
  assert line["identity"] == "b0" and line["same"]
  assert line["distance"] == pytest.approx(0, abs=1e-4)
  predict_on("test/b2", gallery=gallery, enroll=True)
  (line,) = predict_on("test/b2/1.png", gallery=gallery)
  assert line["identity"] == "b2"
  assert {match["identity"] for match in line["matches"]} == {"b0", "b1", "b2"}
  known = np.load(gallery)
  assert len(known["files"]) == 15
  # Enrolled again, they are still there once.
  predict_on("test/b2", gallery=gallery, enroll=True)
  assert len(np.load(gallery)["files"]) == 15


def test_a_gallery_knows_files_and_people(
  run, predict_on, tmp_path, monkeypatch
):
  gallery, root = str(tmp_path / "known.npz"), run[2]
  for name, source in (("x/eve", "b0"), ("y/eve", "b1"), ("x/EVE", "b2")):
    shutil.copytree(root / "test" / source, tmp_path / name)
  shutil.copytree(root / "test/b0", tmp_path / "x/.ipynb_checkpoints")

  def enroll(folder, *inputs):
    monkeypatch.chdir(folder)
    predict_on(*inputs, gallery=gallery, enroll=True)
    return np.load(gallery)

  known = enroll(tmp_path / "x", pathlib.Path("eve"))
  assert len(known["files"]) == 5
  # The same relative name from another folder is another file.
  assert len(enroll(tmp_path / "y", pathlib.Path("eve"))["files"]) == 10
  # However it is named, a file is there once.
  assert len(enroll(tmp_path, tmp_path / "x/eve")["files"]) == 10
  known = enroll(tmp_path, tmp_path / "x")
  assert set(known["identities"]) == {"eve"} and len(known["files"]) == 15
  with pytest.raises(UserError, match="not an identity's name"):
    enroll(tmp_path, tmp_path / "x/.ipynb_checkpoints/0.png")
  with pytest.raises(UserError, match="another file of the output"):
    predict_on(
      tmp_path / "x/eve",
      gallery=str(tmp_path / "out/embeddings.npz"),
      enroll=True,
    )


def test_who_is_too_far_is_unknown(run, predict_on, tmp_path, monkeypatch):
  gallery = str(tmp_path / "known.npz")
  predict_on("test/b0", gallery=gallery, enroll=True)
  # A threshold that nothing but a copy keeps.
  monkeypatch.setattr(
    checkpoint, "metrics_of", lambda folder: {"threshold": -1e-9}
  )
  (line,) = predict_on("test/b1/0.png", gallery=gallery)
  assert line["identity"] is None and not line["same"]
  assert line["matches"][0]["identity"] == "b0"
  monkeypatch.setattr(checkpoint, "metrics_of", lambda folder: {})
  (line,) = predict_on("test/b1/0.png", gallery=gallery)
  assert line["identity"] == "b0" and "same" not in line


@pytest.mark.parametrize("enroll", [False, True])
@pytest.mark.parametrize(
  ("other", "words"),
  [
    ({"embeddings": np.ones((4, 3), np.float32)}, "not a gallery"),
    ({"files": np.array([None] * 4)}, "not a gallery"),
    ({"probe": np.full(2, np.nan, np.float32)}, "not a gallery"),
    (None, "not a gallery"),
    ({}, "made with weights other"),
  ],
)
def test_a_bad_gallery_stays_as_it_is(
  predict_on, tmp_path, capsys, other, words, enroll
):
  good = {
    "embeddings": np.ones((4, 2), np.float32),
    "identities": np.array(["ada"] * 4),
    "files": np.array(["1", "2", "3", "4"]),
    "probe": np.ones(2, np.float32),
  }
  gallery = tmp_path / "known.npz"
  np.savez(gallery, **good | (other or {}))
  if other is None:
    gallery.write_bytes(gallery.read_bytes()[:-100])
  before = bad_inputs.snapshot(tmp_path)
  line = bad_inputs.refused(
    lambda: predict_on("test/b0", gallery=str(gallery), enroll=enroll), capsys
  )
  assert words in line and "known.npz" in line
  after = bad_inputs.snapshot(tmp_path)
  after.pop("out", None)
  assert after == before


def test_mistakes_are_one_line(run, predict_on, tmp_path):
  config = run[0].copy_and_resolve_references()
  config.predict.enroll = True
  with pytest.raises(UserError, match=r"predict\.enroll = True: name the file"):
    validate(config)
  with pytest.raises(UserError, match=r"none\.npz: no such file; add images"):
    predict_on("test/b0/0.png", gallery=str(tmp_path / "none.npz"))
  bad = run[2] / "test/bad.png"
  bad.write_bytes(b"no image")
  try:
    with pytest.raises(
      UserError, match=r"1 of 3 inputs .*bad\.png: not a read"
    ):
      predict_on("test/b0/0.png", "test/bad.png", "test/b0/1.png")
    lines = (predict_on.out / "predictions.jsonl").read_text().splitlines()
    assert len(lines) == 2
    # Of two files, one is not compared with nothing, and nothing is written.
    with pytest.raises(UserError, match="1 of 2 inputs"):
      predict_on("test/b0/0.png", "test/bad.png")
    text = (predict_on.out / "predictions.jsonl").read_text()
    assert text.splitlines() == lines
  finally:
    bad.unlink()
