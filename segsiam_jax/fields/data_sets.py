"""The tables of data sets, one of each task."""

from typing import NamedTuple


class DataSet(NamedTuple):
  """A data set, as `data.name` names it.

  Attributes:
    open: a reference (see `parts.load`) to what reads a split of it:
      (folder, split, skip_broken) -> `data.sources.Source`; '' for a set of
      TFDS, which has an adapter of the same name.
    folder: whether `data.dir` must name its folder.
    to_image: of identities: a reference to what makes of a file's image,
      (H, W, C) uint8, an image as the reader has it; '' for the same.
    masks: of objects: whether they have masks, or boxes only.
    classes: how many there are, or identities to train on; 0 if it depends.
  """

  open: str = ""
  folder: bool = False
  to_image: str = ""
  masks: bool = True
  classes: int = 0


_DATA = "segsiam_jax.data"

SEMANTIC: dict[str, DataSet] = {
  "digit_scenes/trimap": DataSet(classes=3),
  "digit_scenes/classes": DataSet(classes=11),
  "oxford_iiit_pet": DataSet(classes=3),
  "cityscapes": DataSet(classes=19),
  "caltech_birds2011": DataSet(classes=2),
  "voc": DataSet(f"{_DATA}.semantic.voc:open_voc", True, classes=21),
  # Its other options are fields, see `inputs.semantic`.
  "folder": DataSet(folder=True),
}

INSTANCE: dict[str, DataSet] = {
  "digit_scenes/classes": DataSet(classes=10),
  "digit_scenes/crowds": DataSet(classes=10),
  # Their other options are fields, see `inputs.instance`.
  "folder": DataSet(folder=True),
  "coco": DataSet(folder=True, classes=80),
  "lvis": DataSet(classes=1203),
  "coco/2017": DataSet(masks=False, classes=80),
}

IDENTITIES: dict[str, DataSet] = {
  "digits": DataSet(),
  "folder": DataSet(f"{_DATA}.identity.image_files:open_identity_folder", True),
  "pairs": DataSet(f"{_DATA}.identity.pair_list:open_pair_list", True),
  "omniglot": DataSet(
    f"{_DATA}.identity.omniglot:open_omniglot",
    folder=True,
    to_image=f"{_DATA}.identity.tfds_identities:white_ink",
  ),
  "lfw": DataSet(f"{_DATA}.identity.lfw:open_lfw", True),
  "cedar": DataSet(
    f"{_DATA}.identity.cedar:open_cedar",
    folder=True,
    to_image=f"{_DATA}.identity.cedar:ink",
  ),
  "documents": DataSet(),
  "pages": DataSet(f"{_DATA}.identity.documents:PagesSource", True),
  "tfds:omniglot": DataSet(),
  "tfds:lfw": DataSet(),
  "celeb_a": DataSet(),
  "caltech_birds2011": DataSet(),
  "patch_camelyon": DataSet(),
  "colorectal_histology": DataSet(),
  "curated_breast_imaging_ddsm/original-calc": DataSet(),
  "curated_breast_imaging_ddsm/original-mass": DataSet(),
  "huggingface:rvl_cdip": DataSet(),
}

# Whose files are a user's own, so that some may be broken.
OF_FILES = tuple(
  dict.fromkeys(
    name
    for table in (SEMANTIC, INSTANCE, IDENTITIES)
    for name, each in table.items()
    if each.folder
  )
)
