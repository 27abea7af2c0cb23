"""Sources of identities by name."""

import numpy as np

from segsiam_jax import parts
from segsiam_jax.data.identity import image_files, tfds_identities
from segsiam_jax.data.identity.identities import IdentitySource
from segsiam_jax.fields.data_sets import IDENTITIES


def as_in(name: str, image: np.ndarray) -> np.ndarray:
  """A file's image, (H, W, C) uint8, as an example of a data set has it."""
  if name in tfds_identities.IDENTITIES:
    return tfds_identities.IDENTITIES[name].to_image(image)
  reference = IDENTITIES[name].to_image
  to_image = parts.load(reference) if reference else image_files.as_it_is
  return to_image(image)


def open_identities(
  name: str, split: str, data_dir: str = "", skip_broken: bool = False
) -> IdentitySource:
  """The source called `name`.

  Args:
    name: a key of `data_sets.IDENTITIES`.
    split: see the reader.
    data_dir: its folder, or where TFDS keeps its data ('' for its default).
    skip_broken: whether examples that cannot be used are left out; a warning
      names them. Of TFDS none are.

  Raises:
    UserError: something is missing or wrong with the data.
  """
  reader = IDENTITIES[name].open
  if reader:
    return parts.load(reader)(data_dir, split, skip_broken)
  return tfds_identities.TfdsIdentities(name, split, data_dir or None)
