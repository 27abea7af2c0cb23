"""Kills runs at random, and compares what they come to with a calm run.

  python -m tests.kill_campaign --kills=100 --seed=0

Signals come at any time from the first import on, to the process or to its
group, some of them while the workdir is being read. A run that comes to its end
before all kills are spent is compared, and another one is begun. `test_kills`
does a few of these.
"""

import argparse
import pathlib
import random
import signal
import tempfile
import time
from typing import NamedTuple

from tests.conftest import write_blobs
from tests.train_runs import OF_TIME, Run, assert_equal, read_metrics, restored

STEPS = 60
# A log line, a save and an evaluation seldom fall together.
SETTINGS = (
  "train.log_every=4",
  "train.checkpoint_every=5",
  "train.eval_every=9",
  "train.num_pictures=0",
)
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


class Kill(NamedTuple):
  """When and how a run is killed.

  Attributes:
    number: of the signal.
    delay: seconds from the start, or from when the run had begun.
    begun: whether the delay counts from then.
    group: whether reading processes get it, too.
    read: whether the workdir is evaluated at the same time.
    workers: reading processes.
  """

  number: int
  delay: float
  begun: bool
  group: bool
  read: bool
  workers: int


def draw(rng: random.Random, seconds: float) -> Kill:
  """A kill within a run that takes `seconds`."""
  begun = rng.random() < 0.8
  return Kill(
    rng.choice(SIGNALS),
    rng.uniform(0, seconds / 2 if begun else seconds / 4),
    begun,
    rng.random() < 0.3,
    rng.random() < 0.15,
    rng.choice((0, 0, 0, 1)),
  )


def kill(run: Run, how: Kill) -> int | None:
  """Kills a run; its exit code, or None if it had ended before."""

  def ended() -> bool:
    return run.process.poll() is not None

  def begun() -> bool:
    return "of 60" in run.messages or "first step took" in run.messages

  while how.begun and not begun() and not ended():
    time.sleep(0.01)
  deadline = time.monotonic() + how.delay
  while time.monotonic() < deadline and not ended():
    time.sleep(0.005)
  if ended():
    return None
  if how.group:
    run.send_to_group(how.number)
  else:
    run.process.send_signal(how.number)
  return run.end()


def check_end(run: Run, how: Kill) -> None:
  """A signal that a run has noticed ends it with its code, and in a line."""
  code, messages = run.process.returncode, run.messages
  if how.number == signal.SIGKILL:
    allowed = (-signal.SIGKILL, 0)
  elif how.number == signal.SIGTERM:
    # Before the run has begun, there is nothing to save.
    allowed = (75, 0) if how.begun else (75, -signal.SIGTERM, 0)
  else:
    allowed = (130, 0) if how.begun else (130, -signal.SIGINT, 1, 0)
  if f"evaluation at step {STEPS}\n" in messages:
    # All is done, and the signal may find an interpreter that shuts down.
    allowed += (-how.number,)
  assert code in allowed, (how, code, messages)
  if how.begun or how.number != signal.SIGINT:
    assert "Traceback" not in messages, (how, messages)


def lines_of(workdir: pathlib.Path) -> list[dict]:
  """Of metrics.jsonl, without times and without what readers have added."""
  return [
    {k: v for k, v in line.items() if k not in OF_TIME}
    for line in read_metrics(workdir)
    if line["split"] in ("train", "eval")
  ]


def check_same(calm: pathlib.Path, killed: pathlib.Path) -> None:
  assert_equal(restored(calm, STEPS), restored(killed, STEPS))
  assert lines_of(killed) == lines_of(calm)
  for step in (54, STEPS):
    metrics = [
      (root / f"checkpoints/{step}/metrics/metrics").read_text()
      for root in (calm, killed)
      if (root / f"checkpoints/{step}").exists()
    ]
    assert len(set(metrics)) <= 1
  assert not list(killed.glob("train.lock*"))


def campaign(
  blobs: pathlib.Path, folder: pathlib.Path, kills: int, seed: int
) -> dict[str, int]:
  """Kills so often; raises AssertionError at the first difference.

  Returns:
    What happened, counted.
  """
  rng = random.Random(seed)
  calm = folder / "calm"
  start = time.monotonic()
  run = Run(blobs, calm, STEPS, *SETTINGS)
  assert run.end() == 0, run.messages
  seconds = time.monotonic() - start
  counts = {"kills": 0, "runs": 0, "readers": 0}
  killed = folder / "killed-0"
  while counts["kills"] < kills:
    how = draw(rng, seconds)
    workers = f"data.workers={how.workers}"
    run = Run(blobs, killed, STEPS, *SETTINGS, workers)
    reader = None
    if how.read and (killed / "checkpoints").exists():
      flags = ("--mode=eval", "--checkpoint=latest")
      reader = Run(blobs, killed, STEPS, *SETTINGS, *flags, log="reader")
    code = kill(run, how)
    if reader is not None:
      reader.end()
      counts["readers"] += 1
      assert "Traceback" not in reader.messages, reader.messages
    if code is not None:
      check_end(run, how)
      counts["kills"] += 1
      name = f"{signal.Signals(how.number).name} -> {code}"
      counts[name] = counts.get(name, 0) + 1
    if run.process.returncode == 0:
      check_same(calm, killed)
      counts["runs"] += 1
      killed = folder / f"killed-{counts['runs']}"
  run = Run(blobs, killed, STEPS, *SETTINGS)
  assert run.end() == 0, run.messages
  check_same(calm, killed)
  counts["runs"] += 1
  return counts


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--kills", type=int, default=100)
  parser.add_argument("--seed", type=int, default=0)
  args = parser.parse_args()
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    for split, count in (("train", 12), ("test", 5)):
      write_blobs(folder / "blobs" / split, count, seed=count)
    print(campaign(folder / "blobs", folder, args.kills, args.seed))


if __name__ == "__main__":
  main()
