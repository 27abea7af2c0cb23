"""Pascal VOC, as its archives unpack: `config.data.dir` is `.../VOC2012`.

    ImageSets/Segmentation/{train,val,trainval}.txt   names, one a line
    JPEGImages/NAME.jpg
    SegmentationClass/NAME.png                        palette; 255 is void

The extra masks of SBD, converted to such PNGs, may lie in `SegmentationClass`
too, with a list of their own, such as `trainaug.txt`.
"""

import pathlib

from segsiam_jax.data import splits
from segsiam_jax.data.broken import Broken
from segsiam_jax.data.semantic.sources import FolderOptions, FolderSource
from segsiam_jax.errors import UserError
from segsiam_jax.files import text_files

CLASSES = (
  *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus"),
  *("car", "cat", "chair", "cow", "diningtable", "dog", "horse"),
  *("motorbike", "person", "pottedplant", "sheep", "sofa", "train"),
  "tvmonitor",
)


class VocSource(FolderSource):
  """A split by the list of its names; see `FolderSource`."""

  def _pairs(
    self, root: str, split: str, broken: Broken
  ) -> list[tuple[pathlib.Path, pathlib.Path]]:
    wanted = splits.parse(split)
    folder = pathlib.Path(root)
    lists = folder / "ImageSets" / "Segmentation"
    if not lists.is_dir():
      raise UserError(
        f"{lists}: no such folder; set config.data.dir to the folder of one "
        "year, such as VOCdevkit/VOC2012"
      )
    names = lists / f"{wanted.name}.txt"
    if not names.is_file():
      known = sorted(path.stem for path in lists.glob("*.txt"))
      raise UserError(
        f"{names}: no such split; there are {', '.join(known) or 'none'}"
      )
    pairs = []
    for name in wanted.part(text_files.read_text(names).split()):
      pair = (
        folder / "JPEGImages" / f"{name}.jpg",
        folder / "SegmentationClass" / f"{name}.png",
      )
      missing = [path for path in pair if not path.is_file()]
      if missing:
        broken.add(f"{missing[0]}: no such file, but {names} lists {name!r}")
      else:
        pairs.append(pair)
    if not pairs and not broken.count:
      raise UserError(f"{names}: split {split!r} selects no images")
    return pairs


def open_voc(folder: str, split: str, skip_broken: bool) -> VocSource:
  """A split such as 'train', 'val' or 'train[:10%]'.

  Args:
    folder: of one year.
    split: a list of `ImageSets/Segmentation`, or a part of it.
    skip_broken: whether pairs that cannot be used are left out.

  Raises:
    UserError: something is missing or wrong with the data.
  """
  options = FolderOptions(CLASSES, skip_broken=skip_broken)
  return VocSource(folder, split, options)
