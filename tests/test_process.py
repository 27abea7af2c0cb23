"""Settings of the process: what is set, what the user's own setting does."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import textwrap

import pytest

from segsiam_jax import process

FLAG = "--xla_cpu_experimental_ynn_fusion_type"


@pytest.fixture
def on_a_cpu(monkeypatch, tmp_path):
  """A machine on which both settings help, whatever this one is."""
  mode = tmp_path / "enabled"
  mode.write_text("always [madvise] never\n")
  monkeypatch.setattr(process, "_HUGE_PAGES_FILE", mode)
  monkeypatch.setattr(os, "confstr", lambda name: "glibc 2.36", raising=False)
  monkeypatch.setattr(process, "_ACCELERATORS", ())
  for name in ("XLA_FLAGS", "GLIBC_TUNABLES", "JAX_PLATFORMS"):
    monkeypatch.delenv(name, raising=False)
  return mode


def test_both_settings(on_a_cpu):
  assert process.configure()
  assert os.environ["XLA_FLAGS"] == f"{FLAG}=-individual_convolution"
  assert os.environ["GLIBC_TUNABLES"] == "glibc.malloc.hugetlb=1"
  before = dict(os.environ)
  assert not process.configure()
  assert dict(os.environ) == before


def test_what_the_user_has_set_stays(on_a_cpu, monkeypatch):
  monkeypatch.setenv("XLA_FLAGS", f"--xla_dump_to=x {FLAG}=")
  monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.hugetlb=0")
  before = dict(os.environ)
  assert not process.configure()
  assert dict(os.environ) == before


def test_other_settings_of_the_user_are_kept(on_a_cpu, monkeypatch):
  monkeypatch.setenv("XLA_FLAGS", "--xla_dump_to=x")
  monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.check=1")
  assert process.configure()
  assert os.environ["XLA_FLAGS"].split() == [
    "--xla_dump_to=x",
    f"{FLAG}=-individual_convolution",
  ]
  assert os.environ["GLIBC_TUNABLES"] == (
    "glibc.malloc.check=1:glibc.malloc.hugetlb=1"
  )


def test_utf_8_in_any_locale(on_a_cpu, monkeypatch):
  monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.hugetlb=0")
  monkeypatch.delenv("PYTHONUTF8", raising=False)
  assert not process.configure() and "PYTHONUTF8" not in os.environ
  monkeypatch.setattr(sys, "getfilesystemencoding", lambda: "ascii")
  assert process.configure() and os.environ["PYTHONUTF8"] == "1"
  monkeypatch.setenv("PYTHONUTF8", "0")
  assert not process.configure() and os.environ["PYTHONUTF8"] == "0"


CLOSED = """
import os, sys
from segsiam_jax import process
process.open_streams()
file = open(sys.argv[1], "w")
assert file.fileno() > 2
print("to stdout", flush=True)
print("to stderr", file=sys.stderr, flush=True)
os.write(2, b"of a library")
assert sys.stdin.read() == ""
file.write("mine")
"""


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_opened_to_nowhere(tmp_path, closed):
  """No file gets the number of one, and what is printed ends nothing."""
  command = f'"$0" "$@" {closed}'
  done = subprocess.run(
    ["bash", "-c", command, sys.executable, "-c", CLOSED, tmp_path / "file"],
    stdin=subprocess.DEVNULL,
    cwd=pathlib.Path(__file__).parents[1],
  )
  assert done.returncode == 0
  assert (tmp_path / "file").read_text() == "mine"


def test_a_file_of_flags_is_left_alone(on_a_cpu, monkeypatch):
  monkeypatch.setenv("XLA_FLAGS", "/etc/xla_flags")
  process.configure()
  assert os.environ["XLA_FLAGS"] == "/etc/xla_flags"


def test_a_jaxlib_without_the_flag_does_not_get_it(on_a_cpu, monkeypatch):
  monkeypatch.setattr(process, "_YNN_FLAG", "xla_cpu_no_such_flag_at_all")
  process.configure()
  assert "XLA_FLAGS" not in os.environ


@pytest.mark.parametrize("mode", ["[always] madvise never", "always [never]"])
def test_huge_pages_only_where_they_help(on_a_cpu, mode):
  on_a_cpu.write_text(mode)
  assert not process.configure()
  assert "GLIBC_TUNABLES" not in os.environ


@pytest.mark.parametrize("version", ["glibc 2.34", "musl 1.2", None])
def test_huge_pages_only_where_the_library_knows_them(
  on_a_cpu, monkeypatch, version
):
  monkeypatch.setattr(os, "confstr", lambda name: version)
  assert not process.configure()


@pytest.mark.parametrize(("platform", "helps"), [("cpu", True), ("tpu", False)])
def test_huge_pages_only_on_a_cpu(on_a_cpu, monkeypatch, platform, helps):
  monkeypatch.setenv("JAX_PLATFORMS", platform)
  assert process.configure() is helps


PROGRAM = textwrap.dedent("""
  import json, os, sys, time
  from segsiam_jax import process
  {before}
  # Every start leaves a line.
  with open({log!r}, "a") as file:
    file.write(f"{{os.getpid()}}\\n")
  # As on a machine where huge pages help.
  process._huge_pages_help = lambda: True
  process.configure_and_restart()
  print(json.dumps([
    os.getpid(), sys.argv[1:], os.environ["GLIBC_TUNABLES"], sys.stdin.read()
  ]), flush=True)
  print("to stderr", file=sys.stderr)
  {after}
""")


def run_program(
  tmp_path: pathlib.Path, *, before: str = "", after: str = "", how=None
) -> tuple[subprocess.Popen, pathlib.Path]:
  log, program = tmp_path / "starts", tmp_path / "program.py"
  program.write_text(PROGRAM.format(log=str(log), before=before, after=after))
  environment = {
    name: value
    for name, value in os.environ.items()
    if name not in ("GLIBC_TUNABLES", process._RESTARTED)
  }
  environment["PYTHONPATH"] = str(pathlib.Path(__file__).parents[1])
  command = [sys.executable, *(how or [str(program)]), "--a b", "c"]
  started = subprocess.Popen(
    command,
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    env=environment,
    cwd=tmp_path,
  )
  return started, log


@pytest.mark.parametrize("how", [None, ["-m", "program"]], ids=["file", "-m"])
def test_the_process_restarts_once_and_stays_the_same(tmp_path, how):
  started, log = run_program(tmp_path, after="sys.exit(75)", how=how)
  out, err = started.communicate("typed", timeout=60)
  assert started.returncode == 75
  pid, arguments, tunables, typed = json.loads(out)
  assert pid == started.pid
  assert arguments == ["--a b", "c"]
  assert tunables == "glibc.malloc.hugetlb=1"
  assert typed == "typed"
  assert err == "to stderr\n"
  assert log.read_text() == f"{started.pid}\n" * 2


def test_no_loop_where_the_setting_does_not_last(tmp_path):
  started, log = run_program(
    tmp_path, before="os.environ.pop('GLIBC_TUNABLES', None)"
  )
  started.communicate("", timeout=60)
  assert started.returncode == 0
  assert log.read_text() == f"{started.pid}\n" * 2


def test_no_restart_under_a_debugger(tmp_path):
  started, log = run_program(
    tmp_path, before="sys.settrace(lambda *unused: None)"
  )
  started.communicate("", timeout=60)
  assert started.returncode == 0
  assert log.read_text() == f"{started.pid}\n"


def test_a_signal_reaches_the_one_process(tmp_path):
  started, _ = run_program(tmp_path, after="time.sleep(60)")
  started.stdin.close()
  assert json.loads(started.stdout.readline())[0] == started.pid
  started.send_signal(signal.SIGTERM)
  assert started.wait(timeout=30) == -signal.SIGTERM
  started.stdout.close()
  started.stderr.close()
