"""Sources of identities by name."""

from collections.abc import Callable

import numpy as np

from segsiam_jax.data import (
  cedar,
  documents,
  identity_adapters,
  image_files,
  lfw,
  omniglot,
  pair_list,
)
from segsiam_jax.data.identities import IdentitySource

# (folder, split, whether to leave out what is broken) -> source.
READERS: dict[str, Callable[[str, str, bool], IdentitySource]] = {
  "omniglot": omniglot.open_omniglot,
  "lfw": lfw.open_lfw,
  "cedar": cedar.open_cedar,
  "folder": image_files.open_identity_folder,
  "pages": documents.PagesSource,
  "pairs": pair_list.open_pair_list,
}


# What a reader of ours makes of a file's image; others take it as it is.
TO_IMAGE: dict[str, Callable[[np.ndarray], np.ndarray]] = {
  "omniglot": identity_adapters.white_ink,
  "cedar": cedar.ink,
}


def as_in(name: str, image: np.ndarray) -> np.ndarray:
  """A file's image, (H, W, C) uint8, as an example of a data set has it."""
  if name in identity_adapters.IDENTITIES:
    return identity_adapters.IDENTITIES[name].to_image(image)
  return TO_IMAGE.get(name, image_files.as_it_is)(image)


def open_identities(
  name: str, split: str, data_dir: str = "", skip_broken: bool = False
) -> IdentitySource:
  """The source called `name`.

  Args:
    name: a key of `READERS` or of `identity_adapters.IDENTITIES`.
    split: see the reader.
    data_dir: its folder, or where TFDS keeps its data ('' for its default).
    skip_broken: of a key of `READERS`: whether examples that cannot be used are
      left out; a warning names them.

  Raises:
    UserError: something is missing or wrong with the data.
  """
  if name in READERS:
    return READERS[name](data_dir, split, skip_broken)
  return identity_adapters.TfdsIdentities(name, split, data_dir or None)
