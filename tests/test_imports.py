"""Imports point one way, and light modules stay light."""

import ast
import pathlib
import subprocess
import sys

import pytest

import segsiam_jax

ROOT = pathlib.Path(segsiam_jax.__file__).parent

# A module may import from its own layer and from those before it.
LAYERS = (
  (
    "errors",
    "paths",
    "strict_json",
    "text_files",
    "lock",
    "metrics_log",
    "tensorboard",
    "checkpoint_files",
    "checkpoint_choice",
    "coco_results",
    "overlays",
    "plots",
    "fields",
    "parts",
    "config",
    "command_line",
    "last_words",
    "process",
    "workdir_config",
  ),
  ("ops", "losses", "metrics", "models", "data", "pretrained"),
  ("tasks",),
  ("state", "room", "runtime", "distributed", "comparison", "finite"),
  ("steps", "checkpoint", "writers", "inputs"),
  ("runs", "hard_negatives", "resuming", "initial"),
  ("prediction",),
  ("train", "evaluate", "predict"),
  ("main", "compare"),
)


def layer(module: str) -> int:
  part = module.split(".")[1]
  for index, names in enumerate(LAYERS):
    if part in names:
      return index
  raise AssertionError(f"{module} has no layer: add it to LAYERS")


def imported(path: pathlib.Path):
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.ImportFrom) and node.module == "segsiam_jax":
      yield from (f"segsiam_jax.{alias.name}" for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module:
      yield node.module
    elif isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)


FILES = [path for path in sorted(ROOT.rglob("*.py")) if path.parent != ROOT]
FILES += [path for path in sorted(ROOT.glob("*.py")) if path.stem[0] != "_"]


@pytest.mark.parametrize(
  "path", FILES, ids=lambda path: str(path.relative_to(ROOT))
)
def test_imports_point_one_way(path):
  name = ".".join(
    ("segsiam_jax", *path.relative_to(ROOT).with_suffix("").parts)
  )
  for module in imported(path):
    if module.startswith("segsiam_jax."):
      assert layer(module) <= layer(name), f"{name} imports {module}"
    if module.split(".")[0] == "orbax":
      assert path.stem == "checkpoint"
    assert module.split(".")[0] != "tensorflow"
    if module.split(".")[0] == "torch":
      assert path.stem == "torch_files"


def test_losses_and_metrics_never_see_a_config():
  for path in FILES:
    if path.relative_to(ROOT).parts[0] in ("losses", "metrics", "ops"):
      assert not any("ml_collections" in name for name in imported(path))


def test_importing_the_losses_is_light():
  code = (
    "import segsiam_jax.losses, sys;"
    "heavy = {'tensorflow', 'orbax', 'grain', 'tensorflow_datasets', 'torch'};"
    "print(sorted(heavy & set(sys.modules)))"
  )
  done = subprocess.run(
    [sys.executable, "-c", code], capture_output=True, text=True, check=True
  )
  assert done.stdout.strip() == "[]"


def test_tests_do_not_import_tests():
  """What several need is in modules of its own beside them."""
  for folder in ("tests", "benchmarks"):
    for path in sorted((ROOT.parent / folder).rglob("*.py")):
      for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
          names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
          names = [alias.name for alias in node.names]
        for name in names:
          parts = name.split(".")
          is_test = any(part.startswith("test_") for part in parts[1:-1])
          is_test |= (ROOT.parent / f"{'/'.join(parts)}.py").exists() and (
            parts[-1].startswith("test_")
          )
          assert not (parts[0] == "tests" and is_test), f"{path}: {name}"
