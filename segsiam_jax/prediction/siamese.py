"""Are these the same? Files compared, or looked for in a gallery.

* Two files: their score, and whether they show one identity.
* More files: the nearest other file of each.
* With `predict.gallery`: the known identities nearest to each file; and with
  `predict.enroll` the files are added to the gallery instead.
"""

import io
import logging
import pathlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import ml_collections
import numpy as np

from segsiam_jax.data import images, listing
from segsiam_jax.data.identity import sets
from segsiam_jax.data.identity.rows import SiameseRows
from segsiam_jax.engine import checkpoint as checkpoint_lib
from segsiam_jax.errors import UserError
from segsiam_jax.files import paths
from segsiam_jax.models.siamese import learned_head
from segsiam_jax.ops.similarity import similarity
from segsiam_jax.prediction import files as files_lib
from segsiam_jax.prediction.gallery import Gallery
from segsiam_jax.prediction.output import Output
from segsiam_jax.prediction.predictor import Predictor
from segsiam_jax.tasks import pair_plots
from segsiam_jax.tasks.siamese import maps_of
from segsiam_jax.tasks.siamese_metrics import require_finite_rows

_logger = logging.getLogger(__name__)

_similarity = jax.jit(similarity, static_argnames="head")

EMBEDDINGS_FILE = "embeddings.npz"
PROJECTION_FILE = "projection.png"


def predict_files(
  config: ml_collections.ConfigDict,
  checkpoint: str,
  files: Mapping[pathlib.Path, str],
  output: Output,
) -> list[str]:
  """Embeds files and compares them.

  Writes `predictions.jsonl` (see the module), `embeddings.npz` (`embeddings`
  (n, D) float32 and `files`) and, of three files or more, `projection.png`. An
  image that is enrolled shows the identity that its folder is named after.

  Args:
    config: of the run.
    checkpoint: its folder.
    files: see `files.list_files`.
    output: what is written to.

  Returns:
    A complaint for every file that could not be read.

  Raises:
    UserError: the gallery is missing, or another network's, or an image that is
      enrolled is in no folder with a name; or see `Output.claim`.
  """
  settings = config.predict
  names = [files_lib.LINES_FILE, EMBEDDINGS_FILE]
  output.claim(names + [PROJECTION_FILE] * (len(files) > 2))
  if settings.enroll:
    for path in files:
      _person(path)
    if output.is_in_use(paths.resolve(settings.gallery)):
      raise UserError(
        f"config.predict.gallery = {settings.gallery}: is an input, or another "
        "file of the output; choose another name"
      )
  embedder = Embedder(config, checkpoint)
  gallery = None
  if settings.gallery:
    gallery = _open_gallery(settings, embedder)
  embedded, complaints = _embed(files, embedder)
  one_of_two = len(files) == 2 and complaints
  if not embedded.files or (one_of_two and not settings.gallery):
    return complaints  # There is nothing to say: earlier results stay.
  if settings.enroll:
    lines = _enroll(settings, embedded, embedder)
  elif gallery is not None:
    lines = _query(gallery, embedded, embedder, settings.matches)
  elif len(files) == 2:
    lines = _compare(embedded, embedder)
  else:
    lines = _neighbours(embedded, embedder)
  output.write(EMBEDDINGS_FILE, _npz(embedded))
  output.write_lines(files_lib.LINES_FILE, lines)
  if len(embedded.files) > 2:
    output.write(PROJECTION_FILE, files_lib.png(_projection(embedded)))
  return complaints


class Embedded(NamedTuple):
  """Embedded files.

  Attributes:
    files: their paths.
    embeddings: (n, D) float32.
  """

  files: tuple[pathlib.Path, ...]
  embeddings: np.ndarray


class Embedder:
  """A trained network: images to embeddings, and how they compare.

  Attributes:
    probe: (D,) the embedding of a fixed image, see `Gallery`.
    threshold: least score of one identity; None if none was calibrated.
  """

  def __init__(self, config: ml_collections.ConfigDict, checkpoint: str):
    """Loads the weights.

    Args:
      config: of a Siamese task.
      checkpoint: its folder.
    """
    self._data = config.data
    size, channels = tuple(config.data.image_size), config.data.channels
    self._fit = SiameseRows(size, channels, config.data.fit)
    self._head = config.model.head
    shape = (*size, channels)
    self._predictor = Predictor(
      config,
      checkpoint,
      {"image": jax.ShapeDtypeStruct(shape, np.uint8)},
      config.predict.batch_size,
    )
    self._learned = jax.device_get(
      learned_head(self._predictor.state.params, maps_of(config))
    )
    self.threshold = checkpoint_lib.metrics_of(checkpoint).get("threshold")
    noise = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    self.probe = self([noise])[0]

  def read(self, path: pathlib.Path) -> np.ndarray:
    """A file as the network takes it: (H, W, C) uint8."""
    image = images.read_image(path)
    try:
      return self.fit(image)
    except UserError as error:
      raise UserError(f"{path}: {error}") from error

  def fit(self, image: np.ndarray) -> np.ndarray:
    """A file's image, (H, W, C) uint8, as the network takes it."""
    return self._fit.image(sets.as_in(self._data.name, image))

  def __call__(self, rows: Iterable[np.ndarray]) -> np.ndarray:
    """Embeds images: n of (H, W, C) uint8 to (n, D) float32."""
    found = [
      out["embeddings"]
      for out in self._predictor({"image": row} for row in rows)
    ]
    if not found:
      return np.zeros((0, 0), np.float32)
    embeddings = np.stack(found).astype(np.float32)
    require_finite_rows(embeddings)
    return embeddings

  def score(self, query: np.ndarray, embeddings: np.ndarray) -> np.ndarray:
    """(D,) against (n, D): (n,) scores, larger for more alike."""
    return np.array(
      _similarity(query, embeddings, head=self._head, learned=self._learned)
    )

  def verdict(self, score: float) -> dict[str, Any]:
    """What a score means, as predictions.jsonl says it."""
    line = {
      "score": round(score, 6),
      "distance": round(self._distance(score), 6),
    }
    if self.threshold is not None:
      line["threshold"] = round(self.threshold, 6)
      line["same"] = bool(score >= self.threshold)
    return line

  def _distance(self, score: float) -> float:
    if self._head == "cosine":
      return 1.0 - score
    if self._head == "learned":
      return float(1 / (1 + np.exp(score)))
    return -score


def _open_gallery(
  settings: ml_collections.ConfigDict, embedder: Embedder
) -> Gallery | None:
  path = paths.resolve(settings.gallery)
  if path.exists():
    return Gallery.load(path, embedder.probe)
  if not settings.enroll:
    raise UserError(
      f"config.predict.gallery = {settings.gallery}: no such file; add images "
      "to it with --config.predict.enroll=True"
    )
  paths.make_writable("--config.predict.gallery", path.parent)
  return None


def _embed(
  files: Mapping[pathlib.Path, str], embedder: Embedder
) -> tuple[Embedded, list[str]]:
  """All files that can be read, and complaints about the others."""
  read, complaints = [], []

  def rows() -> Iterator[np.ndarray]:
    for path in files:
      try:
        row = embedder.read(path)
      except UserError as error:
        complaints.append(str(error))
        _logger.error("%s", error)
      else:
        read.append(path)
        yield row

  embeddings = embedder(rows())
  return Embedded(tuple(read), embeddings), complaints


def _npz(embedded: Embedded) -> bytes:
  buffer = io.BytesIO()
  np.savez(
    buffer,
    embeddings=embedded.embeddings,
    files=np.array([str(path) for path in embedded.files]),
  )
  return buffer.getvalue()


def _compare(embedded: Embedded, embedder: Embedder) -> list[dict]:
  first, second = embedded.embeddings
  verdict = embedder.verdict(float(embedder.score(first, second[None])[0]))
  names = [str(path) for path in embedded.files]
  _logger.info("%s and %s: %s", *names, _in_words(verdict))
  return [{"first": names[0], "second": names[1], **verdict}]


def _neighbours(embedded: Embedded, embedder: Embedder) -> list[dict]:
  lines = []
  for index, path in enumerate(embedded.files):
    line = {"file": str(path)}
    if len(embedded.files) > 1:
      scores = embedder.score(embedded.embeddings[index], embedded.embeddings)
      scores[index] = -np.inf
      nearest = int(scores.argmax())
      line["nearest"] = str(embedded.files[nearest])
      line |= embedder.verdict(float(scores[nearest]))
    lines.append(line)
  return lines


def _person(path: pathlib.Path) -> str:
  """Whom an image shows that is enrolled: the name of its folder."""
  name = path.parent.resolve().name
  if not name or listing.is_hidden(name):
    raise UserError(
      f"{path}: its folder is named {name!r}, which is not an identity's "
      "name; put the images of an identity into a folder of its own, such as "
      "NAME/1.png"
    )
  return name


def _enroll(
  settings: ml_collections.ConfigDict, embedded: Embedded, embedder: Embedder
) -> list[dict]:
  # The same for every way to name a file, and for no other file.
  names = [str(path.parent.resolve() / path.name) for path in embedded.files]
  people = [_person(path) for path in embedded.files]
  new = Gallery.of(embedded.embeddings, people, names, embedder.probe)
  # Read anew: others may have enrolled somebody meanwhile.
  gallery = _open_gallery(settings, embedder)
  joined = new.enroll(new) if gallery is None else gallery.enroll(new)
  joined.save(paths.resolve(settings.gallery))
  _logger.info(
    "%s: %d images of %d identities",
    settings.gallery,
    len(joined.files),
    len(set(joined.identities)),
  )
  shown = dict(zip(joined.files, joined.identities, strict=True))
  return [
    {"file": str(path), "enrolled": str(shown[name])}
    for path, name in zip(embedded.files, names, strict=True)
  ]


def _query(
  gallery: Gallery, embedded: Embedded, embedder: Embedder, count: int
) -> list[dict]:
  lines = []
  for path, embedding in zip(embedded.files, embedded.embeddings, strict=True):
    matches = gallery.matches(embedding, embedder.score, count)
    best = embedder.verdict(matches[0].score)
    known = best.get("same", True)
    lines.append(
      {
        "file": str(path),
        "identity": matches[0].identity if known else None,
        **best,
        "matches": [
          {
            "identity": match.identity,
            "file": match.file,
            **embedder.verdict(match.score),
          }
          for match in matches
        ],
      }
    )
    name = matches[0].identity if known else "unknown, nearest"
    if not known:
      name += f" {matches[0].identity}"
    _logger.info("%s: %s, %s", path, name, _in_words(best))
  return lines


def _in_words(verdict: Mapping[str, Any]) -> str:
  words = f"score {verdict['score']:.4g}, distance {verdict['distance']:.4g}"
  if "same" not in verdict:
    return f"{words}; no threshold was calibrated"
  same = "the same" if verdict["same"] else "different"
  return f"{same} ({words}, threshold {verdict['threshold']:.4g})"


def _projection(embedded: Embedded) -> np.ndarray:
  folders = [path.resolve().parent.name for path in embedded.files]
  names = sorted(set(folders))
  labels = np.array([names.index(folder) for folder in folders])
  return pair_plots.projection(embedded.embeddings, labels, names)
