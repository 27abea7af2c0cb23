"""The argument of a config file that is for any data of a task."""

from collections.abc import Callable, Mapping

import ml_collections

from segsiam_jax import parts
from segsiam_jax.config import default_config, override
from segsiam_jax.errors import UserError, nearest
from segsiam_jax.fields import tasks

Preset = Callable[[ml_collections.ConfigDict], None]


def make_config(
  task: str,
  argument: str,
  defaults: Mapping[str, Mapping[str, object]],
  presets: Mapping[str, Preset],
) -> ml_collections.ConfigDict:
  """The config of an argument such as 'unet,encoder=resnet34,microscopy'.

  Args:
    task: a key of `TASKS`.
    argument: in any order a model, presets, and FIELD=VALUE, where a field
      without a section is one of the model.
    defaults: models that are offered, the first by default, with the values of
      their fields.
    presets: what each changes, in the order in which they are applied; '' is
      applied first to all.

  Raises:
    UserError: a word is none of these.
  """
  words = [word.strip() for word in argument.split(",") if word.strip()]
  known = parts.load(tasks.find(task).fields).MODELS
  names = [word for word in words if "=" not in word]
  models = [name for name in names if name in known]
  if len(models) > 1:
    raise UserError(f"--config=...:{argument}: two models, {', '.join(models)}")
  for name in names:
    if name not in known and name not in presets:
      choices = [*known, *filter(None, presets)]
      close = nearest(name, choices)
      hint = f"; did you mean {close!r}?" if close else ""
      raise UserError(
        f"--config=...:{argument}: {name!r} is neither a model "
        f"({', '.join(known)}) nor a preset "
        f"({', '.join(filter(None, presets))}), nor FIELD=VALUE{hint}"
      )
  model = models[0] if models else next(iter(defaults))
  config = default_config(task, model)
  config.model.update(defaults.get(model, {}))
  for name, change in presets.items():
    if not name or name in names:
      change(config)
  for word in words:
    if "=" in word:
      field = word.partition("=")[0]
      override(config, word if "." in field else f"model.{word}")
  return config
