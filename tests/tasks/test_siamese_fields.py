"""Fields of the Siamese task, and the mistakes in them."""

import dataclasses

import pytest

from segsiam_jax import inputs, parts
from segsiam_jax.config import default_config, validate
from segsiam_jax.errors import UserError
from segsiam_jax.fields.siamese import MODELS
from tests.siamese_data import make_siamese_config


@pytest.mark.parametrize("name", list(MODELS))
def test_every_field_of_a_tower_is_in_the_config(name):
  """And the other way round, with the same default."""
  config = default_config("siamese", name)
  validate_size = {"koch": (105, 105), "signet": (155, 220)}
  config.data.image_size = validate_size.get(name, (64, 64))
  if name == "koch":
    config.loss.triplet, config.loss.binary = 0.0, 1.0
    config.batch.kind = "pairs"
  validate(config)
  ours = {
    field.name: field.default
    for field in dataclasses.fields(parts.load(MODELS[name].make))
    if field.name not in ("dtype", "axis_name", "parent", "name")
  }
  fields = config.model.to_dict()
  for extra in ("name", "head", "normalize"):
    fields.pop(extra)
  assert fields == ours


MISTAKES = [
  ({"loss.triplet": 0.0}, "all losses have weight 0"),
  ({"loss.binary": 1.0}, "loss.binary.*needs config.batch.kind = 'pairs'"),
  (
    {"loss.binary": 1.0, "batch.kind": "pairs"},
    "needs config.model.head = 'learned'",
  ),
  ({"model.head": "learned"}, "trained by loss.binary alone"),
  ({"loss.prototypical": 1.0}, "needs config.batch.kind = 'episodes'"),
  ({"batch.kind": "episodes"}, r"not a multiple of batch.ways \* .* = 20"),
  ({"batch.kind": "examples"}, "is for arcface, cosface"),
  ({"batch.per_identity": 3}, "not a multiple of batch.per_identity = 3"),
  ({"batch.per_identity": 8}, "holds one identity"),
  ({"train.grad_accum": 2}, "keep it whole"),
  ({"data.image_size": (16, 8), "augment.turn": "group"}, "need a square"),
  (
    {"augment.turn": "group", "loss.memory_size": 64},
    "makes other identities each time",
  ),
  ({"loss.arcface": 1.0, "loss.memory_size": 64}, "only for contrastive"),
  ({"augment.turn": "group", "loss.arcface": 1.0}, "not with arcface"),
  ({"data.dir": ""}, "the folder of the data is needed"),
  ({"model.head": "deformable"}, "it needs model 'strokes'"),
  ({"batch.by_drawer": True}, "needs config.batch.kind = 'episodes'"),
  (
    {"batch.by_drawer": True, "batch.kind": "episodes", "batch.ways": 2},
    "needs batch.shots = batch.queries = 1",
  ),
]


@pytest.mark.parametrize(("changes", "message"), MISTAKES)
def test_fields_that_do_not_go_together(identity_root, changes, message):
  config = make_siamese_config(identity_root)
  for name, value in changes.items():
    section, field = name.split(".")
    config[section][field] = value
  with pytest.raises(UserError, match=message):
    validate(config)


def test_splits_that_share_an_identity_are_told(identity_root):
  config = make_siamese_config(identity_root)
  config.data.eval_split = "train"
  train, test = (inputs.open_inputs(config, train=t) for t in (True, False))
  with pytest.raises(UserError, match=r"share identities: a0, a1, a2, ... .8"):
    inputs.check_together(config, train, test)
  config.data.shared_identities = True
  with pytest.raises(UserError, match="share 48 of 48 evaluation examples"):
    inputs.check_together(config, train, test)
  config.data.allow_overlap = True
  inputs.check_together(config, train, test)
