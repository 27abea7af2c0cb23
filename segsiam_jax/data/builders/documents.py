"""Pages of documents, each with two scans and two photographs of it.

The task is to match a scan or a photograph to its page among others, some of
which share its letterhead and layout. Pages are drawn (`builders.pages`) and
degraded (`builders.scans`) here, without a download.
"""

from collections.abc import Iterator

import numpy as np
import tensorflow_datasets as tfds

from segsiam_jax.data.builders import digits, pages, scans

# Families by split; none is in two, and no page has another's words.
FAMILIES = {"train": 100, "validation": 20, "test": 50}
PAGES = 4
KINDS = ("original", "scan", "photograph")
COPIES = 2
_SEED = 20


def make_family(split: str, family: int) -> Iterator[dict]:
  """The examples of a family, as the builder's features."""
  seed = (_SEED, sorted(FAMILIES).index(split), family)
  style = pages.draw_style(np.random.default_rng(seed))
  for number in range(PAGES):
    page = family * PAGES + number
    rng = np.random.default_rng((*seed, number))
    original = pages.draw_page(style, rng)
    files = [("original", digits.png(original))]
    for degrade, kind in (
      (scans.scan, "scan"),
      (scans.photograph, "photograph"),
    ):
      files += [(kind, degrade(original, rng)) for _ in range(COPIES)]
    for place, (kind, image) in enumerate(files):
      yield {
        "image": image,
        "page": page,
        "family": family,
        "kind": kind,
        "id": f"{split}/{page:04d}/{kind}{place}",
      }


class Documents(tfds.core.GeneratorBasedBuilder):
  """Pages with their scans and photographs.

  Features: `image` (320, 226, 1) uint8, `page` which is shown, its `family`,
  its `kind` and an `id`.
  """

  VERSION = tfds.core.Version("1.0.0")

  def _info(self) -> tfds.core.DatasetInfo:
    return tfds.core.DatasetInfo(
      builder=self,
      description=__doc__,
      features=tfds.features.FeaturesDict(
        {
          "image": tfds.features.Image(shape=(pages.HEIGHT, pages.WIDTH, 1)),
          "page": np.int32,
          "family": np.int32,
          "kind": tfds.features.ClassLabel(names=KINDS),
          "id": tfds.features.Text(),
        }
      ),
      disable_shuffling=True,
    )

  def _split_generators(self, dl_manager):
    del dl_manager
    return {
      split: self._generate_examples(split, count)
      for split, count in FAMILIES.items()
    }

  def _generate_examples(self, split: str, count: int) -> Iterator:
    number = 0
    for family in range(count):
      for example in make_family(split, family):
        yield number, example
        number += 1
