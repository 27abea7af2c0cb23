"""What the docs say about imports is true, complete and said once."""

import pathlib
import re

import pytest

from segsiam_jax import config as config_lib
from segsiam_jax import losses, metrics, parts
from segsiam_jax.config import reference
from segsiam_jax.fields import tasks

ROOT = pathlib.Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# Files and modules of the same form.
NO_FIELDS = {"predict.py", "predict.FIELD", "data.json", "train.lock"} | {
  *("model.json", "model.safetensors", "model.stablehlo"),
}
IMPORT = re.compile(r"`(from segsiam_jax[\w.]* import [\w, ]+)`")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_import_lines_work(page):
  for line in IMPORT.findall(page.read_text()):
    exec(line, {})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_fields_exist(page):
  """What is set by `--config.NAME` or named as `section.name`."""
  known = set()
  for task, of_task in tasks.TASKS.items():
    for model in parts.load(of_task.fields).MODELS:
      known |= set(config_lib.fields(task, model))
  sections = "|".join(sorted({name.partition(".")[0] for name in known}))
  text = page.read_text()
  named = set(re.findall(r"--config\.([a-z][\w.]*)[=`]", text))
  named |= set(re.findall(rf"`((?:{sections})\.[a-z_0-9]+)(?:=[^`]*)?`", text))
  assert named - known - NO_FIELDS == set()


def test_the_page_of_fields_is_true():
  """`python -m segsiam_jax.config.reference > docs/fields.md` writes it."""
  assert (ROOT / "docs" / "fields.md").read_text() == reference.markdown()


def test_every_import_is_listed_once():
  lines = [line for page in PAGES for line in IMPORT.findall(page.read_text())]
  assert lines
  assert not {line for line in lines if lines.count(line) > 1}


@pytest.mark.parametrize("package", [losses, metrics])
def test_every_public_name_is_on_its_page(package):
  page = ROOT / "docs" / "functions.md"
  text = " ".join(IMPORT.findall(page.read_text()))
  named = set(re.findall(r"\w+", text))
  public = {
    name
    for name, value in vars(package).items()
    if not name.startswith("_")
    and getattr(value, "__module__", "").startswith("segsiam_jax")
  }
  # Results are documented with the functions that return them.
  results = {
    name
    for name in public
    if isinstance(value := getattr(package, name), type)
    and issubclass(value, tuple)
  }
  missing = public - results - named
  assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
  for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
    if "://" not in target:
      assert (page.parent / target).exists(), target
