"""The launch scripts, with stand-ins for gcloud and for Python."""

import os
import pathlib
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).parent.parent

# Copies and runs on this machine, in $REMOTE, as the worker's home.
GCLOUD = """#!/usr/bin/env bash
echo "$*" >>"$REMOTE/calls"
case $4 in
  scp) cp "$5" "$REMOTE/${6#*:}" ;;
  ssh) for a in "$@"; do case $a in --command=*) c=${a#--command=} ;; esac; done
    cd "$REMOTE" && bash -c "$c" ;;
esac
"""

# Stands for python3: makes a "virtual environment" of itself.
PYTHON = """#!/usr/bin/env bash
case "$*" in
  -V) echo "Python 3.11.0" ;;
  "-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
  "-m pip "*) echo "pip $*" >>"$REMOTE/calls" ;;
  *) printf '<%s>' "$@" >"$REMOTE/arguments"; exit "${CODE:-0}" ;;
esac
"""


@pytest.fixture
def worker(tmp_path):
  """An environment where gcloud reaches a folder of this machine."""
  tools, remote = tmp_path / "tools", tmp_path / "remote"
  tools.mkdir()
  remote.mkdir()
  for name, text in (("gcloud", GCLOUD), ("python3", PYTHON)):
    (tools / name).write_text(text)
    (tools / name).chmod(0o755)
  path = f"{tools}:{os.environ['PATH']}"
  return os.environ | {
    "PATH": path,
    "REMOTE": str(remote),
    "NAME": "t",
    "ZONE": "z",
  }


def tpu_vm(environment, *arguments):
  return subprocess.run(
    ["bash", str(ROOT / "launch/tpu_vm.sh"), *arguments],
    env=environment,
    capture_output=True,
    text=True,
  )


def test_tpu_vm_copies_installs_once_and_runs(worker):
  if not (ROOT / ".git").exists() or not shutil.which("git"):
    pytest.skip("the script copies what git knows: needs a git checkout")
  remote = pathlib.Path(worker["REMOTE"])
  flags = ("-m", "segsiam_jax.main", "--config.data.image_size=(1, 2)")
  for _ in range(2):
    done = tpu_vm(worker, *flags)
    assert done.returncode == 0, done.stderr
  # Brackets and spaces arrive whole.
  assert (remote / "arguments").read_text() == "".join(
    f"<{flag}>" for flag in flags
  )
  calls = (remote / "calls").read_text()
  assert calls.count("--editable .[tpu,gcs]") == 1
  assert "--worker=all" in calls
  assert (remote / "segsiam_jax/segsiam_jax/main.py").exists()
  # The run's exit code is the script's: a caller sees that it was preempted.
  assert tpu_vm(worker | {"CODE": "75"}, *flags).returncode == 75


def test_dry_run_prints_and_does_nothing(worker):
  done = tpu_vm(worker, "--dry-run", "-m", "segsiam_jax.main")
  assert done.returncode == 0
  assert done.stdout.count("gcloud compute tpus tpu-vm") == 3
  assert not (pathlib.Path(worker["REMOTE"]) / "calls").exists()


@pytest.mark.parametrize(
  ("changes", "arguments", "message"),
  [
    ({"NAME": ""}, ("x",), "set NAME"),
    ({"ZONE": ""}, ("x",), "set ZONE"),
    ({}, (), "nothing to run"),
  ],
)
def test_mistakes_are_one_line(worker, changes, arguments, message):
  done = tpu_vm(worker | changes, *arguments)
  assert done.returncode == 2
  assert message in done.stderr and done.stderr.count("\n") == 1
