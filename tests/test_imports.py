"""Imports point one way, and light modules stay light."""

import ast
import pathlib
import subprocess
import sys

import pytest

import segsiam_jax

ROOT = pathlib.Path(segsiam_jax.__file__).parent

# Rooms: packages, and the modules on top. A module may import from its own room
# and from those of the layers before; docs/design.md says what they hold.
LAYERS = (
  ("errors", "parts", "process", "ops", "data.builders"),
  ("command_line", "files", "fields", "losses", "metrics"),
  ("data",),
  (
    *("config", "report", "models"),
    *("data.identity", "data.instance", "data.semantic"),
  ),
  ("pretrained", "tasks"),
  ("engine",),
  ("inputs",),
  ("prediction",),
  ("export",),
  ("capacity", "check", "evaluate", "exporting", "predict"),
  ("train",),
  ("main", "compare"),
)


def room(module: str) -> str:
  """'data.semantic' of segsiam_jax.data.semantic.rows, and the like."""
  parts = module.split(".")[1:]
  while parts and not any(".".join(parts) in names for names in LAYERS):
    parts.pop()
  assert parts, f"{module} is in no room: add it to LAYERS"
  return ".".join(parts)


def layer(room: str) -> int:
  return next(n for n, names in enumerate(LAYERS) if room in names)


def imported(path: pathlib.Path):
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.ImportFrom) and node.module == "segsiam_jax":
      yield from (f"segsiam_jax.{alias.name}" for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module:
      yield from (f"{node.module}.{alias.name}" for alias in node.names)
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
      there, here = room(module), room(name)
      up = there != here and layer(there) >= layer(here)
      assert not up, f"{name} imports {module}"
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


# What each folder beside the package may import of the others.
BESIDE = {"cases": (), "tests": ("cases",), "benchmarks": ("cases",)}


@pytest.mark.parametrize("folder", BESIDE)
def test_folders_beside_the_package_stand_alone(folder):
  """What several need is in `cases`, or in modules beside the tests."""
  for path in sorted((ROOT.parent / folder).rglob("*.py")):
    for name in imported(path):
      parts = name.split(".")
      if parts[0] in BESIDE:
        assert parts[0] in (folder, *BESIDE[folder]), f"{path}: {name}"
      is_test = any(part.startswith("test_") for part in parts[1:-1])
      is_test |= (
        parts[-1].startswith("test_")
        and (ROOT.parent / f"{'/'.join(parts)}.py").exists()
      )
      assert not is_test, f"{path}: {name}"
