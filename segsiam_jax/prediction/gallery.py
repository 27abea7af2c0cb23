"""Known identities: their embeddings, kept in an .npz file.

A new identity is a few embeddings more; nothing is trained again.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from etils import epath

from segsiam_jax.data import listing
from segsiam_jax.errors import UserError, first_line
from segsiam_jax.files import paths

# (query (D,), embeddings (n, D)) -> (n,) scores, larger for more alike.
Score = Callable[[np.ndarray, np.ndarray], np.ndarray]

# Other weights give another embedding of the probe; other machines and batch
# sizes give the same one up to rounding.
_TOLERANCE = 1e-2
# The arrays that are not text.
_NUMBERS = ("embeddings", "probe")


class Match(NamedTuple):
  """An identity of a gallery, as near to a query as its nearest image.

  Attributes:
    identity: its name.
    score: of that image, larger for more alike.
    file: of that image.
  """

  identity: str
  score: float
  file: str


class Gallery(NamedTuple):
  """Embedded images and whom they show.

  Attributes:
    embeddings: (n, D) float32.
    identities: (n,) names.
    files: (n,) absolute paths that each was embedded from.
    probe: (D,) float32, the network's embedding of a fixed image; embeddings
      of different networks do not compare.
  """

  embeddings: np.ndarray
  identities: np.ndarray
  files: np.ndarray
  probe: np.ndarray

  @classmethod
  def of(
    cls,
    embeddings: np.ndarray,
    identities: Sequence[str],
    files: Sequence[str],
    probe: np.ndarray,
  ) -> "Gallery":
    return cls(
      np.asarray(embeddings, np.float32),
      np.asarray(identities, np.str_),
      np.asarray(files, np.str_),
      np.asarray(probe, np.float32),
    )

  @classmethod
  def load(cls, path: epath.Path, probe: np.ndarray) -> "Gallery":
    """Reads a gallery.

    Args:
      path: of the file.
      probe: of the network that is to be compared with it.

    Raises:
      UserError: the file is not a gallery, or belongs to another network.
    """
    try:
      if not path.is_file():
        raise ValueError("not a regular file")
      with path.open("rb") as file:
        arrays = np.load(file)
        if isinstance(arrays, np.ndarray):
          raise ValueError("a single array")
        gallery = cls(*(arrays[name] for name in cls._fields))._checked()
    except Exception as error:  # Whatever NumPy and zipfile stumble over.
      raise UserError(
        f"{path}: not a gallery ({first_line(error)}); make one with "
        "--config.predict.enroll=True"
      ) from error
    scale = np.abs(probe).max(initial=1e-6)
    if gallery.probe.shape != probe.shape or (
      np.abs(gallery.probe - probe).max(initial=0.0) > _TOLERANCE * scale
    ):
      raise UserError(
        f"{path}: made with weights other than this checkpoint's, so "
        "distances mean nothing; make it again, or give its --checkpoint"
      )
    return gallery

  def _checked(self) -> "Gallery":
    """The same in its own dtypes; raises `ValueError` if it is none."""
    count = len(self.files) if self.files.ndim else 0
    shapes = (
      ("embeddings", (count, self.probe.size)),
      ("identities", (count,)),
      ("files", (count,)),
      ("probe", (self.probe.size,)),
    )
    for name, shape in shapes:
      array = getattr(self, name)
      if array.shape != shape:
        raise ValueError(f"{name} is {array.shape}, not {shape}")
      kinds, what = ("f", "numbers") if name in _NUMBERS else ("U", "text")
      if array.dtype.kind not in kinds:
        raise ValueError(f"{name} is {array.dtype}, not {what}")
      if name in _NUMBERS and not np.isfinite(array).all():
        raise ValueError(f"{name} holds NaN or infinity")
    if not count:
      raise ValueError("it has no identities")
    return Gallery.of(*self)

  def save(self, path: epath.Path) -> None:
    """Replaces the file in one move.

    Raises:
      UserError: the disk is full, for example; the old file stays.
    """
    try:
      with paths.write_whole(path, "wb") as file:
        np.savez(file, **self._asdict())
    except OSError as error:
      raise UserError(
        f"{path}: cannot be written ({error.strerror or error}); the gallery "
        "is as it was"
      ) from error

  def enroll(self, other: "Gallery") -> "Gallery":
    """This gallery with another's images; a file that is here is replaced.

    Names that differ only by case, or by how letters are encoded, are one
    identity's; the first of them stays.
    """
    rows = [row for one in (self, other) for row in zip(*one[:3], strict=True)]
    names: dict[str, str] = {}
    known: dict[str, tuple[np.ndarray, str, str]] = {}
    for embedding, identity, file in rows:
      identity = names.setdefault(listing.same_but_case(identity), identity)
      key = listing.same(str(file))
      known.pop(key, None)
      known[key] = (embedding, identity, file)
    return Gallery.of(*zip(*known.values(), strict=True), self.probe)

  def matches(self, query: np.ndarray, score: Score, count: int) -> list[Match]:
    """The most similar identities, the best one first.

    Args:
      query: (D,) embedding.
      score: of the network.
      count: at most so many identities.
    """
    scores = score(query, self.embeddings)
    found: dict[str, Match] = {}
    for index in np.argsort(-scores, kind="stable"):
      identity = str(self.identities[index])
      if identity not in found:
        found[identity] = Match(
          identity, float(scores[index]), str(self.files[index])
        )
        if len(found) == count:
          break
    return list(found.values())
