"""Galleries: kept, extended, queried, and not mixed up."""

import numpy as np
import pytest
from etils import epath

from segsiam_jax.errors import UserError
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
    with pytest.raises(UserError, match="made with other weights"):
      Gallery.load(path, probe)


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
