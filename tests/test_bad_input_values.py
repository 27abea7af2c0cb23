"""Values of fields that no machine can take: refused in a line, at once."""

import jax
import pytest

from segsiam_jax.engine import room
from tests import bad_inputs

NAN, INFINITY = float("nan"), float("inf")
# Reader, field, value, part of the message.
CASES = [
  ("semantic", "data.image_size", (10**6, 10**6), "GB of memory"),
  ("semantic", "data.image_size", (1, 1), "at least"),
  ("semantic", "data.image_size", (), "expected (height, width)"),
  ("semantic", "data.image_size", (64,), "expected (height, width)"),
  ("semantic", "data.image_size", (-64, 64), "at least"),
  ("semantic", "data.eval_image_size", (10**6, 10**6), "GB of memory"),
  ("semantic", "train.batch_size", 10**9, "GB of memory"),
  ("semantic", "train.batch_size", 2**63, "expected at most"),
  ("semantic", "train.batch_size", 0, "expected at least 1"),
  ("semantic", "train.eval_batch_size", 10**9, "GB of memory"),
  ("semantic", "train.eval_batch_size", -4, "expected at least 1"),
  ("semantic", "train.num_steps", 10**30, "expected at most"),
  ("semantic", "train.ema_decay", NAN, "finite"),
  ("semantic", "seed", 2**63, "expected at most"),
  ("semantic", "seed", -1, "expected"),
  ("semantic", "model.base_width", 10**6, "GB of memory"),
  ("semantic", "model.base_width", 0, "expected at least 1"),
  ("semantic", "model.depth", 10**6, "expected 1 to 8"),
  ("semantic", "model.dropout", NAN, "finite"),
  ("semantic", "optimizer.learning_rate", 1e308, "float32"),
  ("semantic", "optimizer.learning_rate", INFINITY, "finite"),
  ("semantic", "optimizer.learning_rate", NAN, "finite"),
  ("semantic", "optimizer.learning_rate", -1.0, "expected at least 0"),
  ("semantic", "optimizer.weight_decay", 1e308, "float32"),
  ("semantic", "optimizer.step_boundaries", (NAN, 0.5), "finite"),
  ("semantic", "augment.scale", (NAN, 1.0), "finite"),
  ("semantic", "augment.scale", (0.5, 1e30), "at most 100"),
  ("semantic", "augment.scale", (), "expected two factors"),
  ("semantic", "augment.elastic_grid", 10**6, "expected 2 to 1024"),
  ("semantic", "augment.elastic_sigma", 1e30, "expected 0 to"),
  ("semantic", "data.mean", (NAN,) * 3, "finite"),
  ("semantic", "data.std", (0.0,) * 3, "expected at least"),
  ("semantic", "data.channels", 10**6, "expected 1 to"),
  ("semantic", "data.workers", 10**6, "expected 0 to"),
  ("semantic", "data.threads", 10**6, "expected 1 to"),
  ("semantic", "loss.class_weights", (INFINITY, 1.0), "finite"),
  ("identities", "data.image_size", (10**6, 10**6), "GB of memory"),
  ("identities", "data.image_size", (), "(height, width)"),
  ("identities", "eval.views", 10**5, "expected 1 to 1000"),
  ("identities", "eval.pairs", 10**9, "expected 2 to"),
  ("identities", "eval.episodes", 10**9, "expected 1 to"),
  ("identities", "eval.shots", (), "at least one"),
  ("identities", "eval.shots", (-1,), "expected"),
  ("identities", "eval.folds", 10**6, "expected 2 to"),
  ("identities", "loss.temperature", NAN, "finite"),
  ("coco", "data.buckets", ("3200000x3200000",), "GB of memory"),
  ("coco", "data.buckets", (), "at least one"),
  ("coco", "data.max_objects", 10**9, "expected 1 to"),
  ("coco", "model.aspect_ratios", (), "at least one"),
  ("coco", "model.rpn_samples", 10**9, "expected 1 to"),
  ("coco", "model.rpn_pre_nms", (10**9, 10**9), "at most"),
  ("coco", "model.box_widths", (10**6, 10**6), "GB of memory"),
  ("coco", "model.mask_convs", 10**6, "expected 0 to"),
]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
  """The folder of a reader's data, made once."""
  made = {}

  def folder(reader):
    if reader not in made:
      made[reader] = tmp_path_factory.mktemp(reader)
      make, _ = bad_inputs.READERS[reader]
      make(made[reader])
    return made[reader]

  return folder


def no_memory(message):
  def run():
    raise message

  return run


@pytest.mark.parametrize(
  "error",
  [
    MemoryError(),
    MemoryError("Unable to allocate 7.45 GiB for an array"),
    jax.errors.JaxRuntimeError(
      "RESOURCE_EXHAUSTED: Out of memory allocating 8 bytes.\nand more"
    ),
  ],
)
def test_memory_that_runs_out_is_one_line(capsys, error):
  line = bad_inputs.refused(no_memory(error), capsys)
  assert "memory ran out (" in line and "smaller batches" in line


@pytest.mark.parametrize(("reader", "field", "value", "told"), CASES)
def test_a_value_is_refused(
  data, tmp_path, capsys, monkeypatch, reader, field, value, told
):
  # Whatever has the memory for a tiny model but not for these.
  monkeypatch.setattr(room, "host", lambda: 64e9)
  config = bad_inputs.config_of(reader, data(reader))
  *sections, last = field.split(".")
  node = config
  for section in sections:
    node = node[section]
  node[last] = value
  line = bad_inputs.training_is_refused(config, tmp_path / "run", capsys)
  assert told in line, line
