"""Workdirs of an earlier version still evaluate, predict and resume.

Each archive in old_workdirs/ holds a `:debug` run, as commit 1087c5e made it:
its log to the end, and the checkpoint halfway.
"""

import json
import pathlib
import zipfile

import numpy as np
import pytest
from PIL import Image

from segsiam_jax import predict, train
from segsiam_jax.config import of_workdir
from segsiam_jax.evaluate import evaluate

ARCHIVES = sorted((pathlib.Path(__file__).parent / "old_workdirs").glob("*"))


def evaluations(workdir: pathlib.Path) -> list[dict]:
  lines = (workdir / "metrics.jsonl").read_text().splitlines()
  return [line for line in map(json.loads, lines) if line["split"] == "eval"]


def check_equal(metrics: dict, line: dict) -> None:
  known = {name for name in line if name not in ("step", "split", "time")}
  assert known <= set(metrics)
  for name in known:
    np.testing.assert_allclose(
      # Null stands for what is not a number.
      *(np.nan if one[name] is None else one[name] for one in (metrics, line)),
      rtol=1e-3,
      atol=1e-3,
      err_msg=name,
    )


@pytest.mark.slow
@pytest.mark.parametrize("archive", ARCHIVES, ids=lambda path: path.stem)
def test_an_old_workdir_goes_on(archive, tmp_path):
  with zipfile.ZipFile(archive) as file:
    file.extractall(tmp_path)
  workdir = tmp_path / archive.stem
  halfway, end = evaluations(workdir)
  config = of_workdir.read(str(workdir))

  metrics = evaluate(config, str(workdir), str(halfway["step"]))
  check_equal(metrics, halfway)

  train.train_and_evaluate(config, str(workdir))
  resumed = evaluations(workdir)[-1]
  assert resumed["step"] == end["step"]
  check_equal(resumed, end)

  image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
  Image.fromarray(image).save(tmp_path / "image.png")
  assert predict.predict(config, str(workdir), [str(tmp_path / "image.png")])
