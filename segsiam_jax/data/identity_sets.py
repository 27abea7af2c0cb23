"""Sources of identities by name."""

from collections.abc import Callable

from segsiam_jax.data import (
  cedar,
  documents,
  image_files,
  lfw,
  omniglot,
  pair_list,
)
from segsiam_jax.data.identities import IdentitySource
from segsiam_jax.data.identity_adapters import TfdsIdentities

# (folder, split) -> source.
READERS: dict[str, Callable[[str, str], IdentitySource]] = {
  "omniglot": omniglot.open_omniglot,
  "lfw": lfw.open_lfw,
  "cedar": cedar.open_cedar,
  "folder": image_files.open_identity_folder,
  "pages": documents.PagesSource,
  "pairs": pair_list.open_pair_list,
}


def open_identities(
  name: str, split: str, data_dir: str = ""
) -> IdentitySource:
  """The source called `name`.

  Args:
    name: a key of `READERS` or of `identity_adapters.IDENTITIES`.
    split: see the reader.
    data_dir: its folder, or where TFDS keeps its data ('' for its default).

  Raises:
    UserError: something is missing or wrong with the data.
  """
  if name in READERS:
    return READERS[name](data_dir, split)
  return TfdsIdentities(name, split, data_dir or None)
