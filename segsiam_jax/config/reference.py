"""All fields of a config, with their values and meanings, for people."""

from collections.abc import Iterator, Mapping

import ml_collections
from ml_collections.config_flags import config_path

from segsiam_jax import parts
from segsiam_jax.config import fields
from segsiam_jax.fields import common, tasks
from segsiam_jax.fields.base import Field


def lines(config: ml_collections.ConfigDict) -> Iterator[str]:
  """A line for each field of a config: `--config.NAME=VALUE  meaning`."""
  known = fields(config.task, config.model.name)
  flags = {
    name: f"--config.{name}={_shown(config_path.get_value(name, config))}"
    for name in known
  }
  width = min(52, max(map(len, flags.values())))
  for name, flag in flags.items():
    yield f"{flag:<{width}}  {known[name].meaning}"


def markdown() -> str:
  """The page of all tasks and models."""
  out = [
    "# Fields of a config",
    "",
    "`--config.NAME=VALUE` sets a field. `--mode=fields --config=FILE` lists",
    "those of a config with its values.",
    "",
    "## All tasks",
    "",
    *_table(common.FIELDS),
  ]
  for task, of_task in tasks.TASKS.items():
    module = parts.load(of_task.fields)
    out += ["", f"## {task}", "", *_table(module.FIELDS)]
    for name, model in module.MODELS.items():
      if model.fields:
        out += ["", f"### Model `{name}` of {task}", "", *_table(model.fields)]
  return "\n".join(out) + "\n"


def _table(known: Mapping[str, Field]) -> Iterator[str]:
  yield "| field | default | meaning |"
  yield "|---|---|---|"
  for name, field in known.items():
    default = () if field.empty else field.default
    meaning = field.meaning.replace("|", "\\|")
    yield f"| `{name}` | `{_shown(default)}` | {meaning} |"


def _shown(value: object) -> str:
  if isinstance(value, list | tuple):
    return f"'{tuple(value)}'"
  return str(value) if value != "" else "''"


if __name__ == "__main__":
  print(markdown(), end="")
