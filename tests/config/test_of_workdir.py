"""A workdir's own config: read, completed, and changed by flags."""

import json
import logging

import pytest

from segsiam_jax import command_line
from segsiam_jax.config import of_workdir
from segsiam_jax.engine import runs
from segsiam_jax.errors import UserError


@pytest.fixture
def saved(tiny_config, tmp_path):
  """A workdir with a config.json."""
  runs.save_config(tiny_config, str(tmp_path))
  return tmp_path


def drop(workdir, *names):
  """Makes the config older than some fields."""
  file = workdir / "config.json"
  config = json.loads(file.read_text())
  for name in names:
    section, field = name.split(".")
    config[section].pop(field)
    if not config[section]:
      config.pop(section)
  file.write_text(json.dumps(config))


def test_what_was_saved_comes_back(saved, tiny_config, caplog):
  with caplog.at_level(logging.INFO):
    config = of_workdir.get_config(str(saved))
  assert config.to_dict() == tiny_config.to_dict()
  assert not caplog.records


def test_fields_that_are_younger_have_their_defaults(
  saved, tiny_config, caplog, monkeypatch
):
  sections = [f"predict.{name}" for name in tiny_config.predict]
  drop(saved, "train.keep", *sections)
  monkeypatch.setattr(logging.getLogger("segsiam_jax"), "propagate", True)
  with caplog.at_level(logging.INFO, "segsiam_jax"):
    config = of_workdir.get_config(str(saved))
  assert config.to_dict() == tiny_config.to_dict()
  [message] = [record.getMessage() for record in caplog.records]
  assert "predict.window" in message
  assert "train.keep" in message


def test_a_younger_field_is_no_other_run(saved, tiny_config):
  drop(saved, "model.remat")
  runs.check_same_run(tiny_config, str(saved))
  tiny_config.model.remat = True
  with pytest.raises(UserError, match=r"config\.model\.remat = False"):
    runs.check_same_run(tiny_config, str(saved))


@pytest.mark.parametrize(
  ("text", "words"),
  [
    ("{", "not a config"),
    ("[1]", "not a config"),
    ("{}", "config.task"),
    ('{"task": "semantic", "model": 3}', "config.model.name"),
    ('{"task": "semantic", "model": {"name": "unet"}, "data": 1}', "data"),
  ],
)
def test_broken_files_are_named(saved, text, words):
  (saved / "config.json").write_text(text)
  with pytest.raises(UserError, match=words) as caught:
    of_workdir.get_config(str(saved))
  assert "\n" not in str(caught.value)


def test_no_file(tmp_path):
  with pytest.raises(UserError, match=r"config\.json: not found"):
    of_workdir.get_config(str(tmp_path))


@pytest.mark.parametrize(
  ("flags", "named"),
  [
    (("--workdir=d", "--mode=predict", "--config.a.b=1"), "d"),
    (("--mode", "eval", "-config.a.b", "1", "-workdir", "gs://d"), "gs://d"),
    (("--workdir=d", "--mode=predict"), None),
    (("--workdir=d", "--config.a.b=1"), None),
    (("--workdir=d", "--mode=train", "--config.a.b=1"), None),
    (("--mode=predict", "--config.a.b=1", "--workdir"), None),
    (
      ("--workdir=d", "--mode=eval", "--config=c.py", "--config.a.b=1"),
      None,
    ),
  ],
)
def test_flags_change_the_workdir_s_config(flags, named, monkeypatch):
  monkeypatch.setattr(command_line, "log_to_stderr", lambda: None)
  argv = ["main", *flags]
  command_line.name_workdir_config(argv)
  if named is None:
    assert argv == ["main", *flags]
  else:
    flag, path = argv[1].split("=", 1)
    assert flag == "--config"
    assert path.endswith(f"config/of_workdir.py:{named}")
    assert argv[2:] == list(flags)


@pytest.mark.parametrize(
  ("flags", "kept", "told"),
  [
    (("--config.a=(1,)", "--config.a=(2,)"), ("--config.a=(2,)",), "a"),
    (
      ("-config.a", "(1,)", "--config.b=2", "--config.a", "(2,)", "--c=3"),
      ("--config.b=2", "--config.a", "(2,)", "--c=3"),
      "a",
    ),
    (
      ("--config.a=1", "--config.a=2", "--config.ab=0", "--config.a=3"),
      ("--config.ab=0", "--config.a=3"),
      "a",
    ),
    (("--config.a", "--noconfig.a", "--x"), ("--noconfig.a", "--x"), "a"),
    (
      ("--config=a.py", "--set=a=1", "--set=a=2", "--config.a=1"),
      ("--config=a.py", "--set=a=1", "--set=a=2", "--config.a=1"),
      None,
    ),
  ],
)
def test_a_field_given_twice_has_its_last_value(
  flags, kept, told, monkeypatch, caplog
):
  monkeypatch.setattr(command_line, "log_to_stderr", lambda: None)
  argv = ["main", *flags]
  command_line.keep_last(argv)
  assert argv == ["main", *kept]
  if told is None:
    assert not caplog.messages
  else:
    assert caplog.messages[0].endswith(f"the last counts: --config.{told}")
