"""Galleries: kept, extended, queried, and not mixed up."""

import os
import pathlib
import pickle

import numpy as np
import pytest
from etils import epath

from segsiam_jax.errors import UserError
from segsiam_jax.files import paths
from segsiam_jax.prediction.gallery import Gallery

PROBE = np.array([1.0, -2.0], np.float32)


def score(query, embeddings):
  return -np.linalg.norm(embeddings - query, axis=-1)


@pytest.fixture
def gallery():
  return Gallery.of(
    [[0.0, 0.0], [0.0, 1.0], [5.0, 5.0]],
    ["ada", "ada", "bob"],
    ["ada/1.png", "ada/2.png", "bob/1.png"],
    PROBE,
  )


def test_matches_are_of_identities_by_their_nearest_image(gallery):
  matches = gallery.matches(np.array([0.0, 1.5]), score, 5)
  assert [match.identity for match in matches] == ["ada", "bob"]
  assert matches[0].file == "ada/2.png"
  assert matches[0].score == pytest.approx(-0.5)
  assert len(gallery.matches(np.zeros(2), score, 1)) == 1


def test_enrolled_and_read_again(gallery, tmp_path):
  more = Gallery.of(
    [[9.0, 9.0], [0.0, 2.0]],
    ["eve", "ada"],
    ["eve/1.png", "ada/2.png"],
    PROBE,
  )
  path = epath.Path(tmp_path) / "gallery.npz"
  gallery.enroll(more).save(path)
  again = Gallery.load(path, PROBE * 1.001)
  assert again.files.tolist() == [
    "ada/1.png", "bob/1.png", "eve/1.png", "ada/2.png"
  ]  # fmt: skip
  assert again.identities.tolist() == ["ada", "bob", "eve", "ada"]
  # The file that was there before has its new embedding.
  np.testing.assert_array_equal(again.embeddings[3], [0.0, 2.0])
  assert [path.name for path in tmp_path.iterdir()] == ["gallery.npz"]
  assert again.matches(np.full(2, 8.0), score, 1)[0].identity == "eve"


def test_other_networks_are_refused(gallery, tmp_path):
  path = epath.Path(tmp_path) / "gallery.npz"
  gallery.save(path)
  for probe in (PROBE + 0.1, np.ones(3, np.float32)):
    with pytest.raises(UserError, match="made with weights other"):
      Gallery.load(path, probe)


def test_names_that_differ_by_case_are_one_identity(gallery):
  more = Gallery.of(
    [[1.0, 1.0], [2.0, 2.0]], ["ADA", "Bo\u0308b"], ["x", "y"], PROBE
  )
  again = Gallery.of([[3.0, 3.0]], ["b\xf6b"], ["z"], PROBE)
  joined = gallery.enroll(more).enroll(again)
  assert joined.identities.tolist() == [
    *("ada", "ada", "bob", "ada", "Bo\u0308b", "Bo\u0308b")
  ]


def good():
  return {
    "embeddings": np.ones((2, 2), np.float32),
    "identities": np.array(["ada", "bob"]),
    "files": np.array(["1", "2"]),
    "probe": PROBE,
  }


FORMS = {
  "other width": {"embeddings": np.ones((2, 3), np.float32)},
  "other rank": {"embeddings": np.ones((2, 2, 1), np.float32)},
  "one row": {"embeddings": np.ones(2, np.float32)},
  "no axes": {"embeddings": np.float32(1)},
  "complex": {"embeddings": np.ones((2, 2), np.complex64)},
  "integers": {"embeddings": np.ones((2, 2), np.int64)},
  "objects": {"embeddings": np.array([[1, 2], [3, None]], object)},
  "text": {"embeddings": np.array([["1", "2"]] * 2)},
  "NaN": {"embeddings": np.full((2, 2), np.nan, np.float32)},
  "too large": {"embeddings": np.full((2, 2), 1e300)},
  "fewer names": {"identities": np.array(["ada"])},
  "fewer files": {"files": np.array(["1"])},
  "one file": {"files": np.array("1")},
  "names as numbers": {"identities": np.array([1, 2])},
  "names as bytes": {"identities": np.array([b"ada", b"bob"])},
  "files as objects": {"files": np.array(["1", None], object)},
  "NaN probe": {"probe": np.full(2, np.nan, np.float32)},
  "infinite probe": {"probe": np.full(2, np.inf)},
  "probe of rank 2": {"probe": PROBE[None]},
  "probe as text": {"probe": np.array(["a", "b"])},
  "nobody": {
    "embeddings": np.ones((0, 2), np.float32),
    "identities": np.array([], str),
    "files": np.array([], str),
  },
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_that_are_no_gallery(tmp_path, form):
  path = tmp_path / "gallery.npz"
  np.savez(path, **good())
  assert len(Gallery.load(paths.resolve(path), PROBE).files) == 2
  np.savez(path, **good() | FORMS[form])
  refused(path)


def refused(path):
  words = rf"{path.name}: not a gallery|weights other"
  with pytest.raises(UserError, match=words) as error:
    Gallery.load(paths.resolve(path), PROBE)
  assert "\n" not in str(error.value)


def encrypted(content):
  return _flagged(content, 0, 1)


def unknown_compression(content):
  return _flagged(content, 2, 97)


def _flagged(content, offset, value):
  """Changes a field of all headers of a zip: flags or compression."""
  content = bytearray(content)
  for mark, start in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
    at = -1
    while (at := content.find(mark, at + 1)) >= 0:
      content[at + start + offset] = value
  return bytes(content)


def bad_checksum(content):
  at = content.find(PROBE.tobytes())
  return content[:at] + b"?" + content[at + 1 :]


def longer_than_it_is(content):
  return content.replace(b"'shape': (2, 2), }", b"'shape': (2, 1099511627776)}")


@pytest.mark.parametrize(
  "spoil",
  [
    encrypted,
    unknown_compression,
    bad_checksum,
    longer_than_it_is,
    lambda content: content[: len(content) // 2],
    lambda content: content.replace(b"'shape'", b"__im__("),
    lambda content: b"\x93NUMPY" + content,
  ],
)
def test_damaged_galleries(tmp_path, spoil):
  path = tmp_path / "gallery.npz"
  np.savez(path, **good())
  path.write_bytes(spoil(path.read_bytes()))
  refused(path)


def test_other_files_are_no_galleries(tmp_path):
  path = tmp_path / "gallery.npz"
  with path.open("wb") as file:
    np.save(file, np.ones(3))
  refused(path)
  path.unlink()
  os.mkfifo(path)
  refused(path)
  path.unlink()
  path.mkdir()
  refused(path)


def test_a_pickle_is_not_run(tmp_path):
  class Malicious:
    def __reduce__(self):
      return pathlib.Path.touch, (tmp_path / "touched",)

  path = tmp_path / "gallery.npz"
  np.savez(path, **good() | {"files": np.array([Malicious()] * 2, object)})
  refused(path)
  path.write_bytes(pickle.dumps(Malicious()))
  refused(path)
  assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 broken", None])
def test_what_is_no_gallery_is_named(tmp_path, content):
  path = epath.Path(tmp_path) / "gallery.npz"
  if content is None:
    np.savez(str(path), embeddings=np.zeros((1, 2)))
  else:
    path.write_bytes(content)
  with pytest.raises(UserError, match=r"gallery\.npz: not a gallery") as error:
    Gallery.load(path, PROBE)
  assert "\n" not in str(error.value)
