"""The launch files, with stand-ins for gcloud, Slurm, kubectl and Python."""

import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import pytest
import yaml

ROOT = pathlib.Path(__file__).parent.parent
TRANSCRIPTS = ROOT / "tests" / "launch"

# Keeps the state of a queued resource in $REMOTE/state. What is run on it runs
# on this machine, in $REMOTE, as the worker's home.
GCLOUD = """#!/usr/bin/env bash
echo "$*" >>"$REMOTE/calls"
state=$REMOTE/state
case "$3 $4" in
  "queued-resources create") echo WAITING_FOR_RESOURCES >"$state" ;;
  "queued-resources delete") rm -f "$state" ;;
  "queued-resources describe") [ -f "$state" ] || exit 1
    cat "$state"; echo ACTIVE >"$state" ;;
  "tpu-vm scp") cp "$5" "$REMOTE/${6#*:}" ;;
  "tpu-vm ssh") for a in "$@"; do
      case $a in --command=*) c=${a#--command=} ;; esac
    done
    cd "$REMOTE" && bash -c "$c" ;;
esac
"""

# Stands for python3: makes a "virtual environment" of itself. Exit codes come
# from $REMOTE/codes, one a run; with 'gone' the VM is lost as well.
PYTHON = """#!/usr/bin/env bash
case "$*" in
  -V) echo "Python 3.11.0" ;;
  "-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
  "-m pip "*) echo "pip $*" >>"$REMOTE/calls" ;;
  "-c pass") ;;
  *) printf '<%s>' "$@" >"$REMOTE/arguments"
    env | grep -E '^(MEGASCALE|JAX_)' | sort >"$REMOTE/variables"
    echo a line of the run
    [ -f "$REMOTE/codes" ] || exit "${CODE:-0}"
    read -r code gone <"$REMOTE/codes"
    sed -i 1d "$REMOTE/codes"
    [ -z "$gone" ] || echo SUSPENDED >"$REMOTE/state"
    exit "$code" ;;
esac
"""

SRUN = """#!/usr/bin/env bash
echo "srun $*" >>"$REMOTE/calls"
while case $1 in --*) true ;; *) false ;; esac; do shift; done
exec "$@"
"""

LOG = """#!/usr/bin/env bash
echo "$(basename "$0") $*" >>"$REMOTE/calls"
cat >"$REMOTE/input" </dev/stdin
"""


@pytest.fixture
def worker(tmp_path):
  """An environment whose tools are stand-ins."""
  tools, remote = tmp_path / "tools", tmp_path / "remote"
  tools.mkdir()
  remote.mkdir()
  programs = {"gcloud": GCLOUD, "python3": PYTHON, "srun": SRUN}
  programs |= {"scontrol": LOG, "kubectl": LOG}
  for name, text in programs.items():
    (tools / name).write_text(text)
    (tools / name).chmod(0o755)
  return os.environ | {
    "PATH": f"{tools}:{os.environ['PATH']}",
    "REMOTE": str(remote),
    "VENV": str(remote / "venv"),
    "NAME": "t",
    "ZONE": "z",
    "POLL": "0",
  }


def bash(script, environment, *arguments):
  return subprocess.run(
    ["bash", str(ROOT / "launch" / script), *arguments],
    env=environment,
    input="",
    capture_output=True,
    text=True,
  )


def tpu_vm(environment, *arguments):
  if not (ROOT / ".git").exists() or not shutil.which("git"):
    pytest.skip("the script copies what git knows: needs a git checkout")
  return bash("tpu_vm.sh", environment, *arguments)


def calls(environment):
  return (pathlib.Path(environment["REMOTE"]) / "calls").read_text()


def test_tpu_vm_copies_installs_once_and_runs(worker):
  remote = pathlib.Path(worker["REMOTE"])
  flags = ("-m", "segsiam_jax.main", "--config.data.image_size=(1, 2)")
  stale = worker | {"MEGASCALE_COORDINATOR_ADDRESS": "gone:1"}
  for _ in range(2):
    done = tpu_vm(stale, "run", *flags)
    assert done.returncode == 0, done.stderr
  # Brackets and spaces arrive whole.
  assert (remote / "arguments").read_text() == "".join(
    f"<{flag}>" for flag in flags
  )
  assert "MEGASCALE" not in (remote / "variables").read_text()
  assert calls(worker).count("--editable .[tpu,gcs]") == 1
  assert "--worker=all" in calls(worker)
  assert (remote / "segsiam_jax/segsiam_jax/main.py").exists()
  assert (remote / "segsiam_jax.log").read_text().count(
    "a line of the run"
  ) == 2
  # The run's exit code is the script's: a caller sees that it was preempted.
  assert tpu_vm(worker | {"CODE": "75"}, "run", *flags).returncode == 75


@pytest.mark.parametrize(
  ("codes", "code", "made", "runs"),
  [
    (["0"], 0, 1, 1),
    # Preempted with and without the loss of the VM, then done.
    (["75", "75 gone", "0"], 0, 2, 3),
    # The network fails.
    (["255", "0"], 0, 1, 2),
    # A user error comes again, however often it is run.
    (["2", "0"], 2, 1, 1),
    (["75"] * 3, 75, 1, 3),
  ],
)
def test_launch_creates_waits_runs_and_comes_back(
  worker, codes, code, made, runs
):
  remote = pathlib.Path(worker["REMOTE"])
  (remote / "codes").write_text("".join(f"{each}\n" for each in codes))
  done = tpu_vm(
    worker | {"RETRIES": "2", "SPOT": "1", "TYPE": "v6e-16"},
    "launch",
    "-m",
    "x",
  )
  assert done.returncode == code, done.stderr
  text = calls(worker)
  assert text.count("queued-resources create") == made
  assert text.count("common.sh") == runs
  assert "--accelerator-type=v6e-16 --runtime-version=v2-alpha-tpuv6e" in text
  assert "--spot" in text and "WAITING_FOR_RESOURCES" in done.stderr
  assert tpu_vm(worker, "delete").returncode == 0
  assert not (remote / "state").exists()


@pytest.mark.parametrize(
  ("script", "arguments", "message"),
  [
    ("tpu_vm.sh", (), "'' is no action"),
    ("tpu_vm.sh", ("fly",), "'fly' is no action"),
    ("tpu_vm.sh", ("run",), "nothing to run"),
    ("gke/launch.sh", ("cpu",), "neither tpu nor gpu"),
    ("gke/launch.sh", ("tpu", "--config=x"), "set IMAGE"),
    ("slurm.sbatch", (), "nothing to run"),
    ("common.sh", ("xpu", "-m", "x"), "'xpu' is not a platform"),
  ],
)
def test_mistakes_are_one_line(worker, script, arguments, message):
  done = bash(script, worker, *arguments)
  assert done.returncode == 2
  assert message in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize(
  ("name", "message"), [("NAME", "set NAME"), ("ZONE", "set ZONE")]
)
def test_variables_that_are_missing(worker, name, message):
  done = bash("tpu_vm.sh", worker | {name: ""}, "run", "x")
  assert done.returncode == 2 and message in done.stderr


DRY_RUNS = {
  "tpu_vm": (
    "tpu_vm.sh",
    ("--dry-run", "launch", "-m", "segsiam_jax.main"),
    {},
  ),
  "local": ("local.sh", ("--dry-run", "cpu", "-m", "segsiam_jax.main"), {}),
  "slurm": ("slurm.sbatch", ("-m", "segsiam_jax.main"), {"DRY_RUN": "1"}),
  "gke_tpu": (
    "gke/launch.sh",
    ("--dry-run", "tpu", "--config=a.py", '--config.x="y z"'),
    {"IMAGE": "i", "TOPOLOGY": "4x4", "HOSTS": "4"},
  ),
  "gke_gpu": (
    "gke/launch.sh",
    ("--dry-run", "gpu", "--config=a.py"),
    {"IMAGE": "i", "HOSTS": "2", "CHIPS": "8"},
  ),
}


@pytest.mark.parametrize("name", DRY_RUNS)
def test_dry_runs_are_as_they_were(worker, name):
  """`python -m tests.test_launch` writes the transcripts."""
  script, arguments, variables = DRY_RUNS[name]
  done = bash(script, worker | variables, *arguments)
  assert done.returncode == 0, done.stderr
  assert done.stdout == (TRANSCRIPTS / f"{name}.txt").read_text()
  assert not (pathlib.Path(worker["REMOTE"]) / "calls").exists()


@pytest.mark.parametrize("code", [0, 2, 75])
def test_slurm_requeues_what_was_preempted(worker, code):
  done = bash(
    "slurm.sbatch",
    worker | {"CODE": str(code), "SLURM_JOB_ID": "7", "http_proxy": "x"},
    *("-m", "segsiam_jax.main"),
  )
  assert done.returncode == code, done.stderr
  assert calls(worker).count("srun ") == 2
  assert ("scontrol requeue 7" in calls(worker)) == (code == 75)


def test_a_jobset_is_applied(worker):
  done = bash("gke/launch.sh", worker | {"IMAGE": "i"}, "tpu", "--config=a.py")
  assert done.returncode == 0 and "kubectl delete jobset t" in done.stdout
  assert "kubectl apply --filename=-" in calls(worker)


@pytest.mark.parametrize("name", ["gke_tpu", "gke_gpu"])
def test_jobsets_say_what_an_exit_code_means(name):
  """A pod that was preempted comes back, and a user error does not."""
  text = (TRANSCRIPTS / f"{name}.txt").read_text().partition("\n")[2]
  assert "${" not in text
  jobset = yaml.safe_load(text)
  assert jobset["kind"] == "JobSet"
  policy = jobset["spec"]["failurePolicy"]
  assert policy["rules"] == [
    {
      "action": "FailJobSet",
      "onJobFailureReasons": ["PodFailurePolicy"],
    }
  ]
  [job] = [
    each["template"]["spec"] for each in jobset["spec"]["replicatedJobs"]
  ]
  [rule] = job["podFailurePolicy"]["rules"]
  assert rule["action"] == "FailJob" and rule["onExitCodes"]["values"] == [2]
  assert job["parallelism"] == job["completions"]
  pod = job["template"]["spec"]
  # Both are needed for a policy of pods.
  assert pod["restartPolicy"] == "Never" and job["backoffLimit"] == 0
  assert pod["terminationGracePeriodSeconds"] == 300
  [container] = pod["containers"]
  assert container["name"] == rule["onExitCodes"]["containerName"]
  assert container["args"][0] == "--config=a.py"


def test_skypilot_recovers_from_preemption_alone():
  task = yaml.safe_load((ROOT / "launch/skypilot.yaml").read_text())
  recovery = task["resources"]["job_recovery"]
  assert recovery["recover_on_exit_codes"] == [1, 75]
  assert "launch/common.sh" in task["run"] and task["workdir"] == "."


@pytest.mark.parametrize(
  ("codes", "code"),
  [(["0", "0"], 0), (["0", "75"], 75), (["75", "2"], 2), (["75", "1"], 1)],
)
def test_local_processes_and_their_worst_code(worker, tmp_path, codes, code):
  program = tmp_path / "each.py"
  program.write_text(
    "import os, sys\n"
    "index = int(os.environ['JAX_PROCESS_ID'])\n"
    "assert os.environ['JAX_NUM_PROCESSES'] == '2'\n"
    f"sys.exit({list(map(int, codes))}[index])\n"
  )
  done = local(worker, tmp_path, program)
  assert done.wait(timeout=60) == code


def local(environment, tmp_path, program, **options):
  """launch/local.sh with this Python, as if it had been installed."""
  venv = tmp_path / "venv"
  (venv / "bin").mkdir(parents=True)
  python = venv / "bin/python"
  python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
  python.chmod(0o755)
  shutil.copy(python, tmp_path / "tools/python3")
  (tmp_path / "tools/python3").write_text(
    "#!/bin/sh\n"
    f'[ "$2" = venv ] && exit 0; [ "$2" = pip ] && exit 0\n'
    f'exec {sys.executable} "$@"\n'
  )
  environment = environment | {
    "VENV": str(venv),
    "LOGS": str(tmp_path / "logs"),
    "PORT": "18476",
  }
  environment["PATH"] = f"{tmp_path}/tools:{environment['PATH']}"
  return subprocess.Popen(
    ["bash", str(ROOT / "launch/local.sh"), "cpu", str(program)],
    env=environment,
    stderr=subprocess.DEVNULL,
    **options,
  )


def test_a_signal_reaches_all_local_processes(worker, tmp_path):
  program = tmp_path / "each.py"
  program.write_text(
    "import os, pathlib, signal, sys, time\n"
    "signal.signal(signal.SIGTERM, lambda *unused: sys.exit(75))\n"
    f"pathlib.Path({str(tmp_path)!r}, os.environ['JAX_PROCESS_ID'] + '.up')"
    ".touch()\n"
    "time.sleep(60)\n"
  )
  done = local(worker, tmp_path, program)
  deadline = time.time() + 30
  while len(list(tmp_path.glob("*.up"))) < 2:
    assert time.time() < deadline and done.poll() is None
    time.sleep(0.05)
  done.send_signal(signal.SIGTERM)
  assert done.wait(timeout=30) == 75


def main() -> None:
  """Writes the transcripts of dry runs."""
  TRANSCRIPTS.mkdir(exist_ok=True)
  for name, (script, arguments, variables) in DRY_RUNS.items():
    environment = os.environ | {"NAME": "t", "ZONE": "z"} | variables
    done = bash(script, environment, *arguments)
    assert done.returncode == 0, done.stderr
    (TRANSCRIPTS / f"{name}.txt").write_text(done.stdout)


if __name__ == "__main__":
  main()
