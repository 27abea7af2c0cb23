"""Identities of TFDS sets, on tiny fakes with the catalogue's own features."""

import numpy as np
import pytest
import tensorflow_datasets as tfds

from segsiam_jax.data.builders.digits import png
from segsiam_jax.data.identity import checks, identities, sets
from segsiam_jax.data.identity.tfds_identities import IDENTITIES, TfdsIdentities
from segsiam_jax.errors import UserError
from tests.data.tfds_fakes import fake, prepare


def picture(value, shape):
  height, width, channels = (side or 6 for side in shape)
  return np.full((height, width, channels), value, np.uint8)


def prepared(tmp_path, name, rows):
  """A fake of a catalogue set.

  Args:
    tmp_path: where to.
    name: a key of IDENTITIES.
    rows: split -> features of its examples; their images are filled with
      their number.
  """
  builder = tfds.builder(IDENTITIES[name].builder, data_dir=tmp_path / "none")
  features = builder.info.features
  blank = {
    tfds.features.Text: "",
    tfds.features.ClassLabel: 0,
    tfds.features.BBoxFeature: tfds.features.BBox(0.0, 0.0, 1.0, 1.0),
  }

  def example(number, given):
    filled = {}
    for key, feature in features.items():
      if key in given:
        filled[key] = given[key]
      elif isinstance(feature, tfds.features.Image):
        filled[key] = png(picture(number, feature.shape))
      elif type(feature) in blank:
        filled[key] = blank[type(feature)]
      elif isinstance(feature, tfds.features.Sequence):
        filled[key] = []
      elif isinstance(feature, tfds.features.FeaturesDict):
        filled[key] = {
          inner: np.zeros((), spec.np_dtype) for inner, spec in feature.items()
        }
      else:
        filled[key] = 0
    return filled

  config = builder.builder_config.name if builder.builder_config else None
  prepare(
    tmp_path,
    fake(
      IDENTITIES[name].builder.split("/")[0],
      str(builder.version),
      features,
      {
        split: [example(number, given) for number, given in enumerate(own)]
        for split, own in rows.items()
      },
      config=config,
    ),
  )
  return lambda split: TfdsIdentities(name, split, str(tmp_path))


def test_omniglot(tmp_path):
  rows = [{"label": label, "alphabet": label // 2} for label in (3, 0, 3, 1)]
  source = prepared(tmp_path, "tfds:omniglot", {"train": rows})("train")
  np.testing.assert_array_equal(source.labels, [2, 0, 2, 1])
  np.testing.assert_array_equal(source.groups, [1, 0, 1, 0])
  # Ink is white, as in the zips, and there is one channel of it.
  assert source[2]["image"].shape == (105, 105, 1)
  assert (source[2]["image"] == 255 - 2).all()
  assert source[2]["id"] == "tfds:omniglot/train/2"


def test_lfw(tmp_path):
  rows = [{"label": name} for name in ("Eve", "Ada", "Eve")]
  source = prepared(tmp_path, "tfds:lfw", {"train": rows})("train")
  assert source.class_names == ("Ada", "Eve")
  np.testing.assert_array_equal(source.labels, [1, 0, 1])
  assert source[1]["image"].shape == (250, 250, 3)


def test_celeb_a(tmp_path):
  rows = [{"identity": {"Identity_No": number}} for number in (10, 9, 10)]
  source = prepared(tmp_path, "celeb_a", {"train": rows})("train")
  assert source.class_names == ("9", "10")
  np.testing.assert_array_equal(source.labels, [1, 0, 1])
  assert source[0]["label"] == 1 and source[2]["image"][0, 0, 0] == 2


@pytest.mark.parametrize(
  ("name", "classes"),
  [("patch_camelyon", ("0", "1")), ("colorectal_histology", None)],
)
def test_tissue(tmp_path, name, classes):
  rows = [{"label": label} for label in (1, 0, 1)]
  source = prepared(tmp_path, name, {"train": rows})("train")
  np.testing.assert_array_equal(source.labels, [1, 0, 1])
  if classes:
    assert source.class_names == classes
  else:
    assert source.class_names[0] == "tumor"


def test_birds_have_halves_of_other_classes(tmp_path):
  rows = {
    "train": [{"label": label} for label in (0, 150, 99)],
    "test": [{"label": label} for label in (100, 0, 199)],
  }
  open_split = prepared(tmp_path, "caltech_birds2011", rows)
  train = open_split("train+test[classes=:2]")
  test = open_split("train+test[classes=2:]")
  checks.check_disjoint(train, test)
  assert len(train) == len(test) == 3
  # Of both splits of the catalogue, each example with its own image.
  assert [train[i]["image"][0, 0, 0] for i in range(3)] == [0, 2, 1]
  np.testing.assert_array_equal(train.labels, [0, 1, 0])
  np.testing.assert_array_equal(test.labels, [1, 0, 2])
  whole = open_split("train")
  with pytest.raises(UserError, match="share identities"):
    checks.check_disjoint(train, whole)


def test_views_of_a_patient(tmp_path):
  rows = [
    {"patient": patient, "view": view, "breast": breast}
    for patient, view, breast in (
      ("P_00007", 0, 0),
      ("P_00001", 0, 1),
      ("P_00007", 1, 0),
    )
  ]
  name = "curated_breast_imaging_ddsm/original-calc"
  source = prepared(tmp_path, name, {"train": rows})("train")
  assert source.class_names == ("P_00001", "P_00007")
  np.testing.assert_array_equal(source.labels, [1, 0, 1])


def test_what_is_missing_is_named(tmp_path):
  open_split = prepared(
    tmp_path, "colorectal_histology", {"train": [{"label": 1}]}
  )
  with pytest.raises(UserError, match="selects none of 1 classes"):
    open_split("train[classes=5:]")
  with pytest.raises(UserError, match="no split 'test'.*it has train"):
    open_split("test")
  with pytest.raises(UserError, match="tfds build celeb_a"):
    TfdsIdentities("celeb_a", "train", str(tmp_path))
  with pytest.raises(UserError, match="needs another package.*pip install"):
    TfdsIdentities("huggingface:rvl_cdip", "train", str(tmp_path))


def test_digits_by_class(tmp_path):
  """Our own builder, prepared on first use; opened by name."""
  train, test = (
    sets.open_identities("digits", split, str(tmp_path))
    for split in (
      "train+validation+test[classes=:7]",
      "train+validation+test[classes=7:]",
    )
  )
  assert test.class_names == ("7", "8", "9")
  assert len(train) + len(test) == 1797
  checks.check_disjoint(train, test)
  assert train[0]["image"].shape == (8, 8, 1)


def test_copies_of_a_tfds_set_are_known(tmp_path):
  """The fakes' images are filled with their number in the split."""
  rows = {"train": [{"label": "Eve"}] * 3, "test": [{"label": "Ada"}] * 2}
  source = prepared(tmp_path, "tfds:lfw", rows)("train+test")
  assert source.contents.tolist() == [0, 1, 2, 0, 1]
  assert identities.Index.of(source).distinct(1).tolist() == [2]
