"""metrics.jsonl after kills: torn lines, steps that come twice."""

import json
import math

import numpy as np
import pytest
from etils import epath
from tensorboardX.proto import event_pb2

from segsiam_jax.report import metrics_log, tensorboard, writers


def steps_of(folder, split=None):
  return [
    line["step"]
    for line in metrics_log.read(epath.Path(folder))
    if split in (None, line["split"])
  ]


@pytest.fixture
def torn(tmp_path):
  """A workdir whose run was killed within a line, after step 6."""
  lines = [
    {"step": step, "split": split, "loss": 0.5}
    for step in (2, 4, 6)
    for split in ("train", "eval")
  ]
  text = "".join(json.dumps(line) + "\n" for line in lines)
  (tmp_path / "metrics.jsonl").write_text(text + '{"step": 8, "spl')
  return tmp_path


def test_half_a_line_is_no_line(torn):
  folder = epath.Path(torn)
  assert steps_of(torn) == [2, 2, 4, 4, 6, 6]
  metrics_log.add(folder, {"step": 6, "split": "eval:test", "loss": math.nan})
  assert steps_of(torn) == [2, 2, 4, 4, 6, 6, 6]
  assert metrics_log.read(folder)[-1]["loss"] is None
  # Every line is JSON as others read it.
  metrics_log.keep(folder, lambda line: True)
  for line in (torn / "metrics.jsonl").read_text().splitlines():
    json.loads(line, parse_constant=pytest.fail)


@pytest.mark.parametrize(
  ("evaluated", "train", "test"),
  [(True, [2, 4], [2, 4]), (False, [2, 4], [2])],
)
def test_a_resumed_run_starts_from_its_checkpoint_s_lines(
  torn, evaluated, train, test
):
  writer = writers.Writer(str(torn), 8, 4, trains=True, evaluated=evaluated)
  writer.close()
  assert (steps_of(torn, "train"), steps_of(torn, "eval")) == (train, test)
  assert (torn / "metrics.jsonl").read_text().endswith("}\n")


def test_an_evaluation_by_itself_cuts_nothing(torn):
  writer = writers.Writer(str(torn), 4, 4)
  writer.scalars(4, "eval:test", {"loss": 0.25})
  writer.close()
  assert steps_of(torn, "train") == [2, 4, 6]
  assert steps_of(torn, "eval:test") == [4]


def test_lines_that_are_no_metrics_are_dropped(tmp_path):
  good = '{"step": 1, "split": "train"}'
  bad = (b"[1]", b'"step"', b"{}", b"\xff\xfe", b"\x00" * 9, b"3", b"nul")
  content = b"\n".join([*bad, good.encode(), *bad])
  (tmp_path / "metrics.jsonl").write_bytes(content)
  metrics_log.keep(epath.Path(tmp_path), lambda line: True)
  assert (tmp_path / "metrics.jsonl").read_text() == good + "\n"


def events_of(path):
  """The events of a TensorBoard file, in their order."""
  content = path.read_bytes()
  while content:
    size = int(np.frombuffer(content[:8], np.uint64)[0])
    event = event_pb2.Event()
    event.ParseFromString(content[12 : 12 + size])
    yield event
    content = content[16 + size :]


def test_tensorboard_is_told_from_where_steps_come_anew(tmp_path):
  writer = writers.Writer(str(tmp_path), 8, 4, trains=True)
  writer.scalars(5, "train", {"loss": 0.5})
  writer.close()
  [path] = (tmp_path / "tensorboard").iterdir()
  events = list(events_of(path))
  assert events[0].file_version == "brain.Event:2"
  restarts = [
    event.step
    for event in events
    if event.HasField("session_log")
    and event.session_log.status == event.session_log.START
  ]
  assert restarts == [5]
  assert [e.step for e in events if e.HasField("summary")] == [5]


def test_files_of_the_same_second_are_two(tmp_path):
  """Of a run and of an evaluation meanwhile."""
  for step in (1, 2, 3):
    writer = writers.Writer(str(tmp_path), 3, step)
    writer.scalars(step, "eval:test", {"loss": 0.5})
    writer.image(step, "eval", np.full((4, 6, 3), step, np.uint8))
    writer.close()
  found = [
    [(event.step, [value.tag for value in event.summary.value])]
    for path in (tmp_path / "tensorboard").iterdir()
    for event in events_of(path)
    if event.HasField("summary")
  ]
  assert (
    len(found) == 6 and len(list((tmp_path / "tensorboard").iterdir())) == 3
  )


def test_a_full_disk_is_named(tmp_path):
  """Events are written by whoever has them, so that nobody waits for ever."""
  board = tensorboard.EventFile(epath.Path(tmp_path))

  def full(event):
    raise OSError(28, "No space left on device")

  board._file.write_event = full
  with pytest.raises(OSError, match=f"No space left on device: '{tmp_path}'"):
    board.scalar("loss", 0.5, 1)
  board.close()
