"""Omniglot from its own zips, and the published one-shot runs.

Characters of 50 alphabets, each drawn once by 20 people (Lake, Salakhutdinov &
Tenenbaum, "Human-level concept learning through probabilistic program
induction", Science 2015). The files are 1-bit PNGs, black ink on white paper;
they are read inverted, ink 255 and paper 0.

The zips keep what TFDS leaves out: who drew an image. The layout is

  DIR/images_background.zip           30 alphabets, 964 characters
  DIR/images_background_small1.zip    5 of them
  DIR/images_background_small2.zip    5 of them
  DIR/images_evaluation.zip           20 others, 659 characters
  DIR/all_runs.zip, DIR/one_shot_runs/run01 ... or DIR/run01 ...
"""

import io
import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from segsiam_jax.data import splits, zips
from segsiam_jax.data.broken import Broken
from segsiam_jax.data.identity.identities import (
  IdentitySource,
  Trials,
  number_equals,
)
from segsiam_jax.errors import UserError, first_line
from segsiam_jax.files import text_files

SIDE = 105
ZIPS = {
  "background": "images_background.zip",
  "small1": "images_background_small1.zip",
  "small2": "images_background_small2.zip",
  "evaluation": "images_evaluation.zip",
}
RUNS = "one_shot_runs"
HOMEPAGE = "https://github.com/brendenlake/omniglot/tree/master/python"

# images_background/Greek/character01/0394_01.png
_DRAWING = re.compile(r"[^/]+/([^/]+)/(character\d+)/(\d+)_(\d{1,6})\.png")
_RUN = re.compile(r"run\d+")


class OmniglotSource(IdentitySource):
  """Drawings of characters, ordered by alphabet, character and drawer.

  All are held in memory, a bit a pixel.

  Attributes:
    class_names: 'Alphabet/character01', by label.
    labels: (n,) int32, the character.
    groups: (n,) int32, the alphabet.
    contents: (n,) int32, equal for drawings that are equal to the last pixel:
      Braille/character01 holds one twice, as drawer 3 and drawer 19.
    drawers: (n,) int32, who drew it, from 1; the same person in the whole of
      an alphabet.
    alphabets: names, by group.
    ids: 'Alphabet/character01/0394_01', the file's path in the zip.
  """

  def __init__(self, folder: str, split: str, skip_broken: bool = False):
    """Reads a zip.

    Args:
      folder: that holds the zips.
      split: 'small1', 'background' and so on, of which
        'small1[alphabets=:4]' and 'small1[drawers=16:]' select a part, and
        'background[alphabets=:25,drawers=:12]' both at once. Parts of the
        alphabets have no character, parts of the drawers no drawing in common.
      skip_broken: whether drawings that cannot be used are left out; a warning
        names them.

    Raises:
      UserError: a file is missing, or is not an image of Omniglot.
    """
    wanted = splits.parse(split, ("alphabets", "drawers"))
    if wanted.name not in ZIPS:
      raise UserError(
        f"split {split!r}: Omniglot has {', '.join(ZIPS)} and {RUNS}"
      )
    path = pathlib.Path(folder) / ZIPS[wanted.name]
    drawings = _list_drawings(path)
    # By name, not as in the zip: the same everywhere.
    self.alphabets = tuple(wanted.part(sorted(drawings), "alphabets"))
    everyone = sorted({key[1] for one in drawings.values() for key in one})
    chosen = set(wanted.part(everyone, "drawers"))
    wanted_drawings = [
      (f"{alphabet}/{character}", group, drawer, name)
      for group, alphabet in enumerate(self.alphabets)
      for (character, drawer), name in sorted(drawings[alphabet].items())
      if drawer in chosen
    ]
    if not wanted_drawings:
      raise UserError(
        f"{path}: split {split!r} selects nothing; there are "
        f"{len(drawings)} alphabets and {len(everyone)} drawers"
      )
    broken = Broken(skip_broken)
    names, ids, pixels = [], [], []
    labels, groups, drawers = [], [], []
    with zips.open_zip(path) as archive:
      for class_name, group, drawer, name in wanted_drawings:
        try:
          bits = _read_bits(archive.read(name), f"{path}/{name}")
        except UserError as error:
          broken.add(error)
          continue
        if not names or names[-1] != class_name:
          names.append(class_name)
        labels.append(len(names) - 1)
        groups.append(group)
        drawers.append(drawer)
        ids.append(name.partition("/")[2].removesuffix(".png"))
        pixels.append(bits)
    broken.warn(path, "drawings", len(pixels))
    self.class_names = tuple(names)
    self.labels = np.array(labels, np.int32)
    self.groups = np.array(groups, np.int32)
    self.drawers = np.array(drawers, np.int32)
    self.ids = tuple(ids)
    self._pixels = np.stack(pixels)
    self.contents = number_equals(bits.tobytes() for bits in pixels)

  def __len__(self) -> int:
    return len(self.labels)

  def __getitem__(self, index: int) -> dict[str, Any]:
    return _example(self, self._pixels[index], index)

  def keys(self) -> list[str]:
    """See `sources.Source`: the zips hold a drawing under the same name."""
    return list(self.ids)


class OneShotRunsSource(IdentitySource):
  """The published one-shot trials: 20 characters, one drawing to know each.

  Every run takes 20 characters of one alphabet and two of its drawers; each
  of the 20 drawings of one is to be found among those of the other (Lake et
  al. 2015; Koch et al. 2015 use the same). 20 runs make 400 trials.

  Attributes:
    class_names: 'run01/class01', by label.
    labels: (n,) int32, which character of which run.
    groups: (n,) int32, the run. Runs are not compared with one another: two
      may hold characters of one alphabet.
    ids: 'run01/training/class01' or 'run01/test/item01'.
    contents: (n,) int32, equal for drawings that are equal.
    episodes: a run each; every query's support is its run's 20 drawings.
  """

  def __init__(self, folder: str, skip_broken: bool = False):
    """Reads all runs of a folder or of its all_runs.zip.

    Args:
      folder: see the layout above.
      skip_broken: whether runs with a file that cannot be used are left out; a
        warning names them.

    Raises:
      UserError: there are none, or one has not its files.
    """
    broken = Broken(skip_broken)
    runs = []
    for run, files in sorted(_read_runs(pathlib.Path(folder)).items()):
      try:
        runs.append(_read_run(run, files))
      except UserError as error:
        broken.add(error)
    broken.warn(folder, "runs", len(runs))
    names, ids, pixels, labels, groups = [], [], [], [], []
    trials = []
    for group, (classes, answers, bits) in enumerate(runs):
      support = len(ids) + np.arange(len(classes))[:, None]
      for name in [*classes, *sorted(answers)]:
        label = classes.index(answers.get(name, name))
        if name in answers:
          trials.append((len(ids), support, label, group))
        ids.append(name)
        labels.append(len(names) + label)
        groups.append(group)
        pixels.append(bits[name])
      names += [name.replace("/training/", "/") for name in classes]
    if len({support.shape for _, support, _, _ in trials}) > 1:
      raise UserError(
        f"{folder}: the one-shot runs differ in their numbers of classes; get "
        f"them again from {HOMEPAGE}"
      )
    self.class_names = tuple(names)
    self.labels = np.array(labels, np.int32)
    self.groups = np.array(groups, np.int32)
    self.ids = tuple(ids)
    self._pixels = np.stack(pixels)
    self.contents = number_equals(bits.tobytes() for bits in pixels)
    self.episodes = Trials(*map(np.array, zip(*trials, strict=True)))

  def __len__(self) -> int:
    return len(self.labels)

  def __getitem__(self, index: int) -> dict[str, Any]:
    return _example(self, self._pixels[index], index)

  def keys(self) -> list[str]:
    """See `sources.Source`: the zips hold a drawing under the same name."""
    return list(self.ids)


def open_omniglot(
  folder: str, split: str, skip_broken: bool = False
) -> OmniglotSource | OneShotRunsSource:
  """The source of a split; 'one_shot_runs' is that of the published trials."""
  if split == RUNS:
    return OneShotRunsSource(folder, skip_broken)
  return OmniglotSource(folder, split, skip_broken)


def _example(
  source: OmniglotSource | OneShotRunsSource, bits: np.ndarray, index: int
) -> dict[str, Any]:
  ink = np.unpackbits(bits, axis=-1, count=SIDE)
  return {
    "image": ink[..., None] * np.uint8(255),
    "label": int(source.labels[index]),
    "group": int(source.groups[index]),
    "id": source.ids[index],
  }


def _read_bits(data: bytes, where: str) -> np.ndarray:
  """A drawing, 1 for ink: (105, 14) uint8 of eight pixels each."""
  try:
    with Image.open(io.BytesIO(data)) as image:
      # Before it is decoded, which could take any memory.
      if image.size == (SIDE, SIDE):
        return np.packbits(~np.asarray(image.convert("1")), axis=-1)
      width, height = image.size
  except Exception as error:  # A decoder raises whatever it stumbles over.
    raise UserError(
      f"{where}: not a readable image ({first_line(error).partition(' <')[0]})"
    ) from error
  raise UserError(
    f"{where}: {height}x{width} pixels, but drawings of Omniglot are "
    f"{SIDE}x{SIDE}"
  )


def _list_drawings(
  path: pathlib.Path,
) -> Mapping[str, dict[tuple[str, int], str]]:
  """Alphabet -> (character, drawer) -> name in the zip."""
  if not path.is_file():
    raise UserError(
      f"{path}: not found; get it from {HOMEPAGE} and name its folder in "
      "config.data.dir"
    )
  drawings: dict[str, dict[tuple[str, int], str]] = {}
  with zips.open_zip(path) as archive:
    names = archive.names
  known: set[str] = set()
  for name in names:
    match = _DRAWING.fullmatch(name)
    if match:
      alphabet, character, _, drawer = match.groups()
      own = drawings.setdefault(alphabet, {})
      other = own.setdefault((character, int(drawer)), name)
      if other != name or name in known:
        raise UserError(
          f"{path}: {other} and {name} are of one character and drawer; keep "
          "one"
        )
      known.add(name)
  if not drawings:
    raise UserError(
      f"{path}: holds no ALPHABET/characterNN/NNNN_DD.png; is it Omniglot's?"
    )
  return drawings


# A file's content, or why it cannot be read, by its name.
_Files = Mapping[str, bytes | UserError]


def _read_runs(folder: pathlib.Path) -> dict[str, dict[str, bytes | UserError]]:
  """Of each run, the content of its files by name (see `_run_files`)."""
  for root in (folder / RUNS, folder):
    for path in (root, root / "all_runs.zip"):
      runs: dict[str, dict[str, bytes | UserError]] = {}
      for name, content in _run_files(path):
        runs.setdefault(name.split("/")[0], {})[name] = content
      if runs:
        return runs
  raise UserError(
    f"{folder}: neither run01, ... nor all_runs.zip, here or in {RUNS}/; get "
    f"all_runs.zip from {HOMEPAGE}/../one-shot-classification"
  )


def _run_files(path: pathlib.Path) -> Iterator[tuple[str, bytes | UserError]]:
  def belongs(name: str) -> bool:
    return _RUN.fullmatch(name.split("/")[0]) is not None

  if path.suffix == ".zip" and path.is_file():
    with zips.open_zip(path) as archive:
      for name in filter(belongs, archive.names):
        try:
          yield name, archive.read(name)
        except UserError as error:
          yield name, error
  elif path.is_dir():
    for run in path.iterdir():
      if belongs(run.name):
        for file in run.rglob("*"):
          if file.is_file():
            yield file.relative_to(path).as_posix(), file.read_bytes()


class _Run(NamedTuple):
  """A run's classes, the class of each query, and all drawings by name."""

  classes: list[str]
  answers: dict[str, str]
  bits: dict[str, np.ndarray]


def _read_run(run: str, files: _Files) -> _Run:
  answers = _answers(files, run)
  classes = sorted(
    name.removesuffix(".png")
    for name in files
    if name.startswith(f"{run}/training/") and name.endswith(".png")
  )
  bits = {
    name: _read_bits(_content(files, f"{name}.png"), f"{name}.png")
    for name in (*classes, *answers)
  }
  return _Run(classes, answers, bits)


def _content(files: _Files, name: str) -> bytes:
  content = files[name]
  if isinstance(content, UserError):
    raise content
  return content


def _answers(files: _Files, run: str) -> dict[str, str]:
  """Query -> its class, as class_labels.txt has them, without '.png'."""
  name = f"{run}/class_labels.txt"
  if name not in files:
    raise UserError(f"{name}: missing; it gives the answers of the trials")
  answers: dict[str, str] = {}
  text = text_files.decode_text(_content(files, name), name)
  for number, line in enumerate(text.split("\n"), 1):
    if not line.strip():
      continue
    words = line.split()
    if len(words) != 2 or not words[1].startswith(f"{run}/training/"):
      raise UserError(
        f"{name}, line {number}: expected a query and its class, such as "
        f"'{run}/test/item01.png {run}/training/class08.png'"
      )
    for word in words:
      if word not in files or not word.endswith(".png"):
        raise UserError(f"{name}, line {number}: {word} is missing")
    query, answer = (word.removesuffix(".png") for word in words)
    if query.startswith(f"{run}/training/"):
      raise UserError(f"{name}, line {number}: {words[0]} is not a query")
    if answers.setdefault(query, answer) != answer:
      raise UserError(
        f"{name}, line {number}: {words[0]} has another class above"
      )
  if not answers:
    raise UserError(f"{name}: empty; it gives the answers of the trials")
  return answers
