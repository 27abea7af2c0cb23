"""TFDS catalogue sets as sources of identities.

One small adapter for each data set says what an identity is. The labels of a
split are read when it is opened; images only when they are asked for.
"""

import io
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from segsiam_jax.data import images, splits
from segsiam_jax.data.identity.documents import matching_trials
from segsiam_jax.data.identity.identities import (
  IdentitySource,
  digest,
  number_equals,
)
from segsiam_jax.data.tfds_records import TfdsRecords
from segsiam_jax.errors import UserError

# A record and the features' descriptions -> what names it, in sorting order.
Name = Callable[[Mapping[str, Any], Mapping[str, Any]], tuple[int, str]]


class IdentityAdapter(NamedTuple):
  """How a TFDS data set becomes one of identities.

  Attributes:
    builder: TFDS's name of it.
    identity: what an example shows.
    features: those that `identity` and `group` need.
    download: how to get the data, for the error when they are not there.
    group: what the identity belongs to; None for one group.
    original: (record, features) -> whether the other examples of its identity
      are copies, to be matched with it; None if there are no such.
    image: name of the feature with the encoded image.
    to_image: (H, W, C) uint8 -> the same, as our own readers have it.
  """

  builder: str
  identity: Name
  features: tuple[str, ...]
  download: str
  group: Name | None = None
  original: Callable[[Mapping, Mapping], bool] | None = None
  image: str = "image"
  to_image: Callable[[np.ndarray], np.ndarray] = lambda image: image


def _class_label(feature: str) -> Name:
  def name(record, features):
    index = int(record[feature])
    return index, features[feature].int2str(index)

  return name


def _number(feature: str) -> Name:
  def name(record, features):
    del features
    return int(record[feature]), str(int(record[feature]))

  return name


def _text(feature: str) -> Name:
  def name(record, features):
    del features
    return 0, record[feature].decode()

  return name


def _celeb_a(record, features) -> tuple[int, str]:
  return _number("Identity_No")(record["identity"], features)


def _page(record, features) -> tuple[int, str]:
  """Pages are renumbered in every split; an id is split/page/copy."""
  del features
  return int(record["page"]), record["id"].decode().rpartition("/")[0]


def white_ink(image: np.ndarray) -> np.ndarray:
  """Black ink on white, three channels -> white on black, one channel."""
  return 255 - image[..., :1]


def _build(name: str) -> str:
  return f"tfds build {name} --file_format=array_record"


IDENTITIES: dict[str, IdentityAdapter] = {
  "digits": IdentityAdapter(
    builder="digits",
    identity=_class_label("label"),
    features=("label",),
    download="it is prepared on first use",
  ),
  "documents": IdentityAdapter(
    builder="documents",
    identity=_page,
    group=_number("family"),
    original=lambda record, features: (
      features["kind"].int2str(int(record["kind"])) == "original"
    ),
    features=("page", "family", "kind", "id"),
    download="it is prepared on first use",
  ),
  "tfds:omniglot": IdentityAdapter(
    builder="omniglot",
    identity=_class_label("label"),
    group=_class_label("alphabet"),
    features=("label", "alphabet"),
    to_image=white_ink,
    download=_build("omniglot"),
  ),
  "tfds:lfw": IdentityAdapter(
    builder="lfw",
    identity=_text("label"),
    features=("label",),
    download=_build("lfw"),
  ),
  "celeb_a": IdentityAdapter(
    builder="celeb_a",
    identity=_celeb_a,
    features=("identity",),
    download=_build("celeb_a"),
  ),
  "patch_camelyon": IdentityAdapter(
    builder="patch_camelyon",
    identity=_class_label("label"),
    features=("label",),
    download=_build("patch_camelyon"),
  ),
  "colorectal_histology": IdentityAdapter(
    builder="colorectal_histology",
    identity=_class_label("label"),
    features=("label",),
    download=_build("colorectal_histology"),
  ),
  "caltech_birds2011": IdentityAdapter(
    builder="caltech_birds2011",
    identity=_class_label("label"),
    features=("label",),
    download=_build("caltech_birds2011"),
  ),
  # Views of one breast and of the other are both of the patient.
  **{
    f"curated_breast_imaging_ddsm/{config}": IdentityAdapter(
      builder=f"curated_breast_imaging_ddsm/{config}",
      identity=_text("patient"),
      features=("patient",),
      download=(
        "download the files by hand (see the TFDS catalogue), then "
        + _build(f"curated_breast_imaging_ddsm/{config}")
      ),
    )
    for config in ("original-calc", "original-mass")
  },
  "huggingface:rvl_cdip": IdentityAdapter(
    builder="huggingface:rvl_cdip",
    identity=_class_label("label"),
    features=("label",),
    download="pip install datasets, then " + _build("huggingface:rvl_cdip"),
  ),
}


class TfdsIdentities(IdentitySource):
  """A split of a TFDS data set.

  Attributes:
    class_names: of the identities, in the order of the data set's classes.
    labels: (n,) int32.
    groups: (n,) int32.
    contents: (n,) int32, equal for images that are encoded by equal bytes.
    episodes: copies to be matched with their originals, if there are such.
  """

  def __init__(self, name: str, split: str, data_dir: str | None = None):
    """Reads who is where.

    Args:
      name: a key of `IDENTITIES`.
      split: TFDS split, such as 'train', 'train+test' or 'train[:10%]', or
        with a part of the identities, as 'train+test[classes=:100]', so that
        halves share none.
      data_dir: where TFDS keeps its data; None is its own default.

    Raises:
      UserError: the data or the split are not there.
    """
    adapter = IDENTITIES[name]
    self._name, self._adapter = name, adapter
    by_class = "=" in split
    wanted = splits.parse(split, ("classes",) if by_class else ())
    self._split = wanted.name if by_class else split

    self._records = records = TfdsRecords(
      adapter.builder,
      self._split,
      (adapter.image, *adapter.features),
      data_dir=data_dir,
      download=adapter.download,
    )
    keys, groups, originals, digests = [], [], [], []
    for index in range(len(records)):
      record = records[index]
      keys.append(adapter.identity(record, records.features))
      digests.append(digest(record[adapter.image]))
      if adapter.group is not None:
        groups.append(adapter.group(record, records.features))
      if adapter.original is not None:
        originals.append(adapter.original(record, records.features))
    chosen = wanted.part(sorted(set(keys)), "classes")
    labels = {key: label for label, key in enumerate(chosen)}
    if not chosen:
      raise UserError(
        f"{name}: split {split!r} selects none of {len(set(keys))} classes"
      )
    self._indices = [i for i, key in enumerate(keys) if key in labels]
    self.class_names = tuple(name for _, name in chosen)
    self.labels = np.array([labels[keys[i]] for i in self._indices], np.int32)
    self.contents = number_equals(digests[i] for i in self._indices)
    self.groups = np.zeros_like(self.labels)
    if groups:
      numbers = {group: n for n, group in enumerate(sorted(set(groups)))}
      self.groups = np.array(
        [numbers[groups[i]] for i in self._indices], np.int32
      )
    if originals:
      self.episodes = matching_trials(
        self.labels, np.array(originals)[self._indices]
      )

  def __len__(self) -> int:
    return len(self.labels)

  def __getitem__(self, index: int) -> dict[str, Any]:
    number = self._indices[index]
    record = self._records[number]
    image = images.read_image(io.BytesIO(record[self._adapter.image]))
    return {
      "image": self._adapter.to_image(image),
      "label": int(self.labels[index]),
      "group": int(self.groups[index]),
      "id": f"{self._name}/{self._split}/{number}",
    }

  def keys(self) -> list[str]:
    """See `sources.Source`."""
    keys = self._records.keys()
    return [keys[number] for number in self._indices]
