"""Every benchmark runs, at shapes of a test."""

import importlib.util
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
# Without the peers our own figures are printed.
ALONE = {
  "models": ("--tiny", "--only=unet", "--repeats=1", "--no-compile"),
  "accelerator": (
    "--tiny",
    "--checks=ops.nms",
    "--only=koch",
    "--seconds=0.1",
    "--results=/dev/null",
  ),
  "input_pipeline": (
    "--images=8",
    "--side=64",
    "--size=32",
    "--batch=2",
    "--seconds=0.2",
  ),
  "sliding_window": ("--largest=256",),
}
WITH_PEERS = {
  "segmentation": ("--repeats=1", "--num_images=20"),
  "metric_learning": ("--repeats=1", "--gallery=500", "--pairs=1000"),
  "detection": ("--repeats=1", "--only=NMS, 1000"),
}


def run(name: str, *arguments: str) -> str:
  done = subprocess.run(
    [sys.executable, "-m", f"benchmarks.{name}", *arguments],
    cwd=ROOT,
    env=os.environ | {"XLA_FLAGS": "--xla_backend_optimization_level=0"},
    capture_output=True,
    text=True,
    timeout=600,
  )
  assert done.returncode == 0, done.stderr[-2000:]
  return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("name", ALONE)
def test_alone(name):
  table = run(name, *ALONE[name])
  assert sum(line.startswith("| ") for line in table.splitlines()) >= 1
  assert "DIFFERS" not in table and "exit code" not in table


@pytest.mark.slow
@pytest.mark.parametrize("name", WITH_PEERS)
def test_with_peers(name):
  for peer in ("torch", "torchvision", "pytorch_metric_learning", "monai"):
    if importlib.util.find_spec(peer) is None:
      pytest.skip(f"{peer} is not installed")
  assert run(name, *WITH_PEERS[name]).count("\n| ") >= 1


@pytest.mark.slow
def test_covered_masks(tmp_path):
  command = [
    *(sys.executable, "-m", "segsiam_jax.main", f"--workdir={tmp_path}"),
    "--config=configs/maskrcnn_digits.py:debug",
  ]
  subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
  assert run("covered_masks", f"--workdir={tmp_path}").count("\n| ") >= 1


def test_each_is_tried():
  tried = {*ALONE, *WITH_PEERS, "covered_masks"}
  programs = {
    file.stem
    for file in (ROOT / "benchmarks").glob("*.py")
    if "python -m benchmarks." + file.stem + "\n" in file.read_text()
    or "python -m benchmarks." + file.stem + " --" in file.read_text()
  }
  assert programs == tried
